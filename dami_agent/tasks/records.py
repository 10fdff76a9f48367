"""Tools that answer with whole records: lists, price lists, tables, logs, for tasks that must work through them.

They live in the same seeded little worlds as the catalogue's tools, which answer with one value each. Every answer is a
pure function of world, shape and argument, so that a template can plan with it and the bound tool says the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from random import Random
from typing import Any

from dami_agent.tasks.catalogue import CATALOGUE, Kind, Lookup
from dami_agent.tasks.task import ToolSpec
from dami_agent.tasks.world import HELD, Names, World

LENGTHS = (4, 5, 8, 9, 11)
HELD_LENGTH = 10
"""Numbers in a list that a tool returns, in training and in the test of unseen lengths."""

ROWS = (3, 4, 5, 7)
HELD_ROWS = 6
"""Rows of a price list, a table or a line of people, likewise."""


@dataclass(frozen=True)
class Shape:
    """Say how long a record is and how large its numbers are: fixed for one task, so that all its calls agree."""

    rows: int = 4
    largest: int = 99


def numbers(world: World, shape: Shape, what: str, key: str) -> list[int]:
    """Draw different numbers of 2 to ``shape.largest``."""
    return Random(world.value(0, 1 << 30, "record", what, key.lower())).sample(range(2, shape.largest + 1), shape.rows)


def people(world: World, shape: Shape, names: Names, what: str, key: str) -> list[str]:
    """Draw different people, in the order that a record tells them."""
    return Random(world.value(0, 1 << 30, "people", what, key.lower())).sample(names.people, shape.rows)


def things(world: World, shape: Shape, names: Names, what: str, key: str) -> list[str]:
    """Draw different things, at most as many as there are."""
    count = min(shape.rows, len(names.items))
    return Random(world.value(0, 1 << 30, "things", what, key.lower())).sample(names.items, count)


# -- what each tool answers --------------------------------------------------------------------------------------------

Answer = Callable[[World, Shape, Names, str], str]


def _listed(what: str) -> Answer:
    return lambda world, shape, _names, key: ", ".join(map(str, numbers(world, shape, what, key)))


def _prices(world: World, shape: Shape, names: Names, key: str) -> str:
    listed = things(world, shape, names, "prices", key)
    costs = numbers(world, Shape(len(listed), shape.largest), "prices", key)
    return "Prices: " + ", ".join(f"{item} {cost} euros" for item, cost in zip(listed, costs, strict=True)) + "."


@dataclass(frozen=True)
class Desk:
    """Hold one row of a table of desks."""

    name: str
    room: int
    phone: int


def desks(world: World, shape: Shape, names: Names, key: str) -> list[Desk]:
    """Return the table of desks of one town."""
    listed = people(world, shape, names, "desks", key)
    rng = Random(world.value(0, 1 << 30, "desk", key.lower()))
    rooms, phones = (rng.sample(range(10, 100), len(listed)) for _ in range(2))
    return [Desk(*row) for row in zip(listed, rooms, phones, strict=True)]


def _desks(world: World, shape: Shape, names: Names, key: str) -> str:
    return " ".join(f"{row.name}: room {row.room}, phone {row.phone}." for row in desks(world, shape, names, key))


def passes(world: World, shape: Shape, names: Names, key: str) -> list[tuple[str, str]]:
    """Draw who passes a thing to whom, from the first holder on; the last one passes it back to somebody."""
    chain = people(world, shape, names, "passes", key)
    back = chain[world.value(0, len(chain) - 2, "back", key.lower())]
    return list(pairwise([*chain, back]))


def _passes(world: World, shape: Shape, names: Names, key: str) -> str:
    told = passes(world, shape, names, key)
    Random(world.value(0, 1 << 30, "order", key.lower())).shuffle(told)
    return f"The {key} goes {', '.join(f'{giver} to {taker}' for giver, taker in told)}."


def heights(world: World, shape: Shape, names: Names, key: str) -> tuple[list[str], list[str]]:
    """Draw people from the tallest to the shortest, and the facts that say so, in any order."""
    line = people(world, shape, names, "heights", key)
    facts = [f"{one} is shorter than {other}." for other, one in pairwise(line)]
    Random(world.value(0, 1 << 30, "facts", key.lower())).shuffle(facts)
    return line, facts


def _heights(world: World, shape: Shape, names: Names, key: str) -> str:
    return " ".join(heights(world, shape, names, key)[1])


def _ware(world: World, _shape: Shape, names: Names, key: str) -> str:
    held = key.split(" ")[0].capitalize() in HELD.people
    pool = HELD.items if held else names.items
    return pool[world.value(0, len(pool) - 1, "ware", key.lower())]


_RECORDS: tuple[tuple[str, str, str, str, Answer], ...] = (
    ("list_sales", "List the daily sales of an item.", "item", "the sales of {item}", _listed("sales")),
    ("list_visitors", "List the visitors of a town by month.", "town", "the visitors of {town}", _listed("visitors")),
    ("list_points", "List the points of a person by round.", "person", "the points of {person}", _listed("points")),
    ("price_list", "Read the price list of a town's shop.", "town", "the price list of {town}", _prices),
    ("show_desks", "Show who sits where in a town's office.", "town", "the desks in {town}", _desks),
    ("pass_log", "Tell who passes an item to whom.", "item", "the passes of the {item}", _passes),
    ("line_up", "Say who is shorter than whom in a town's team.", "town", "the heights in {town}", _heights),
    ("ware_of", "Name the item a person sells.", "person", "the item of {person}", _ware),
)
"""Name, description, argument, noun, what it answers."""

WHOLE_RECORDS = tuple(name for name, *_ in _RECORDS if name != "ware_of")
"""Tools whose answers are too long to be said again."""


@cache
def record_tools(shape: Shape) -> Mapping[str, Kind]:
    """Return the tools that answer with records of this shape, and the catalogue's."""
    found = {name: _kind(name, text, key, noun, answer, shape) for name, text, key, noun, answer in _RECORDS}
    return {**CATALOGUE, **found}


def _kind(name: str, description: str, key: str, noun: str, answer: Answer, shape: Shape) -> Kind:
    parameters: Mapping[str, Any] = {
        "properties": {key: {"type": "string"}},
        "required": [key],
        "type": "object",
    }

    def run(world: World, arguments: Mapping[str, Any], names: Names) -> str:
        return answer(world, shape, names, str(arguments[key]))

    def ask(rng: Random, names: Names) -> Lookup:
        pool = {"item": names.items, "town": names.towns, "person": names.people}[key]
        value = rng.choice(pool)
        return Lookup(name, {key: value}, noun.format(**{key: value}))

    return Kind(ToolSpec(name, description, parameters), noun, run, ask)


NOUNS: Mapping[str, str] = {name: kind.noun for name, kind in record_tools(Shape()).items()}
"""Tool -> what it finds, to be filled with its arguments."""
