"""Serve many requests at any λ at once, token ids in and token ids out; nothing here knows a message."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from dami_agent.errors import InvalidRequest
from dami_agent.request_checks import check_fits, check_intensity, check_tokens
from dami_agent.runtime.factory import engine_arguments
from dami_agent.runtime.hidden_ids import ids_without_text
from dami_agent.runtime.queued_engine import QueuedEngine
from dami_agent.runtime.repetition import LoopRule
from dami_agent.runtime.sequence_builder import SequenceBuilder
from dami_agent.runtime.states import StatesRequest
from dami_agent.runtime.thought import ThoughtMarkers
from dami_agent.runtime.worker import Capacity, Worker
from dami_agent.types import EngineInfo, Intensity, Prompt, Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from dami_agent.checkpoints import CheckpointPair
    from dami_agent.weights import Weights

__all__ = ["LocalEngine"]

PREFIX_TOKENS = 32_768
"""Cache positions that ended requests may keep: a few dozen agents' conversations."""


class LocalEngine(QueuedEngine):
    """Implements :class:`dami_agent.types.Engine` on this machine's CPU or GPU.

    Making one is cheap: the weights are loaded by the first request, or by :meth:`load`.

    Args:
        weights: the weights, or what loads them; given to this engine alone.
        tokenizer: for stop strings and grammars.
        info: what this engine runs on; ``context_length`` and ``vocab_size`` are held to.
        markers: control tokens around a thought.
        eos_token_ids: end-of-sequence tokens of both checkpoints.
        generation_defaults: ``generation_config`` of the Instruct (λ = 0) and the Thinking checkpoint (λ > 0).
        max_batch_size: requests decoded at once.
        max_batch_tokens: no further request is admitted above so many cache positions; None: no bound.
        prefix_tokens: cache positions of ended requests that are kept, while there is room, for prompts that begin
            alike at the same λ; 0 keeps none.
        max_queue: requests waiting before ``EngineBusy``.
        loop_rule: when a repetition counts as run away (thought closed, or answer cut with ``length``); None never.
    """

    def __init__(
        self,
        weights: Weights | Callable[[], Weights],
        tokenizer: PreTrainedTokenizerBase,
        *,
        info: EngineInfo,
        markers: ThoughtMarkers,
        eos_token_ids: Collection[int],
        generation_defaults: Mapping[Template, Mapping[str, Any]],
        max_batch_size: int = 32,
        max_batch_tokens: int | None = None,
        prefix_tokens: int = PREFIX_TOKENS,
        max_queue: int = 1024,
        loop_rule: LoopRule | None = LoopRule(),  # noqa: B008  (frozen)
    ) -> None:
        builder = SequenceBuilder(
            tokenizer,
            info=info,
            markers=markers,
            eos_token_ids=eos_token_ids,
            generation_defaults=generation_defaults,
            loop_rule=loop_rule,
        )
        load = weights if callable(weights) else lambda: weights
        capacity = Capacity(
            rows=max_batch_size, cache_tokens=max_batch_tokens, prefix_tokens=prefix_tokens, queue=max_queue
        )
        hidden = ids_without_text(tokenizer, info.vocab_size, keep=builder.eos_ids)
        self.worker = Worker(load, capacity, hidden)
        super().__init__(info, builder, self.worker)

    @classmethod
    def open(cls, pair: CheckpointPair, **options: Any) -> Self:
        """Make an engine for a verified pair.

        Args:
            pair: verified.
            options: see :func:`dami_agent.runtime.factory.engine_arguments`, which says what is raised too.
        """
        return cls(**engine_arguments(pair, **options))

    def hidden_states(
        self, prompt: Prompt, intensity: Intensity, layers: Sequence[int]
    ) -> tuple[tuple[float, ...], ...]:
        """Return the pooled hidden states of ``prompt`` at λ; see :class:`dami_agent.types.StateReader`.

        What is computed of the prompt is kept for a reply at the same λ.

        Raises:
            InvalidRequest, ContextOverflow, EngineBusy, EngineClosed: as :meth:`submit`.
        """
        self._check_process()
        check_intensity(intensity, self._info)
        check_tokens("prompt", prompt.token_ids, self._info)
        check_fits(len(prompt.token_ids), 1, self._info)
        if not layers or not all(type(layer) is int and layer >= 0 for layer in layers):
            raise InvalidRequest(f"layers must be whole numbers from 0 on, at least one, got {list(layers)}")
        states: tuple[tuple[float, ...], ...] = self._read(
            StatesRequest(context=prompt.token_ids, layers=tuple(layers), intensity=Intensity(intensity))
        )
        return states
