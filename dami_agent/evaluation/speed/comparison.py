"""Measure two ways to do the same work in turn, and refuse to compare them where the work was not the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from dami_agent.errors import RunError


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Holds what one measurement did, and how long it took.

    Attributes:
        seconds: by the clock on the wall.
        requests: that were answered.
        prompt_tokens: of all of them.
        new_tokens: that were decoded for all of them.
    """

    seconds: float
    requests: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0

    @property
    def amount(self) -> tuple[int, int, int]:
        """Return requests, prompt tokens and new tokens: what two measurements must share."""
        return self.requests, self.prompt_tokens, self.new_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Holds as many measurements of ours as of the reference, taken in turn.

    Raises:
        RunError: two that belong together did not do the same work.
    """

    ours: tuple[Work, ...]
    reference: tuple[Work, ...]

    def __post_init__(self) -> None:
        for mine, other in zip(self.ours, self.reference, strict=True):
            if mine.amount != other.amount:
                raise RunError(
                    "ours and the reference did not do the same work: (requests, prompt tokens, new tokens) are "
                    f"{mine.amount} and {other.amount}",
                    hint="report it with the versions of torch and transformers: no number of this run is comparable",
                )

    def seconds(self) -> tuple[float, float]:
        """Return the median seconds of ours and of the reference."""
        return median(work.seconds for work in self.ours), median(work.seconds for work in self.reference)

    def rates(self) -> tuple[float, float]:
        """Return the median output tokens a second of ours and of the reference."""
        ours, reference = self.seconds()
        return self.ours[0].new_tokens / ours, self.reference[0].new_tokens / reference

    def per_token(self) -> tuple[float, float]:
        """Return the median seconds an output token takes, of ours and of the reference."""
        ours, reference = self.rates()
        return 1 / ours, 1 / reference


Measurement = Callable[[int], Work]
"""Does the work once; told the number of the repetition, so that both sides can draw the same prompts."""


def in_turn(
    ours: Measurement, reference: Measurement, repetitions: int, tell: Callable[[int, int], None]
) -> Comparison:
    """Measure ours, the reference, ours, the reference and so on, so that a busy machine slows both.

    Args:
        ours, reference: measured once more beforehand, not counted: what is done first pays for what is done once.
        repetitions: of each.
        tell: told how many repetitions are done, and how many there are.
    """
    found: list[tuple[Work, Work]] = []
    for number in range(repetitions + 1):
        found.append((ours(number), reference(number)))
        tell(number, repetitions)
    return Comparison(ours=tuple(mine for mine, _ in found[1:]), reference=tuple(other for _, other in found[1:]))
