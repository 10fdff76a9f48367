"""Verdicts on an attempt (accepted, rejected, failed), the outcome of a call, and the gate that deltas pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dami_agent.errors import BudgetExhausted, ContextOverflow
from dami_agent.types import CallRecord, Reply

if TYPE_CHECKING:
    from dami_agent.dialogue import Delta
    from dami_agent.policy.plans import Vote

__all__ = ["Accepted", "DeltaGate", "Failed", "Outcome", "Rejected", "Verdict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The attempt's reply is the call's answer."""

    record: CallRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The attempt's reply is not accepted, and another attempt follows.

    Attributes:
        why: the reason, which the next attempt's decision carries.
        withheld: deltas that nobody saw; shown after all if no budget is left for another attempt.
        shown: kinds of deltas that were streamed.
        final: True if the next attempt must answer immediately, because the time budget has run out.
        redraw: True if the next attempt is to have the same λ.
        vote: what the reply votes for, where several are drawn; its record is kept when the vote is over.
    """

    record: CallRecord
    why: str
    withheld: tuple[Delta, ...] = ()
    shown: frozenset[str] = frozenset()
    final: bool = False
    redraw: bool = False
    vote: Vote | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The attempt raised ``error``, and no other attempt follows.

    Attributes:
        shown: kinds of deltas that were streamed.
        answered: whether anything of its answer was among them.
    """

    record: CallRecord
    error: Exception
    shown: frozenset[str] = frozenset()
    answered: bool = False

    @property
    def out_of_room(self) -> bool:
        """True if no budget was left for the attempt, or its prompt did not fit: a deeper λ's may be longer."""
        return isinstance(self.error, (BudgetExhausted, ContextOverflow))


Verdict = Accepted | Rejected | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of a call: the accepted reply, the record of the attempt that gave it, and those of all others."""

    reply: Reply
    record: CallRecord
    rejected: tuple[CallRecord, ...] = ()

    @classmethod
    def of(cls, record: CallRecord, rejected: Sequence[Rejected]) -> Outcome:
        """Return the outcome of an accepted attempt and the others."""
        assert record.reply is not None
        return cls(reply=record.reply, record=record, rejected=tuple(each.record for each in rejected))

    @property
    def attempts(self) -> tuple[CallRecord, ...]:
        """Return all attempts, the one that gave the reply last: the caller pays for all."""
        return (*self.rejected, self.record)


class DeltaGate:
    """Shows the deltas of one attempt, or withholds those that a later attempt may replace.

    Args:
        withhold_all: the policy may reject the whole reply.
        withhold_calls: only an unreadable tool call would be drawn again: text is shown, and from the first call on
            everything is withheld.
        shown_before: kinds of deltas that the attempt before has streamed; this attempt's are set apart from them.
    """

    def __init__(self, *, withhold_all: bool, withhold_calls: bool, shown_before: Collection[str]) -> None:
        self._withhold_all = withhold_all
        self._withhold_calls = withhold_calls
        self._shown_before = shown_before
        self.withheld: list[Delta] = []
        self.shown: set[str] = set()
        self.answered = False
        """Whether anything of the answer was shown; reasoning is none."""

    def admit(self, deltas: Iterable[Delta]) -> Iterator[Delta]:
        """Yield those of ``deltas`` that are shown now; the others are withheld, in order."""
        for delta in deltas:
            if delta.kind == "partial_call":  # carries nothing that the whole call does not; of no use later
                if not self._withhold_all:
                    yield delta
            elif self._withhold_all or (self._withhold_calls and (self.withheld or delta.call)):
                self.withheld.append(delta)
            else:
                self.answered |= delta.kind != "reasoning"
                yield self._set_apart(delta)
                self.shown.add(delta.kind)

    def _set_apart(self, delta: Delta) -> Delta:
        """Begin the first piece of reasoning or text on a new line where the attempt before has streamed some."""
        if delta.kind in self.shown or delta.kind not in self._shown_before:
            return delta
        return dataclasses.replace(delta, text=("\n\n" if delta.kind == "reasoning" else "\n") + delta.text)
