"""How hard a question is: lengths and number ranges per level, and which lengths are never trained on.

What makes a question hard is its length and the size of its numbers. Training draws both far beyond and between the
levels (`practice`), so that the levels are a scale laid over one range and not five separate tasks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from dami_agent.tasks.task import Operation

LEVELS = (1, 2, 3, 4, 5)

SYMBOLS: tuple[Literal["+", "-", "*"], ...] = ("+", "-", "*")

Unseen = Literal["template", "name", "length"]
UNSEEN: tuple[Unseen, ...] = ("template", "name", "length")
"""What questions can have that is never in the training data; such questions are asked and reported apart."""


@dataclass(frozen=True)
class Size:
    """`count` operations; numbers added up to `addend`, factors up to `factor`, no value on the way above `largest`."""

    count: int
    addend: int
    factor: int
    largest: int


ARITHMETIC = {
    1: Size(1, 10, 5, 40),
    2: Size(2, 60, 9, 400),
    3: Size(3, 20, 5, 60),
    4: Size(5, 900, 99, 99_999),
    5: Size(11, 900, 99, 99_999),
}
"""Levels of chains and stories."""

NUMBERS = {
    1: Size(1, 10, 5, 40),
    2: Size(1, 10, 5, 40),
    3: Size(1, 90, 9, 999),
    4: Size(1, 900, 49, 9_999),
    5: Size(1, 999, 99, 99_999),
}
"""Levels of bills, which have lengths of their own; those of a length never trained on have level 3's numbers."""

LENGTHS = (1, 2, 3, 5, 7, 8, 11)
"""Operations in training."""

HELD_LENGTHS = {1: 4, 2: 4, 3: 4, 4: 6, 5: 6}
"""Level -> a number of operations never trained on, for the part of the test that asks for it."""


def level_size(family: str, level: int, unseen: Unseen | None = None) -> Size:
    """Return the size of a level; with `unseen="length"` as many operations as training never has."""
    if family not in ("chain", "story"):
        return NUMBERS[3 if unseen == "length" else level]
    size = ARITHMETIC[level]
    return replace(size, count=HELD_LENGTHS[level]) if unseen == "length" else size


def practice_size(rng: Random) -> Size:
    """Draw a size for training: every length with every range of numbers."""
    largest = rng.choice((60, 100, 150, 300, 600, 999, 9_999, 99_999))
    count = rng.choices(LENGTHS, (4, 3, 3, 2, 2, 1, 1))[0]
    addend = min(max(10, int(largest * rng.uniform(0.1, 0.6))), rng.choice((900, 3_000)))
    return Size(count, addend, rng.choice((3, 5, 6, 9) if largest < 999 else (6, 9, 29, 99)), largest)


def nearest_level(size: Size) -> int:
    """Return the level a training size is closest to, by length."""
    return min(LEVELS, key=lambda level: abs(ARITHMETIC[level].count - size.count))


def operations(rng: Random, size: Size, start: int, count: int | None = None) -> tuple[Operation, ...]:
    """Draw operations from `start` on, every value in 1..largest; the last one is the answer.

    Args:
        rng: the random stream.
        size: how many operations, and how large the numbers.
        start: the first value.
        count: how many operations; None takes the size's.
    """
    if not 1 <= start <= size.largest:
        raise ValueError(f"start {start} is not in 1..{size.largest}")
    work: list[Operation] = []
    value = start
    while len(work) < (size.count if count is None else count):
        symbol = rng.choices(SYMBOLS, (4, 4, 2) if size.factor < 10 else (2, 3, 5))[0]
        step = Operation(value, symbol, _operand(rng, size, value, symbol))
        if step.right >= 2 and 1 <= step.result <= size.largest:
            work.append(step)
            value = step.result
    return tuple(work)


def _operand(rng: Random, size: Size, value: int, symbol: str) -> int:
    """Draw what is done with `value`; where factors have two digits, much is taken away at times to make room."""
    if symbol == "*":
        return rng.randint(2, max(2, min(size.factor, size.largest // value)))
    if symbol == "-" and size.factor > 9 and value > 200 and rng.random() < 0.6:
        return value - rng.randint(12, min(999, value // 2))
    return rng.randint(2, size.addend)


def start_value(rng: Random, size: Size) -> int:
    """Where a chain begins."""
    return rng.randint(2, max(12, size.largest // 2 if size.largest <= 150 else min(size.largest // 3, 999)))
