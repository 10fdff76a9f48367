"""Count what an attempt used and price it: the one price that the policy's budgets and the ledger count by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from dami_agent.errors import UsageError

PER = 1_000_000
"""Tokens that a price is for."""

_MOST = 1e15  # what a run costs stays a finite number


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Counts what one attempt used.

    Attributes:
        tokens: decoded: thought, answer, and all that was discarded.
        reasoning_tokens: of these, in thoughts, without the thoughts' markers.
        prompt_tokens: read: the prompt's, and those of a discarded probe.
        cached_tokens: of these, not computed anew.
        scored_tokens: only read, by teacher forcing.
        device_seconds: of estimating (its waits included), switching weights, prefill and decoding; not in the queue.
    """

    tokens: int = 0
    reasoning_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    scored_tokens: int = 0
    device_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Prices the use of a model; what is left out costs nothing.

    Attributes:
        prompt: per million tokens read, those that an estimator scored among them.
        cached: per million prompt tokens that were in a cache; None: as ``prompt``.
        output: per million tokens decoded.
        device_second: per second of the device. Calls decoded in one batch each count their own seconds: divide by the
            calls you usually run at a time.

    Raises:
        UsageError: a price that is no finite number of at least 0.
    """

    prompt: float = 0.0
    cached: float | None = None
    output: float = 0.0
    device_second: float = 0.0

    def __post_init__(self) -> None:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, wrong in misfits(given):
            raise UsageError(f"price: {name} {wrong}", hint="per million tokens, or per device_second")

    def cost_of(self, usage: Usage) -> float:
        """Add up what a usage costs, in the price's currency."""
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        read = usage.prompt_tokens - cached + usage.scored_tokens
        cached_price = self.prompt if self.cached is None else self.cached
        tokens = read * self.prompt + cached * cached_price + usage.tokens * self.output
        return tokens / PER + usage.device_seconds * self.device_second

    @property
    def is_free(self) -> bool:
        """Tell whether every rate is zero."""
        return not any(getattr(self, field.name) for field in fields(self))


def misfits(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (field, what is wrong with it) of a price as files hold it."""
    known = [field.name for field in fields(Price)]
    for name, value in data.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if name not in known:
            yield str(name), f"is not a known field; known: {', '.join(known)}"
        elif not (number and 0 <= value <= _MOST) and (value is not None or name != "cached"):
            large = number and abs(value) > _MOST
            yield name, f"must be a number of at least 0, not {'one that large' if large else repr(value)[:40]}"
