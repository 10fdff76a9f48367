"""Open a pair as a vLLM engine in this process: what ``ChatDAMI(engine="vllm")`` runs on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from dami_agent.checkpoints.memory import gigabytes, shapes_of
from dami_agent.errors import RunError, UsageError
from dami_agent.integrations.vllm.plugin import register
from dami_agent.integrations.vllm.settings import check_installed, engine_arguments_of
from dami_agent.integrations.vllm.step_loop import StepLoop
from dami_agent.runtime.factory import decoding_arguments
from dami_agent.runtime.failures import describe
from dami_agent.runtime.queued_engine import QueuedEngine
from dami_agent.runtime.repetition import LoopRule
from dami_agent.runtime.sequence_builder import SequenceBuilder
from dami_agent.types import EngineInfo

if TYPE_CHECKING:
    from vllm.v1.engine.llm_engine import LLMEngine

    from dami_agent.checkpoints import CheckpointPair

__all__ = ["VllmEngine"]

MAX_QUEUE = 4096
"""Requests waiting for the thread that hands them to vLLM; those that vLLM has are not counted."""


class VllmEngine(QueuedEngine):
    """Implements :class:`dami_agent.types.Engine` by vLLM: many requests in one batch, each at its own λ.

    Both checkpoints' weights are held, so a token costs about two models' matmuls, however many λs there are. The last
    word on what may be drawn is the same as the local engine's: caps of thoughts, closing words, stop strings and
    grammars act alike. Random streams do not: equal seeds draw equal tokens here, but others than there.

    Attributes:
        loop: the thread that owns vLLM.
    """

    def __init__(self, info: EngineInfo, builder: SequenceBuilder, loop: StepLoop) -> None:
        super().__init__(info, builder, loop)
        self.loop = loop

    @classmethod
    def open(
        cls,
        pair: CheckpointPair,
        *,
        device: str = "auto",
        dtype: str = "auto",
        mode: str = "auto",
        context_length: int | None = None,
        max_batch_size: int | None = None,
        closing_words: str | None = None,
        loop_rule: LoopRule | None = LoopRule(),  # noqa: B008  (frozen)
        **engine_arguments: Any,
    ) -> Self:
        """Start vLLM for a verified pair and load both checkpoints: tens of seconds.

        Args:
            pair: verified.
            device: ``auto``, or what vLLM was built for: its device is no choice of one engine.
            dtype: ``float32``, ``bfloat16``, ``float16`` or ``auto``.
            mode: ``mixed`` or ``auto``.
            context_length: tokens of prompt and reply together; None: as many as the checkpoints state and, on a GPU,
                fit the memory.
            max_batch_size: requests decoded together; None: vLLM's own.
            closing_words: what is written before the close marker of a thought that is cut short; None: the pair's own.
            loop_rule: when a repetition counts as run away; None never.
            engine_arguments: further ones of ``vllm.EngineArgs``: ``tensor_parallel_size``, ``gpu_memory_utilization``,
                ``enforce_eager``…

        Raises:
            UsageError: vLLM is not installed, or a setting cannot be honoured.
            UnsupportedCheckpoint: no form of this architecture holds two endpoints.
        """
        check_installed()
        arguments = engine_arguments_of(
            pair, device=device, dtype=dtype, mode=mode, context_length=context_length, max_batch_size=max_batch_size,
            given=engine_arguments,
        )  # fmt: skip
        started: list[Any] = []

        def start() -> LLMEngine:
            started.append(_start(arguments))
            return started[0]

        loop = StepLoop(start, MAX_QUEUE)
        try:
            loop.queue.add_load().result()
        except RunError as error:
            raise UsageError(
                f"vLLM did not start: {describe(error.__cause__ or error)}",
                hint="its log says more; VllmEngine.open takes further arguments of vllm.EngineArgs",
            ) from error.__cause__
        info = _info(pair, started.pop().vllm_config)
        builder = SequenceBuilder(info=info, loop_rule=loop_rule, **decoding_arguments(pair, closing_words))
        return cls(info, builder, loop)


def _start(arguments: Mapping[str, Any]) -> LLMEngine:
    """Start vLLM in this thread: on a CPU its threads are bound to the one that starts it."""
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine

    register()
    return LLMEngine.from_engine_args(EngineArgs(**arguments))


def _info(pair: CheckpointPair, config: Any) -> EngineInfo:
    """Say what vLLM has chosen."""
    text = pair.model_config().get_text_config()
    model, dtype = config.model_config, str(config.model_config.dtype).removeprefix("torch.")
    weights = gigabytes(2 * shapes_of(pair).weights(dtype))
    return EngineInfo(
        model=pair.name,
        fingerprint=pair.fingerprint,
        context_length=int(model.max_model_len) - 1,
        vocab_size=int(text.vocab_size),
        weights_mode="mixed",
        device=str(config.device_config.device_type),
        dtype=dtype,
        reasons={"mode": f"vLLM holds both endpoints, {weights} of weights"},
        masks_markers=True,
        layers=int(text.num_hidden_layers),
    )
