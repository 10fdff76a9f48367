"""The demo's kinds of tools: twelve pure functions over a seeded little world.

A `World` answers every lookup from a hash of its seed and the arguments, so it needs no storage, always says the same
thing twice, and cannot be guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from dami_agent.tasks.model import Tool, ToolSpec, digest
from dami_agent.tasks.words import DAYS, DISHES, ITEMS, PEOPLE, TOWNS, plural

UNITS = {"weeks": 7, "dozens": 12, "feet": 12, "nickels": 5}
"""Unit -> how many of the smaller unit (days, pieces, inches, cents) make one."""


@dataclass(frozen=True)
class World:
    """A little world: `value("price", "lamp")` is a number in low..high that depends on the seed and the words."""

    seed: int

    def value(self, low: int, high: int, *key: object) -> int:
        """A whole number in low..high, fixed by the world's seed and the key."""
        return low + digest(f"world:{self.seed}:" + ":".join(map(str, key))) % (high - low + 1)


@dataclass(frozen=True)
class Lookup:
    """One use of a tool: its arguments, and how people ask for it (`the price of a lamp`)."""

    tool: str
    arguments: Mapping[str, Any]
    phrase: str


@dataclass(frozen=True)
class Kind:
    """A kind of tool: what the model sees, what it does, and how people ask for it."""

    spec: ToolSpec
    run: Callable[..., str]
    ask: Callable[[Random], Lookup]

    def bind(self, world: World) -> Tool:
        """The tool, working on one world."""
        run = self.run
        return Tool(self.spec, lambda **arguments: run(world, **arguments))


def _spec(name: str, description: str, **arguments: str) -> ToolSpec:
    """A spec in the key order LangChain's `convert_to_openai_tool` writes."""
    parameters: dict[str, Any] = {"properties": {key: {"type": kind} for key, kind in arguments.items()}}
    if arguments:
        parameters["required"] = list(arguments)
    parameters["type"] = "object"
    return ToolSpec(name, description, parameters)


def _number(low: int, high: int, *key: str) -> Callable[..., str]:
    """A lookup of a number by the tool's arguments, named in the order of `key[1:]`."""

    def run(world: World, **arguments: object) -> str:
        return str(world.value(low, high, key[0], *(str(arguments[name]).lower() for name in key[1:])))

    return run


def _convert(_world: World, amount: object = 0, unit: object = "") -> str:
    factor = UNITS.get(str(unit).lower())
    if factor is None or not isinstance(amount, int | float):
        return f"Error: cannot convert {amount} {unit}."
    return str(int(amount * factor))


def _a(word: str) -> str:
    return ("an " if word[0] in "aeiou" else "a ") + word


def _price(rng: Random) -> Lookup:
    item = rng.choice(ITEMS)
    return Lookup("get_price", {"item": item}, rng.choice((f"the price of {_a(item)}", f"the cost of {_a(item)}")))


def _stock(rng: Random) -> Lookup:
    item = rng.choice(ITEMS)
    return Lookup(
        "get_stock",
        {"item": item},
        rng.choice((f"the stock of {plural(item)}", f"the number of {plural(item)} in stock")),
    )


def _distance(rng: Random) -> Lookup:
    start, end = rng.sample(TOWNS, 2)
    phrase = rng.choice((f"the distance from {start} to {end}", f"the way from {start} to {end} in km"))
    return Lookup("get_distance", {"start": start, "end": end}, phrase)


def _temperature(rng: Random) -> Lookup:
    town = rng.choice(TOWNS)
    return Lookup("read_temperature", {"town": town}, f"the temperature in {town}")


def _fare(rng: Random) -> Lookup:
    town = rng.choice(TOWNS)
    return Lookup("ticket_fare", {"town": town}, rng.choice((f"the fare to {town}", f"the train fare to {town}")))


def _extension(rng: Random) -> Lookup:
    person = rng.choice(PEOPLE)
    phrase = rng.choice((f"the phone extension of {person}", f"the extension of {person}"))
    return Lookup("find_extension", {"person": person}, phrase)


def _room(rng: Random) -> Lookup:
    number = rng.randint(100, 399)
    return Lookup("room_of", {"extension": number}, f"the room of extension {number}")


def _meetings(rng: Random) -> Lookup:
    person, day = rng.choice(PEOPLE), rng.choice(DAYS)
    phrase = rng.choice((f"the number of meetings {person} has on {day}", f"the meetings of {person} on {day}"))
    return Lookup("count_meetings", {"person": person, "day": day}, phrase)


def _seats(rng: Random) -> Lookup:
    train = rng.randint(10, 99)
    return Lookup(
        "free_seats",
        {"train": train},
        rng.choice((f"the free seats on train {train}", f"the seats left on train {train}")),
    )


def _portion(rng: Random) -> Lookup:
    dish = rng.choice(DISHES)
    return Lookup("portion_weight", {"dish": dish}, f"the weight of one portion of {dish}")


def _budget(_rng: Random) -> Lookup:
    return Lookup("get_budget", {}, "the money left in the budget")


def _conversion(rng: Random) -> Lookup:
    amount, unit = rng.randint(2, 20), rng.choice(tuple(UNITS))
    return Lookup("convert_units", {"amount": amount, "unit": unit}, f"the conversion of {amount} {unit}")


def _kinds() -> tuple[Kind, ...]:
    text, whole = "string", "integer"
    return (
        Kind(_spec("get_price", "Get the price of an item.", item=text), _number(3, 25, "price", "item"), _price),
        Kind(_spec("get_stock", "Count an item in stock.", item=text), _number(20, 90, "stock", "item"), _stock),
        Kind(
            _spec("get_distance", "Distance between two towns in km.", start=text, end=text),
            _number(5, 60, "distance", "start", "end"),
            _distance,
        ),
        Kind(
            _spec("read_temperature", "Read the temperature in a town.", town=text),
            _number(2, 38, "temperature", "town"),
            _temperature,
        ),
        Kind(_spec("ticket_fare", "Train fare to a town.", town=text), _number(5, 45, "fare", "town"), _fare),
        Kind(
            _spec("find_extension", "Find the phone extension of a person.", person=text),
            _number(100, 399, "extension", "person"),
            _extension,
        ),
        Kind(
            _spec("room_of", "Find the room of a phone extension.", extension=whole),
            _number(2, 98, "room", "extension"),
            _room,
        ),
        Kind(
            _spec("count_meetings", "Count the meetings of a person on a day.", person=text, day=text),
            _number(1, 9, "meetings", "person", "day"),
            _meetings,
        ),
        Kind(_spec("free_seats", "Free seats on a train.", train=whole), _number(11, 80, "seats", "train"), _seats),
        Kind(
            _spec("portion_weight", "Weight of one portion of a dish.", dish=text),
            _number(8, 30, "portion", "dish"),
            _portion,
        ),
        Kind(_spec("get_budget", "Money left in the budget."), _number(100, 200, "budget"), _budget),
        Kind(
            _spec("convert_units", "Convert an amount to a smaller unit.", amount=whole, unit=text),
            _convert,
            _conversion,
        ),
    )


CATALOGUE: Mapping[str, Kind] = {kind.spec.name: kind for kind in _kinds()}
"""Tool name -> kind."""
