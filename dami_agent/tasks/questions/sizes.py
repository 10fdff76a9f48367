"""How hard a question is: lengths and number ranges per level, and which lengths are never trained on.

What makes a question hard is its length and the size of its numbers. Training draws both far beyond and between the
levels (`practice`), so that the levels are a scale laid over one range and not five separate tasks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from dami_agent.tasks.model import Operation

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
    2: Size(2, 10, 5, 40),
    3: Size(3, 10, 5, 40),
    4: Size(8, 900, 9, 999),
    5: Size(11, 900, 9, 999),
}
"""Levels of chains and stories."""

_SMALL, _LARGE = Size(1, 10, 5, 40), Size(1, 900, 9, 999)
NUMBERS = {1: _SMALL, 2: _SMALL, 3: _LARGE, 4: _LARGE, 5: _LARGE}
"""Levels of bills and lists, which have lengths of their own."""

LENGTHS = (1, 2, 3, 5, 7, 8, 11)
"""Operations in training."""

HELD_LENGTHS = {1: 4, 2: 4, 3: 6, 4: 6, 5: 6}
"""Level -> a number of operations never trained on, for the part of the test that asks for it."""


def level_size(family: str, level: int, unseen: Unseen | None = None) -> Size:
    """The size of a level; with `unseen="length"` as many operations as training never has."""
    if family not in ("chain", "story"):
        return NUMBERS[level]
    size = ARITHMETIC[level]
    return replace(size, count=HELD_LENGTHS[level]) if unseen == "length" else size


def practice_size(rng: Random) -> Size:
    """A size for training: every length with every range of numbers."""
    largest = rng.choice((60, 100, 150, 300, 600, 999))
    count = rng.choices(LENGTHS, (4, 3, 3, 2, 2, 1, 1))[0]
    return Size(count, max(10, int(largest * rng.uniform(0.1, 0.6))), rng.choice((3, 5, 6, 9)), largest)


def nearest_level(size: Size) -> int:
    """The level a training size is closest to, by length."""
    return min(LEVELS, key=lambda level: abs(ARITHMETIC[level].count - size.count))


def operations(rng: Random, size: Size, start: int, count: int | None = None) -> tuple[Operation, ...]:
    """Operations from `start` on, every value in 1..largest; the last one is the answer."""
    if not 1 <= start <= size.largest:
        raise ValueError(f"start {start} is not in 1..{size.largest}")
    work: list[Operation] = []
    value = start
    while len(work) < (size.count if count is None else count):
        symbol = rng.choices(SYMBOLS, (4, 4, 2))[0]
        right = rng.randint(2, size.factor) if symbol == "*" else rng.randint(2, size.addend)
        step = Operation(value, symbol, right)
        if 1 <= step.result <= size.largest:
            work.append(step)
            value = step.result
    return tuple(work)


def start_value(rng: Random, size: Size) -> int:
    """Where a chain begins."""
    return rng.randint(2, max(12, size.largest // 2 if size.largest <= 150 else size.largest // 3))
