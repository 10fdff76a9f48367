"""Numbers that made-up tools find, and how a prompt says them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from builtin_pair.composed.phrasing import nesting, several, shown, steps
from builtin_pair.composed.tools import (
    Finder,
    Maker,
    different,
    distinct,
    figure,
    finder,
    hops,
    maker,
    plan_of,
)
from dami_agent.tasks.task import PlannedCall, Split
from dami_agent.tasks.words import english, joined, made_up, word_split

MEASURES: Mapping[str, tuple[str, ...]] = {"weight": ("weigh",), "cost": ("cost",), "price": ("cost",)}
"""What a tool finds of one thing -> what several things do."""


@dataclass(frozen=True)
class Figures:
    """Numbers to work with: the tools and calls that find them and how a prompt says them.

    `each` says one number each, `group` all of them, `lead` is a sentence that asks to find them. Where they are of
    things that can be counted, `things` are their names and `finds` is what is found of each.
    """

    tools: Sequence[Finder]
    plan: tuple[PlannedCall, ...]
    numbers: Sequence[int]
    each: Sequence[str]
    group: str
    lead: str
    things: Sequence[str] = ()
    finds: str = ""


def figures(rng: Random, split: Split) -> Figures | None:
    """Numbers that one tool, two tools or two hops find, or None if what was drawn does not fit together."""
    roll = rng.random()
    found = _alike(rng, split) if roll < 0.54 else _unlike(rng, split) if roll < 0.72 else _hopped(rng, split)
    return found if found and distinct(different(found.tools)) else None


def _lead(rng: Random, group: str) -> str:
    return rng.choice(("Find {0}.", "Look up {0}.", "Get {0}.", "First find {0}.", "I have {0}.")).format(group)


def thing(rng: Random, split: Split) -> str:
    """Something to be counted, whose plural is its name and an s, so that the name can be told from it."""
    while True:
        word = english(rng, split) if rng.random() < 0.2 else made_up(rng, split)
        if not word.endswith(("s", "x", "sh", "ch", "y")):
            return word


def _alike(rng: Random, split: Split) -> Figures | None:
    """One tool for one to four values, looked up together."""
    count, counted = rng.choices((1, 2, 3, 4), (3, 5, 2, 1))[0], rng.random() < 0.3
    counted = count != 3 and (counted or count == 4)
    takes: Maker = thing if counted else maker(rng)
    known = [word for word in MEASURES if word_split(word) == split] if counted else []
    tool = finder(rng, split, takes, finds=rng.choice(known) if known and rng.random() < 0.5 else None)
    found = hops(rng, split, (takes, figure), count)
    if found is None:
        return None
    texts = list(map(str, found[0])) if counted else shown(rng, found[0])
    said = several(tool.finds) if count > 1 and rng.random() < 0.4 else tool.finds
    group = f"the {said} of {joined(texts)}"
    each = [f"the {tool.finds} of {text}" for text in texts]
    plan = plan_of([tool], found)
    return Figures([tool], plan, found[1], each, group, _lead(rng, group), texts if counted else (), tool.finds)


def _unlike(rng: Random, split: Split) -> Figures | None:
    """Two tools, each for a value of its own or both for the same one, looked up together."""
    kind = maker(rng)
    kinds = (kind, kind if rng.random() < 0.5 else maker(rng))
    tools = [finder(rng, split, each) for each in kinds]
    values: list[Any] = [each(rng, split) for each in kinds]
    if kinds[0] is kinds[1] and rng.random() < 0.4:
        values[1] = values[0]
    numbers = [figure(rng, split), figure(rng, split)]
    if numbers[0] == numbers[1]:
        return None
    plan = (tools[0].call(values[0], numbers[0]), tools[1].call(values[1], numbers[1], together=True))
    texts = shown(rng, values)
    each = [f"the {tool.finds} of {text}" for tool, text in zip(tools, texts, strict=True)]
    group = joined(each)
    if values[0] == values[1] and rng.random() < 0.6:
        group = f"the {tools[0].finds} and the {tools[1].finds} of {texts[0]}"
    return Figures(tools, plan, numbers, each, group, _lead(rng, group))


def _hopped(rng: Random, split: Split) -> Figures | None:
    """Draw a tool and then another one on what the first says, for one value or two."""
    count = rng.choice((1, 1, 1, 2))
    kinds = (maker(rng), maker(rng), figure)
    tools = [finder(rng, split, kind) for kind in kinds[:2]]
    found = hops(rng, split, kinds, count)
    if found is None:
        return None
    finds, texts = [tool.finds for tool in tools], shown(rng, found[0])
    each = [f"{nesting(finds)} of {text}" for text in texts]
    said = [several(word) for word in finds] if count > 1 and rng.random() < 0.5 else finds
    group = f"{nesting(said)} of {joined(texts)}"
    lead = steps(rng, finds, found[0]) if rng.random() < 0.6 else _lead(rng, group)
    return Figures(tools, plan_of(tools, found), found[2], each, group, lead)
