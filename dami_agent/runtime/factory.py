"""Derive an engine's constructor arguments from a verified pair: weights, device plan, thought markers, defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dami_agent.checkpoints.memory import RESERVE
from dami_agent.checkpoints.plan import Plan, plan
from dami_agent.errors import InvalidRequest
from dami_agent.runtime.thought import ThoughtMarkers
from dami_agent.types import EngineInfo
from dami_agent.weights import Weights, load_weights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from dami_agent.checkpoints import CheckpointPair

__all__ = ["closing_words_of", "decoding_arguments", "engine_arguments", "find_markers"]

CLOSING_WORDS_KEY = "thought_closing_words"
"""Of a Thinking checkpoint's ``generation_config.json``: the words of this pair."""

_PLAIN_CLOSE = "\n"
"""What stands before the close marker of a thought in every supported chat template."""

_OF_FAMILY = {
    "qwen3": "\n\nConsidering the limited time by the user, I have to give the solution based on the thinking directly "
    "now.\n",
}
"""By the beginning of the model type: what the family itself closes with (Qwen3's technical report, section 4.3)."""


def engine_arguments(
    pair: CheckpointPair,
    *,
    device: str = "auto",
    dtype: str = "auto",
    mode: str = "auto",
    context_length: int | None = None,
    max_batch_tokens: int | None = None,
    closing_words: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Plan, load the tokenizer, and return what ``LocalEngine`` is made with; weights are loaded on first use.

    Args:
        pair: verified.
        device, dtype, mode, context_length: explicit settings, or ``auto`` and None; see
            :func:`dami_agent.checkpoints.plan`. The reasons for what was chosen are in ``engine.info.reasons``.
        max_batch_tokens: cache positions in use above which no further request is admitted; None: what the
            memory left by the weights holds.
        closing_words: what the engine writes before the close marker of a thought that is cut short; None: what the
            Thinking checkpoint's ``generation_config.json`` says as ``thought_closing_words``, else the family's own.
        options: of :class:`LocalEngine` (``max_batch_size``, ``max_queue``, ``loop_rule``).

    Raises:
        UsageError: an explicit setting that cannot be honoured.
        InvalidRequest: closing words that hold a control token.
        InsufficientMemory: nothing fits.
    """
    chosen = plan(pair, device=device, dtype=dtype, mode=mode, context_length=context_length)
    return {
        **options,
        **decoding_arguments(pair, closing_words),
        "weights": lambda: _load(pair, chosen),
        "info": _info(pair, chosen),
        "max_batch_tokens": _cache_positions(chosen) if max_batch_tokens is None else max_batch_tokens,
    }


def decoding_arguments(pair: CheckpointPair, closing_words: str | None) -> dict[str, Any]:
    """Load the tokenizer, and return what every engine of a pair decodes by, as ``SequenceBuilder`` takes it.

    Args:
        pair: verified.
        closing_words: see :func:`engine_arguments`.

    Raises:
        InvalidRequest: closing words that hold a control token.
    """
    tokenizer = pair.instruct.tokenizer()
    return {
        "tokenizer": tokenizer,
        "markers": find_markers(tokenizer, closing_words_of(pair) if closing_words is None else closing_words),
        "eos_token_ids": pair.eos_token_ids,
        "generation_defaults": {
            "instruct": pair.instruct.generation_config,
            "thinking": pair.thinking.generation_config,
        },
    }


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
    config = pair.model_config().get_text_config()
    return EngineInfo(
        model=pair.name,
        fingerprint=pair.fingerprint,
        context_length=chosen.context_length,
        vocab_size=int(config.vocab_size),
        weights_mode=chosen.mode,
        device=chosen.device,
        dtype=chosen.dtype,
        reasons=dict(chosen.reasons),
        masks_markers=True,
        layers=int(config.num_hidden_layers),
        module_intensities=chosen.mode == "merged",
    )


def find_markers(tokenizer: PreTrainedTokenizerBase, closing_words: str = _PLAIN_CLOSE) -> ThoughtMarkers:
    """Find the vocabulary's single tokens around a thought (None for each it lacks), and how a thought is closed.

    Raises:
        InvalidRequest: the closing words hold a control token.
    """
    vocabulary = tokenizer.get_vocab()

    def ids(text: str) -> tuple[int, ...]:
        return tuple(tokenizer.encode(text, add_special_tokens=False)) if text else ()

    markers = [vocabulary.get(text) for text in ("<think>", "</think>", "<tool_call>")]
    words = ids(closing_words)
    control = [token for token in words if token in (*markers, *tokenizer.all_special_ids)]
    if control:
        raise InvalidRequest(
            f"the closing words {closing_words!r} hold the control token "
            f"{tokenizer.convert_ids_to_tokens(control)[0]!r}",
            hint="give the text alone; the close marker is written after it",
        )
    return ThoughtMarkers(
        open_id=markers[0],
        close_id=markers[1],
        tool_call_id=markers[2],
        after_close_ids=ids("\n\n"),
        before_close_ids=words,
        plain_close_ids=ids(_PLAIN_CLOSE),
    )


def closing_words_of(pair: CheckpointPair) -> str:
    """Return the pair's own closing words, else its family's, else none but the template's newline."""
    own = pair.thinking.generation_config.get(CLOSING_WORDS_KEY)
    if isinstance(own, str):
        return own
    family = str(pair.model_config().get_text_config().model_type)
    return next((words for name, words in _OF_FAMILY.items() if family.startswith(name)), _PLAIN_CLOSE)


def _cache_positions(chosen: Plan) -> int:
    """Return how many tokens' keys and values fit beside the weights; never less than one full context."""
    taken = chosen.needs[chosen.mode].resident + chosen.activation_bytes
    devices = set(chosen.device_map.values()) if chosen.device_map else {chosen.device}
    names = {f"cuda:{d}" if isinstance(d, int) else str(d) for d in devices}
    free = sum(chosen.available[name] for name in names if name in chosen.available)
    return max(chosen.context_length, int((free * (1 - RESERVE) - taken) / max(1, chosen.kv_bytes_per_token)))
