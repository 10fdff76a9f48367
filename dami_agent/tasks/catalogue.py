"""The demo's kinds of tools: seventeen pure functions over a seeded little world."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from dami_agent.tasks.task import TaskTool, ToolSpec
from dami_agent.tasks.words import DAYS, DISHES, an, plural
from dami_agent.tasks.world import HELD, SEEN, Names, World, mended

UNITS = {"weeks": 7, "dozens": 12, "feet": 12, "nickels": 5}
"""Unit -> how many of the smaller unit (days, pieces, inches, cents) make one."""


@dataclass(frozen=True)
class Lookup:
    """One use of a tool: its arguments, and how people ask for it (`the price of a lamp`)."""

    tool: str
    arguments: Mapping[str, Any]
    phrase: str = ""


@dataclass(frozen=True)
class Kind:
    """A kind of tool: what the model sees, what it does, and how people ask for it.

    `noun` is what it finds, to be filled with the arguments: `the price of {item}`; `ask` draws one use of it.
    """

    spec: ToolSpec
    noun: str
    answer: Callable[[World, Mapping[str, Any], Names], str]
    ask: Callable[[Random, Names], Lookup]

    def run(self, world: World, arguments: Mapping[str, Any], names: Names = SEEN) -> str:
        """Return what the tool answers in one world of `names`: the result, or an error that says what to ask for."""
        found = mended(world, self.spec.name, arguments)
        return found[0] if found else self.answer(world, arguments, names)

    def bind(self, world: World, names: Names = SEEN) -> TaskTool:
        """Return the tool, working on one world of `names`."""
        return TaskTool(self.spec, lambda **arguments: self.run(world, arguments, names))


# -- what tools answer -----------------------------------------------------------------------------------------------


def _key(arguments: Mapping[str, Any]) -> list[str]:
    return [str(value).lower() for value in arguments.values()]


_Answer = Callable[[World, Mapping[str, Any], Names], str]


def _number(low: int, high: int, what: str) -> _Answer:
    """Return a lookup of a number."""
    return lambda world, arguments, _names: str(world.value(low, high, what, *_key(arguments)))


def _one_of(what: str) -> _Answer:
    """Return a lookup of a person or town, never the one asked about; of an unseen name for an unseen name."""

    def answer(world: World, arguments: Mapping[str, Any], names: Names) -> str:
        asked = _key(arguments)[0].split(" ")[0]
        known = HELD if asked.capitalize() in HELD.people + HELD.towns else names
        pool = [name for name in (known.people if what == "boss" else known.towns) if name.lower() != asked]
        return pool[world.value(0, len(pool) - 1, what, *_key(arguments))]

    return answer


def _convert(_world: World, arguments: Mapping[str, Any], _names: Names) -> str:
    amount, unit = arguments.get("amount"), arguments.get("unit")
    factor = UNITS.get(str(unit).lower())
    if factor is None or not isinstance(amount, int | float):
        return f"Error: cannot convert {amount} {unit}."
    return str(int(amount * factor))


# -- how people ask --------------------------------------------------------------------------------------------------

_Ask = Callable[[Random, Names], tuple[dict[str, Any], tuple[str, ...]]]
"""Draws the arguments and the phrases that ask for them."""


def _item(*phrases: str) -> _Ask:
    def ask(rng: Random, names: Names) -> tuple[dict[str, Any], tuple[str, ...]]:
        item = rng.choice(names.items)
        return {"item": item}, tuple(text.format(an(item), plural(item)) for text in phrases)

    return ask


def _of(key: str, draw: Callable[[Random, Names], Any], *phrases: str) -> _Ask:
    def ask(rng: Random, names: Names) -> tuple[dict[str, Any], tuple[str, ...]]:
        value = draw(rng, names)
        return {key: value}, tuple(text.format(value) for text in phrases)

    return ask


def _person(rng: Random, names: Names) -> str:
    return rng.choice(names.people)


def _town(rng: Random, names: Names) -> str:
    return rng.choice(names.towns)


def _whole(low: int, high: int) -> Callable[[Random, Names], int]:
    return lambda rng, _names: rng.randint(low, high)


def _way(rng: Random, names: Names) -> tuple[dict[str, Any], tuple[str, ...]]:
    start, end = rng.sample(names.towns, 2)
    return {"start": start, "end": end}, (f"the distance from {start} to {end}", f"the way from {start} to {end} in km")


def _meetings(rng: Random, names: Names) -> tuple[dict[str, Any], tuple[str, ...]]:
    person, day = rng.choice(names.people), rng.choice(DAYS)
    phrases = (f"the number of meetings {person} has on {day}", f"the meetings of {person} on {day}")
    return {"person": person, "day": day}, phrases


def _amount(rng: Random, _names: Names) -> tuple[dict[str, Any], tuple[str, ...]]:
    amount, unit = rng.randint(2, 20), rng.choice(tuple(UNITS))
    return {"amount": amount, "unit": unit}, (f"the conversion of {amount} {unit}",)


def _kind(
    name: str,
    description: str,
    arguments: Mapping[str, str],
    noun: str,
    answer: _Answer,
    ask: _Ask,
) -> Kind:
    """Return a kind whose spec has the key order LangChain's `convert_to_openai_tool` writes."""
    parameters: dict[str, Any] = {"properties": {key: {"type": kind} for key, kind in arguments.items()}}
    if arguments:
        parameters["required"] = list(arguments)
    parameters["type"] = "object"

    def asked(rng: Random, names: Names) -> Lookup:
        values, phrases = ask(rng, names)
        return Lookup(name, values, rng.choice(phrases))

    return Kind(ToolSpec(name, description, parameters), noun, answer, asked)


def _kinds() -> tuple[Kind, ...]:
    item, town, person = {"item": "string"}, {"town": "string"}, {"person": "string"}
    whole, two, day = "integer", {"start": "string", "end": "string"}, {"person": "string", "day": "string"}
    price, stock = ("the price of {0}", "the cost of {0}"), ("the stock of {1}", "the number of {1} in stock")
    heat, fare = ("the temperature in {0}",), ("the fare to {0}", "the train fare to {0}")
    phone, room = ("the phone extension of {0}", "the extension of {0}"), ("the room of extension {0}",)
    seats, chairs = ("the free seats on train {0}", "the seats left on train {0}"), ("the number of seats in room {0}",)
    made = _kind
    return (
        made(
            "get_price",
            "Get the price of an item.",
            item,
            "the price of {item}",
            _number(4, 60, "price"),
            _item(*price),
        ),
        made(
            "get_stock", "Count an item in stock.", item, "the stock of {item}", _number(20, 90, "stock"), _item(*stock)
        ),
        made(
            "get_distance",
            "Distance between two towns in km.",
            two,
            "the distance from {start} to {end}",
            _number(12, 180, "distance"),
            _way,
        ),
        made(
            "read_temperature",
            "Read the temperature in a town.",
            town,
            "the temperature in {town}",
            _number(2, 38, "temperature"),
            _of("town", _town, *heat),
        ),
        made(
            "ticket_fare",
            "Train fare to a town.",
            town,
            "the fare to {town}",
            _number(5, 60, "fare"),
            _of("town", _town, *fare),
        ),
        made(
            "find_extension",
            "Find the phone extension of a person.",
            person,
            "the extension of {person}",
            _number(100, 399, "extension"),
            _of("person", _person, *phone),
        ),
        made(
            "room_of",
            "Find the room of a phone extension.",
            {"extension": whole},
            "the room of {extension}",
            _number(2, 98, "room"),
            _of("extension", _whole(100, 399), *room),
        ),
        made(
            "seats_in",
            "Count the seats in a room.",
            {"room": whole},
            "the seats in room {room}",
            _number(12, 90, "seats in"),
            _of("room", _whole(2, 98), *chairs),
        ),
        made(
            "count_meetings",
            "Count the meetings of a person on a day.",
            day,
            "the meetings of {person} on {day}",
            _number(1, 9, "meetings"),
            _meetings,
        ),
        made(
            "boss_of",
            "Name the boss of a person.",
            person,
            "the boss of {person}",
            _one_of("boss"),
            _of("person", _person, "the boss of {0}", "the name of the boss of {0}"),
        ),
        made(
            "town_of",
            "Name the town a person lives in.",
            person,
            "the town of {person}",
            _one_of("town"),
            _of("person", _person, "the town {0} lives in", "the town of {0}"),
        ),
        made(
            "next_train",
            "Number of the next train to a town.",
            town,
            "the next train to {town}",
            _number(10, 99, "train"),
            _of("town", _town, "the number of the next train to {0}", "the next train to {0}"),
        ),
        made(
            "free_seats",
            "Free seats on a train.",
            {"train": whole},
            "the free seats on train {train}",
            _number(11, 80, "seats"),
            _of("train", _whole(10, 99), *seats),
        ),
        made(
            "portion_weight",
            "Weight of one portion of a dish.",
            {"dish": "string"},
            "the weight of {dish}",
            _number(8, 60, "portion"),
            _of("dish", lambda rng, _names: rng.choice(DISHES), "the weight of one portion of {0}"),
        ),
        made(
            "postage",
            "Postage for a parcel by its weight.",
            {"weight": whole},
            "the postage for {weight}",
            _number(3, 90, "postage"),
            _of("weight", _whole(10, 150), "the postage for a weight of {0}"),
        ),
        made(
            "get_budget",
            "Money left in the budget.",
            {},
            "the budget",
            _number(260, 900, "budget"),
            lambda _rng, _names: ({}, ("the money left in the budget",)),
        ),
        made(
            "convert_units",
            "Convert an amount to a smaller unit.",
            {"amount": whole, "unit": "string"},
            "{amount} {unit} in a smaller unit",
            _convert,
            _amount,
        ),
    )


CATALOGUE: Mapping[str, Kind] = {kind.spec.name: kind for kind in _kinds()}
"""Tool name -> kind."""
