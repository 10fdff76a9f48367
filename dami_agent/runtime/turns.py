"""Who is decoded when: grouping by λ, fair turns, admission and bucketing. Plain arithmetic, no tensors.

With merged weights only rows of one λ can share a forward pass, and changing λ costs a rebuild of the weights. So rows
are grouped by λ, each group keeps its own cache, and groups take turns; a turn lasts long enough that switching stays
a small part of the time. With mixed weights there is one group.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import TypeVar

from dami_agent.types import Intensity

__all__ = ["Group", "Turns", "bucket", "may_share"]

Group = Intensity | None  # λ of merged weights; None: all rows, mixed
T = TypeVar("T")

_MIN_STEPS = 32
_SWITCH_SHARE = 4  # a turn takes at least this many times what the last switch took


class Turns:
    """Picks the group whose turn it is: the least recently served, once the current turn is over."""

    def __init__(self) -> None:
        self._served: dict[Group, int] = {}
        self._count = 0
        self._current: Group = None
        self._running = False
        self._steps = 0
        self._began = 0.0
        self._switch = 0.0

    def pick(self, groups: Collection[Group]) -> Group:
        """The group to serve now, out of those that have rows decoding or waiting (at least one)."""
        over = self._steps >= _MIN_STEPS and time.monotonic() - self._began >= _SWITCH_SHARE * self._switch
        if self._running and self._current in groups and (len(groups) == 1 or not over):
            return self._current
        self._served = {group: at for group, at in self._served.items() if group in groups}
        self._count += 1
        self._current = min(groups, key=lambda group: self._served.get(group, 0))
        self._served[self._current] = self._count
        self._running, self._steps, self._began, self._switch = True, 0, time.monotonic(), 0.0
        return self._current

    def stepped(self, switch_seconds: float) -> None:
        """Note one step of the current group."""
        self._steps += 1
        self._switch += switch_seconds


def may_share(shapes: Sequence[tuple[int, int]]) -> bool:
    """Whether rectangles of (rows, columns) may be put into one without the padding exploding.

    The one rectangle may hold twice the positions of the many, plus 2048: short rows do not drag a long row's
    width along, while small batches are not split over trifles.
    """
    rows = sum(r for r, _ in shapes)
    width = max(w for _, w in shapes)
    return rows * width <= 2 * sum(r * w for r, w in shapes) + 2048


def bucket(items: Sequence[T], lengths: Sequence[int]) -> list[list[T]]:
    """Split prompts into batches of like length: padding adds at most a quarter of a batch's tokens, plus 512.

    Order within a batch is by length; ties keep their order.
    """
    order = sorted(range(len(items)), key=lambda i: lengths[i])
    batches: list[list[T]] = []
    total = 0
    for i in order:
        if batches and (len(batches[-1]) + 1) * lengths[i] <= 1.25 * (total + lengths[i]) + 512:
            batches[-1].append(items[i])
            total += lengths[i]
        else:
            batches.append([items[i]])
            total = lengths[i]
    return batches
