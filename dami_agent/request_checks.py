"""Refuse requests that no engine can serve, before work on them begins; for engines of other packages too."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from dami_agent.errors import ContextOverflow, InvalidIntensity, InvalidRequest, shown
from dami_agent.types import Engine, EngineInfo, Limits, ModuleIntensity, Prompt, StateReader, require_one
from dami_agent.types.intensity import USE_MERGED

__all__ = ["check_fits", "check_intensity", "check_limits", "check_request", "check_tokens", "reader_of_states"]


def check_request(prompt: Prompt, limits: Limits, info: EngineInfo) -> int:
    """Check prompt and limits against an engine's vocabulary and window, and return the most tokens it may write.

    Raises:
        InvalidRequest: a limit out of its range, a prompt without tokens or with tokens of another vocabulary.
        ContextOverflow: prompt and reply do not fit the context window.
    """
    check_limits(limits)
    check_tokens("prompt", prompt.token_ids, info)
    check_tokens("reply_ids", prompt.reply_ids, info, empty=True)
    used = len(prompt.token_ids)
    check_fits(used, limits.max_tokens or len(prompt.reply_ids) + 1, info)
    room = info.context_length - used
    return min(limits.max_tokens or room, room)


def check_limits(limits: Limits) -> None:
    """Check that counts are whole numbers in their ranges, stop strings texts, and the timeout a number of seconds.

    Raises:
        InvalidRequest: one of them is not.
    """
    for name, low in (("max_tokens", 1), ("max_reasoning_tokens", 0), ("answer_reserve", 0)):
        value = getattr(limits, name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < low):
            raise InvalidRequest(f"{name} must be a whole number of at least {low}, got {shown(value)}")
    if any(not isinstance(s, str) or not s for s in limits.stop):
        raise InvalidRequest(f"stop strings must be non-empty texts, got {limits.stop!r}")
    timeout = limits.timeout
    if timeout is not None and (not isinstance(timeout, (int, float)) or not 0 <= timeout <= threading.TIMEOUT_MAX):
        raise InvalidRequest(
            f"timeout must be a number of seconds in [0, {threading.TIMEOUT_MAX:g}], got {shown(timeout)}",
            hint="leave it out for none",
        )


def check_intensity(intensity: object, info: EngineInfo) -> None:
    """Check that an engine can run λ: one per module needs an engine that says so, and layers that the model has.

    Args:
        intensity: λ; what is none of ours (None, ``"auto"``) is not looked at.
        info: of the engine; 0 ``layers`` are not known and not checked.

    Raises:
        InvalidIntensity: it cannot.
    """
    if not isinstance(intensity, ModuleIntensity):
        return
    if not info.module_intensities:
        engine = f"the engine of {info.model}, with {info.weights_mode} weights,"
        require_one(intensity, f"{engine} runs a request at", USE_MERGED)
    for part in intensity.parts if info.layers else ():
        named = part.first if part.last is None else part.last
        if named is not None and named >= info.layers:
            raise InvalidIntensity(
                f"reasoning intensity {intensity}: {part.place} is about layers that {info.model} does not have",
                hint=f"its layers are 0 to {info.layers - 1}",
            )


def check_tokens(what: str, tokens: Sequence[int], info: EngineInfo, *, empty: bool = False) -> None:
    """Check that ``tokens`` are ids of the engine's vocabulary.

    Args:
        what: names them in the error.
        tokens: any sequence.
        info: of the engine; a ``vocab_size`` of 0 is not known and not checked.
        empty: allow none.

    Raises:
        InvalidRequest: there are none, or one is not in the vocabulary.
    """
    if not tokens and not empty:
        raise InvalidRequest(f"the {what} has no tokens")
    size = info.vocab_size or 2**63
    for token in tokens:
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < size:
            raise InvalidRequest(
                f"the {what} holds {shown(token)}, which is not in the vocabulary of {size}",
                hint="render it with this pair's tokenizer",
            )


def check_fits(used: int, wanted: int, info: EngineInfo) -> None:
    """Check that ``wanted`` more tokens fit the context window after ``used`` ones.

    Raises:
        ContextOverflow: they do not.
    """
    if used + wanted > info.context_length:
        raise ContextOverflow(
            f"{used} prompt tokens and {wanted} more do not fit the context window of {info.context_length} tokens",
            hint="shorten the messages, lower max_tokens, or open the engine with a larger context_length",
        )


def reader_of_states(engine: Engine) -> StateReader:
    """Return the engine as one that gives hidden states.

    Raises:
        InvalidRequest: it gives none.
    """
    if not isinstance(engine, StateReader):
        raise InvalidRequest(
            f"the engine of {engine.info.model} gives no hidden states of a prompt",
            hint="use engine='local', or an estimator that needs none: 'confidence'",
        )
    return engine
