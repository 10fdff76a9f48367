"""What a template draws from and plans with: names, lengths, and lookups in one little world, errors mended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from dami_agent.tasks.agent.changes import HELD_SPAN, SPANS, changes, said
from dami_agent.tasks.catalogue import CATALOGUE, Kind, Lookup
from dami_agent.tasks.questions.sizes import Unseen
from dami_agent.tasks.records import Shape, record_tools
from dami_agent.tasks.task import AgentTask, Operation, PlannedCall, Working
from dami_agent.tasks.words import reply_of
from dami_agent.tasks.world import HELD, SEEN, Names, World, mended

MOST_TOOLS = 3
LARGEST = 9_999
MOST_TURNS = 6
MOST_WORK = 10
"""Tools bound at most; no worked-out value is above this, none below 0; model turns and operations at most."""

MOST_HARD_TOOLS, LARGEST_HARD, MOST_HARD_WORK = 4, 99_999, 21
"""The same of hard tasks."""

IN_TURN = " One after the other, please."
"""What a prompt says when lookups that could be made together are to be single calls."""

TaskKind = Literal["route", "work", "hard"]


@dataclass
class Scene:
    """One task in the making. `shape` is that of the records its tools answer with, None where none does."""

    rng: Random
    world: World
    unseen: Unseen | None = None
    known: Names = SEEN
    plan: list[PlannedCall] = field(default_factory=list)
    used_length: bool = False
    shape: Shape | None = None

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """Return the tools there are: the catalogue's, and those that answer with records once these have a shape."""
        return CATALOGUE if self.shape is None else record_tools(self.shape)

    @property
    def names(self) -> Names:
        """The people, things and towns of this task."""
        return HELD if self.unseen == "name" else self.known

    def length(self, trained: Sequence[int], held: int) -> int:
        """How many lookups or steps: one of the trained lengths, or the one never trained."""
        self.used_length = True
        return held if self.unseen == "length" else self.rng.choice(tuple(trained))

    def changes(
        self, value: int, what: str, counts: Sequence[int] | None = None, *, largest: int = LARGEST
    ) -> tuple[list[Operation], str]:
        """Return what happens to `value`, a kind of number of `STUFF`: operations and the sentences that say them.

        Without `counts` how many there are is a length of this task; it may then be the one never trained.

        Args:
            value: the number that they change.
            what: kind of number, of `STUFF`.
            counts: how many operations, one of these; None takes the task's length.
            largest: the largest value on the way.
        """
        count = self.length(SPANS, HELD_SPAN) if counts is None else self.rng.choice(tuple(counts))
        work = changes(self.rng, value, count, largest)
        return work, said(self.rng, what, work)

    def together(self, lookups: Sequence[Lookup], work: tuple[Working, ...] = ()) -> list[str]:
        """Make lookups in one turn, those that fail once more in a second one; the results in order."""
        results, again = [""] * len(lookups), []
        for index, lookup in enumerate(lookups):
            tool, arguments = self.kinds[lookup.tool], lookup.arguments
            results[index] = tool.run(self.world, arguments, self.names)
            self.plan.append(PlannedCall(lookup.tool, arguments, results[index], work if not index else (), index > 0))
            if better := mended(self.world, lookup.tool, arguments):
                again.append((index, better[1]))
        for place, (index, arguments) in enumerate(again):
            tool = self.kinds[lookups[index].tool]
            results[index] = tool.run(self.world, arguments, self.names)
            self.plan.append(PlannedCall(lookups[index].tool, arguments, results[index], (), place > 0))
        return results

    def look(self, tool: str, work: tuple[Working, ...] = (), **arguments: object) -> str:
        """One lookup in a turn of its own."""
        return self.together([Lookup(tool, arguments)], work)[0]

    def all_of(self, lookups: Sequence[Lookup], *, in_turn: bool, work: tuple[Working, ...] = ()) -> list[str]:
        """Lookups that do not depend on each other: together, or in turn when the prompt says so."""
        if not in_turn:
            return self.together(lookups, work)
        return [self.together([lookup])[0] for lookup in lookups]

    def each(
        self,
        tool: str,
        key: str,
        values: Sequence[object],
        *,
        in_turn: bool = False,
        work: tuple[Working, ...] = (),
    ) -> list[str]:
        """Return the same tool for several values; `work` is what finds them.

        Args:
            tool: name of the tool.
            key: its argument.
            values: the argument's value in each call.
            in_turn: one call after the other, not together.
            work: what finds the values.
        """
        return self.all_of([Lookup(tool, {key: value}) for value in values], in_turn=in_turn, work=work)

    def in_turn(self, chance: float = 0.3) -> bool:
        """Whether this prompt asks for single calls."""
        return self.rng.random() < chance

    def task(
        self,
        kind: TaskKind,
        name: str,
        prompt: str,
        answers: Sequence[str] = (),
        work: Sequence[Working] = (),
    ) -> AgentTask | None:
        """Bind the tools the plan needs and distractors up to three; refuses values out of range and what is too long.

        The answer is the last value of `work`; `answers` are the results to copy where there is none.

        Args:
            kind: kind of the task.
            name: name of its template.
            prompt: what the user says.
            answers: the results that are copied.
            work: what is worked out before the reply.
        """
        steps = [*(step for call in self.plan for step in call.work), *work]
        hard = kind == "hard"
        most, largest = (MOST_HARD_WORK, LARGEST_HARD) if hard else (MOST_WORK, LARGEST)
        most_tools = MOST_HARD_TOOLS if hard else MOST_TOOLS
        values = [step.result for step in steps if isinstance(step, Operation)]
        if len(steps) > most or any(not 0 <= value <= largest for value in values):
            return None
        if 2 + sum(not call.together for call in self.plan[1:]) > MOST_TURNS:
            return None
        needed = list(dict.fromkeys(call.name for call in self.plan))
        spare = [tool for tool in self.kinds if tool not in needed]
        bound = needed + self.rng.sample(spare, self.rng.randint(0, max(0, most_tools - len(needed))))
        self.rng.shuffle(bound)
        found = (work[-1].value,) if work else tuple(answers)
        return AgentTask(
            kind,
            name,
            prompt,
            tuple(self.kinds[tool].bind(self.world, self.names) for tool in bound),
            tuple(self.plan),
            found,
            tuple(work),
            reply_of(found),
            (self.unseen,) if self.unseen else (),
        )


@dataclass(frozen=True)
class Template:
    """How a kind of task is drawn, how often, and whether training never sees it."""

    draw: Callable[[Scene], AgentTask | None]
    weight: float = 1.0
    held: bool = False


Templates = Mapping[str, Template]


def running(start: int, parts: Sequence[int], symbol: Literal["+", "-"]) -> list[Operation]:
    """`start + a`, `that + b`, ..."""
    work: list[Operation] = []
    for part in parts:
        work.append(Operation(work[-1].result if work else start, symbol, part))
    return work


def lookup(tool: str, **arguments: Any) -> Lookup:
    """One use of a tool."""
    return Lookup(tool, arguments)
