"""Who is decoded when: groups of one λ, fair turns, chunks between decode steps, buckets. Plain arithmetic, no tensors.

With merged weights only rows of one λ can share a forward pass, and changing λ costs a rebuild of the weights. So rows
are grouped by λ, each group keeps its own cache, and groups take turns; a turn lasts long enough that switching stays
a small part of the time. With mixed weights there is one group. Prompts are read a chunk at a time, between decode
steps, whatever group has the turn.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol, TypeVar

from dami_agent.types import Intensity

__all__ = ["Group", "GroupScheduler", "Interleaving", "bucket_by_length", "can_merge"]

Group = Intensity | None  # λ of merged weights; None: all rows, mixed
T = TypeVar("T")

_MIN_STEPS = 32
_MIN_SECONDS = 0.1
_SWITCH_SHARE = 4  # a turn takes at least this many times what its switch took
# Rows that decode get at least this part of the time that reading prompts beside them takes.
_DECODE_SHARE = 0.25


class GroupScheduler:
    """Picks the group that decodes: groups stand in line, and one whose turn is over goes to its end.

    A group enters the line when it first has requests and leaves it when it has none. So it waits for at most one turn
    of each group that was in line before it, whoever comes and goes meanwhile. A turn is over once its switches of λ
    are paid for (by four times their seconds of decoding) and it had 32 steps, a tenth of a second, or all the rows
    that were there when it began have ended; earlier only where its group has nothing to decode, later only where no
    other group has.

    Attributes:
        number: turns so far.
    """

    def __init__(self) -> None:
        self.number = 0
        self._line: list[Group] = []
        self._current: Group = None
        self._running = False
        self.steps = 0
        self._seconds = 0.0
        self._switch = 0.0
        self._drained = False

    def pick(self, ready: Collection[Group], waiting: Collection[Group] = ()) -> Group:
        """Pick the group to serve now.

        Args:
            ready: groups that can decode (at least one); those not in line yet enter it in this order.
            waiting: groups whose requests are read, or queued for want of room: they keep their place, or enter the
                line.
        """
        there = dict.fromkeys([*ready, *waiting])
        self._line = [group for group in self._line if group in there]
        self._line += [group for group in there if group not in self._line]
        if self._running and self._current in ready and (len(ready) == 1 or not self._over()):
            return self._current
        if self._running and self._current in self._line:
            self._line.remove(self._current)
            self._line.append(self._current)
        self._current = next(group for group in self._line if group in ready)
        self._running, self.steps, self._seconds, self._switch, self._drained = True, 0, 0.0, 0.0, False
        self.number += 1
        return self._current

    def stepped(self, switch_seconds: float, seconds: float = 0.0, *, drained: bool = False) -> None:
        """Note one step of the current group.

        Args:
            switch_seconds: what it took in changing λ.
            seconds: what it took in all.
            drained: the rows that were there when the turn began have ended; what came later waits for the next turn.
        """
        self._drained = drained
        self.steps += 1
        self._switch += switch_seconds
        self._seconds += seconds

    def _over(self) -> bool:
        paid = self._seconds >= _SWITCH_SHARE * self._switch
        return paid and (self._drained or self.steps >= _MIN_STEPS or self._seconds >= _MIN_SECONDS)


class Read(Protocol):
    """Something that is read in chunks."""

    @property
    def group(self) -> Group:
        """Whose weights read it."""
        ...

    @property
    def remaining(self) -> int:
        """Return the tokens still to be read."""
        ...


R = TypeVar("R", bound=Read)


class Interleaving:
    """Decides when the next chunk of a prompt is read between decode steps, and of which prompt.

    After a chunk, rows that decode get a quarter of the time it took before the next one, and what pays for a switch
    of λ. Chunks go in turn to what has waited longest and to what has least left: a short prompt passes a long one,
    which still gets every other chunk. Where λ had to change, its reads go on until the switch is paid for.
    """

    def __init__(self) -> None:
        self._owed = 0.0
        self._switch_back = False
        self._shortest_next = True
        self._group: Group = None
        self._unpaid = 0.0

    def may_read(self, *, decoding: bool) -> bool:
        """Return whether the next chunk may be read now; ``decoding``: rows wait for their next token."""
        return not decoding or self._owed <= 0.0

    def reads_on(self, reads: Sequence[Read]) -> bool:
        """Return whether the next chunk is to be read at once, because the last switch of λ is not paid for."""
        return self._unpaid > 0.0 and any(read.group == self._group for read in reads)

    def pick(self, reads: Sequence[R]) -> R:
        """Return what to read from next, of at least one; they are in order of arrival."""
        if self.reads_on(reads):
            return next(read for read in reads if read.group == self._group)
        self._shortest_next = not self._shortest_next
        chosen = min(reads, key=lambda read: read.remaining) if self._shortest_next else reads[0]
        self._group, self._unpaid = chosen.group, 0.0
        return chosen

    def has_read(self, switch_seconds: float, seconds: float) -> None:
        """Note how long a chunk took: in changing λ, and in all."""
        self._unpaid += _SWITCH_SHARE * switch_seconds - seconds
        self._owed = seconds * _DECODE_SHARE
        self._switch_back = True

    def has_decoded(self, switch_seconds: float, seconds: float) -> None:
        """Note how long a step of all rows took: in changing λ, and in all."""
        if self._switch_back:  # only this switch is the reading's fault: the others belong to turns
            self._owed += _SWITCH_SHARE * switch_seconds
        self._owed -= seconds
        self._switch_back, self._unpaid = False, 0.0


def can_merge(shapes: Sequence[tuple[int, int]]) -> bool:
    """Return whether rectangles of (rows, columns) may be put into one without the padding exploding.

    The one rectangle may hold twice the positions of the many, plus 2048: short rows do not drag a long row's
    width along, while small batches are not split over trifles.
    """
    rows = sum(r for r, _ in shapes)
    width = max(w for _, w in shapes)
    return rows * width <= 2 * sum(r * w for r, w in shapes) + 2048


def bucket_by_length(items: Sequence[T], lengths: Sequence[int]) -> list[list[T]]:
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
