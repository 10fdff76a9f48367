"""From a verified pair to an engine: as planned by ``checkpoints``, with the tokens that bound a thought."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dami_agent.checkpoints.plan import Plan, plan
from dami_agent.runtime.thought import ThoughtMarkers
from dami_agent.types import EngineInfo
from dami_agent.weights import Weights, load_weights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from dami_agent.checkpoints import CheckpointPair
    from dami_agent.runtime.engine import LocalEngine

__all__ = ["find_markers", "open_engine"]

# Of a device's free memory, what a plan leaves alone (as in checkpoints.memory).
_USABLE = 0.9


def open_engine(
    engine_class: type[LocalEngine],
    pair: CheckpointPair,
    *,
    device: str = "auto",
    dtype: str = "auto",
    mode: str = "auto",
    context_length: int | None = None,
    max_batch_tokens: int | None = None,
    **options: Any,
) -> LocalEngine:
    """Plan, load the tokenizer, and make an engine that loads the weights when they are first needed.

    Args:
        engine_class: ``LocalEngine`` or a subclass.
        pair: verified.
        device, dtype, mode, context_length: wishes, or ``auto`` and None; see :func:`dami_agent.checkpoints.plan`.
            The reasons for what was chosen are in ``engine.info.reasons``.
        max_batch_tokens: cache positions in use above which no further request is admitted; None: what the
            memory left by the weights holds.
        options: of :class:`LocalEngine` (``max_batch_size``, ``max_queue``, ``loop_rule``).

    Raises:
        UsageError: a wish that cannot be.
        InsufficientMemory: nothing fits.
    """
    chosen = plan(pair, device=device, dtype=dtype, mode=mode, context_length=context_length)
    tokenizer = pair.instruct.tokenizer()
    return engine_class(
        lambda: _load(pair, chosen),
        tokenizer,
        info=_info(pair, chosen),
        markers=find_markers(tokenizer),
        eos_token_ids=pair.eos_token_ids,
        generation_defaults={
            "instruct": pair.instruct.generation_config,
            "thinking": pair.thinking.generation_config,
        },
        max_batch_tokens=_cache_positions(chosen) if max_batch_tokens is None else max_batch_tokens,
        **options,
    )


def _load(pair: CheckpointPair, chosen: Plan) -> Weights:
    return load_weights(
        pair.instruct.path,
        pair.thinking.path,
        mode=chosen.mode,
        device=chosen.device,
        dtype=chosen.dtype,
        device_map=chosen.device_map,
    )


def _info(pair: CheckpointPair, chosen: Plan) -> EngineInfo:
    return EngineInfo(
        model=pair.name,
        fingerprint=pair.fingerprint,
        context_length=chosen.context_length,
        vocab_size=int(pair.model_config().get_text_config().vocab_size),
        weights_mode=chosen.mode,
        device=chosen.device,
        dtype=chosen.dtype,
        reasons=dict(chosen.reasons),
    )


def find_markers(tokenizer: PreTrainedTokenizerBase) -> ThoughtMarkers:
    """The single tokens of the vocabulary around a thought; None for each that it lacks."""
    vocabulary = tokenizer.get_vocab()
    return ThoughtMarkers(
        open_id=vocabulary.get("<think>"),
        close_id=vocabulary.get("</think>"),
        tool_call_id=vocabulary.get("<tool_call>"),
        after_close_ids=tuple(tokenizer.encode("\n\n", add_special_tokens=False)),
    )


def _cache_positions(chosen: Plan) -> int:
    """How many tokens' keys and values fit beside the weights; never less than one full context."""
    taken = chosen.needs[chosen.mode].resident + chosen.activation_bytes
    devices = set(chosen.device_map.values()) if chosen.device_map else {chosen.device}
    names = {f"cuda:{d}" if isinstance(d, int) else str(d) for d in devices}
    free = sum(chosen.available[name] for name in names if name in chosen.available)
    return max(chosen.context_length, int((free * _USABLE - taken) / max(1, chosen.kv_bytes_per_token)))
