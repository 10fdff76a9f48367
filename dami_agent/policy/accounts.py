"""What one run or thread has used and set aside so far."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from dami_agent.types import Price, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What an account has used so far; ``by_tool`` are the reasoning tokens charged to each tool and to ``answer``."""

    tokens: int = 0
    reasoning_tokens: int = 0
    seconds: float = 0.0
    money: float = 0.0
    by_tool: Mapping[str, int] = field(default_factory=dict)
    steps: int = 0

    def plus(self, usage: Usage, price: Price, tool: str) -> Spent:
        """With what one attempt used, charged to ``tool``; seconds are the clock's, not the attempt's."""
        return dataclasses.replace(
            self,
            tokens=self.tokens + usage.tokens,
            reasoning_tokens=self.reasoning_tokens + usage.reasoning_tokens,
            money=self.money + price.of(usage),
            by_tool={**self.by_tool, tool: self.by_tool.get(tool, 0) + usage.reasoning_tokens},
            steps=self.steps + 1,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """What a call that is running may use at most; ``timed``: the deadline is the budget's, and is not its end."""

    tokens: int
    reasoning_tokens: int
    seconds: float
    money: float
    charged_to: str
    timed: bool = False

    @property
    def whole(self) -> Usage:
        """All of it, for an attempt of which nobody knows what it used."""
        return Usage(tokens=self.tokens, reasoning_tokens=self.reasoning_tokens, device_seconds=self.seconds)


class Account:
    """One run's or thread's."""

    def __init__(self) -> None:
        self.spent = Spent()
        self.open: dict[Hashable, Reservation] = {}
        self.since = 0.0  # when the first of the open calls began

    def reserved(self, name: str, charged_to: str | None = None) -> float:
        """Set aside by calls that are running, all of them or those charged to one tool."""
        held = (o for o in self.open.values() if charged_to in (None, o.charged_to))
        return float(sum(getattr(o, name) for o in held))

    def now(self, clock: float) -> Spent:
        """Spent so far, the clock of open calls included."""
        running = clock - self.since if self.open else 0.0
        return dataclasses.replace(self.spent, seconds=self.spent.seconds + running)
