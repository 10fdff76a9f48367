"""Made-up tools that find one thing of another, hops through them, and the task that comes of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from random import Random
from typing import Any

from dami_agent.tasks.invented import Argument, foreign, identifier, value
from dami_agent.tasks.novel import Novel, answering, apart, novel_spec
from dami_agent.tasks.task import AgentTask, Operation, PlannedCall, Split
from dami_agent.tasks.words import letters, made_up, reply_of

Maker = Callable[[Random, Split], Any]
"""Draws a value of one kind: what a tool takes, or finds."""

MOST_TOOLS = 4
"""Tools bound at most."""


def number(rng: Random, split: Split) -> int:
    """Draw a whole number of any size that names something: a room, a train."""
    return rng.randint(2, rng.choice((30, 99, 999, 999, 9999)))


def figure(rng: Random, split: Split) -> int:
    """Draw a whole number to work with."""
    return rng.randint(2, 90)


def _name(rng: Random, split: Split) -> str:
    return made_up(rng, split).capitalize()


def _full_name(rng: Random, split: Split) -> str:
    return f"{_name(rng, split)} {_name(rng, split)}"


def _code(rng: Random, split: Split) -> str:
    return f"{letters(rng, rng.randint(1, 3)).upper()}-{rng.randint(1, 99)}"


def _foreign(rng: Random, split: Split) -> str:
    return foreign(rng, most=3)


_MAKERS: Mapping[Maker, int] = {number: 9, _name: 8, made_up: 4, _full_name: 2, _code: 1, _foreign: 1}
_DRAWN = tuple(_MAKERS), tuple(_MAKERS.values())
LENGTHY: tuple[Maker, ...] = (_full_name, _foreign)
"""Kinds of value that take many tokens, and would take too many where several go through many hops."""


def maker(rng: Random) -> Maker:
    """Numbers, or words of one kind."""
    return rng.choices(*_DRAWN)[0]


@dataclass(frozen=True)
class Finder:
    """A made-up tool that finds something of one value; `fixed` are the arguments that are the same in every call."""

    tool: Novel
    fixed: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The tool's name."""
        return self.tool.spec.name

    @property
    def finds(self) -> str:
        """What it is described to find."""
        return self.tool.subject[0]

    def call(self, given: Any, found: Any, *, together: bool = False) -> PlannedCall:
        """Return the call on one value that returns `found`."""
        arguments = {name: self.fixed.get(name, given) for name in self.tool.arguments}
        return PlannedCall(self.name, arguments, str(found), (), together)


def finder(rng: Random, split: Split, takes: Maker, *, more: bool = False, finds: str | None = None) -> Finder:
    """Draw a made-up tool of one argument that takes such values, and with `more` of a second one.

    Args:
        rng: the random stream.
        split: the split that everything drawn belongs to.
        takes: kind of value that it takes.
        more: give it a second argument.
        finds: what it finds; None draws it.
    """
    own = identifier(rng, split, parts=rng.choices((1, 2), (5, 1))[0])
    arguments = [Argument(own, "integer" if takes in (number, figure) else "string", None)]
    fixed: dict[str, Any] = {}
    if more and (name := identifier(rng, split, parts=1)) != own:
        second = maker(rng)(rng, split)
        arguments.insert(rng.randint(0, 1), Argument(name, "integer" if isinstance(second, int) else "string", second))
        fixed[name] = second
    spec, subject = novel_spec(rng, split, arguments, finds=finds)
    names = dict.fromkeys(argument.name for argument in arguments)
    return Finder(Novel(spec, subject, "", names, str(value(rng, split)[1])), fixed)


Found = Sequence[Sequence[Any]]
"""What is known after each hop, for each value: the first row is what the prompt gives."""


def hops(rng: Random, split: Split, kinds: Sequence[Maker], count: int) -> Found | None:
    """Draw `count` values and what is found hop by hop; None if two are the same: a tool says one thing of each.

    Args:
        rng: the random stream.
        split: the split that everything drawn belongs to.
        kinds: kinds of value, hop by hop.
        count: how many.
    """
    found = [[kind(rng, split) for _ in range(count)] for kind in kinds]
    return found if len({str(each) for row in found for each in row}) == count * len(kinds) else None


def plan_of(finders: Sequence[Finder], found: Found) -> tuple[PlannedCall, ...]:
    """Return the calls hop by hop; those of one hop are made together."""
    return tuple(
        each.call(given, result, together=place > 0)
        for each, row, after in zip(finders, found, found[1:], strict=False)
        for place, (given, result) in enumerate(zip(row, after, strict=True))
    )


def guessable(prompt: str, plan: Sequence[PlannedCall]) -> bool:
    """Whether something that is to be found stands in the prompt already."""
    words = set(re.findall(r"\w+", prompt))
    return any(words.issuperset(re.findall(r"\w+", call.result)) for call in plan)


_EXTRA = (
    " The {0} is {1}.",
    " Use {0} {1}.",
    " Take {1} as {0}.",
    " Use {1} for {0}.",
    " Set {0} to {1}.",
    " ({0}: {1})",
)


def with_fixed(rng: Random, prompt: str, finders: Sequence[Finder]) -> str:
    """Return the prompt with what else a tool must be told, before or after."""
    for each in finders:
        for name, given in each.fixed.items():
            extra = rng.choice(_EXTRA).format(name, given)
            prompt = f"{extra[1:]} {prompt}" if extra[-1] == "." and rng.random() < 0.3 else prompt + extra
    return prompt


def different(finders: Sequence[Finder]) -> list[Finder]:
    """Each tool once, though it may be used in several hops."""
    return list({each.name: each for each in finders}.values())


def distinct(finders: Sequence[Finder]) -> bool:
    """Whether no tool's words say anything about another."""
    return all(apart(one.tool, other.tool) for one, other in combinations(finders, 2))


def bind(
    rng: Random, split: Split, task: AgentTask, finders: Sequence[Finder], work: Sequence[Operation] = ()
) -> AgentTask | None:
    """Return the task with the tools it needs, up to two more and its reply, or None if two tools are alike.

    Args:
        rng: the random stream.
        split: the split of the further tools.
        task: the task.
        finders: the tools that the plan needs.
        work: the operations or comparisons that must be worked out.
    """
    needed = different(finders)
    room = min(2, MOST_TOOLS - len(needed))
    bound = needed + [finder(rng, split, maker(rng), more=rng.random() < 0.2) for _ in range(rng.randint(0, room))]
    if not distinct(bound):
        return None
    tools = answering(rng, [each.tool for each in bound], task.plan)
    answers = (str(work[-1].result),) if work else task.answers
    return replace(task, tools=tools, work=tuple(work), answers=answers, reply=reply_of(answers))
