"""A seeded little world that answers every lookup from a hash, the names it knows, and the lookups that fail in it.

It needs no storage, always says the same thing twice, and cannot be guessed. A few lookups, chosen by the same hash,
fail with a text that says what to ask for instead; asking for that always works.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from dami_agent.tasks import words
from dami_agent.tasks.task import digest

FAILURES = 6
"""Per cent of lookups that fail and say what to ask for instead."""


@dataclass(frozen=True)
class Names:
    """What a task talks about."""

    people: tuple[str, ...]
    items: tuple[str, ...]
    towns: tuple[str, ...]

    def person(self, rng: Random) -> tuple[str, str]:
        """Draw a name and its pronoun; made-up names have one by chance, but always the same."""
        name = rng.choice(self.people)
        her = name in _HER or (name not in _HIS and digest(name) % 2 == 0)
        return name, "She" if her else "He"

    def some_people(self, rng: Random, count: int, *, but: str = "") -> list[str]:
        """Different names without `but`."""
        return rng.sample([name for name in self.people if name != but], count)

    def some_items(self, rng: Random, count: int) -> list[str]:
        """Different things."""
        return rng.sample(self.items, count)


SEEN = Names(words.PEOPLE, words.ITEMS, words.TOWNS)
HELD = Names(words.HELD_PEOPLE, words.HELD_ITEMS, words.HELD_TOWNS)
"""Names that tasks usually have, and names that training never has."""

_HER = {*words.HER, *words.HELD_HER}
_HIS = {*words.HIS, *words.HELD_HIS}
_NEVER = {word.lower() for pool in (HELD.people, HELD.items, HELD.towns) for word in pool}
_NEVER |= {words.plural(item) for item in HELD.items}


def invented_names(rng: Random) -> Names:
    """Names for one training task, most of them made-up words: whoever copies these can copy a name never seen."""
    people, things, towns = (_invented(rng, count) for count in (12, 5, 4))
    return Names(
        (*(name.capitalize() for name in people), *rng.sample(words.PEOPLE, 3)),
        (*things, *rng.sample(words.ITEMS, 2)),
        (*(name.capitalize() for name in towns), *rng.sample(words.TOWNS, 1)),
    )


def _invented(rng: Random, count: int) -> list[str]:
    """Different made-up words, none of them a held-out name."""
    found: dict[str, None] = {}
    while len(found) < count:
        word = words.made_up(rng, "train", rng.choice((1, 2, 2)))
        if word not in _NEVER:
            found[word] = None
    return list(found)


@dataclass(frozen=True)
class World:
    """A little world: `value("price", "lamp")` is a number in low..high that depends on the seed and the words."""

    seed: int

    def value(self, low: int, high: int, *key: object) -> int:
        """Return a whole number in low..high, fixed by the world's seed and the key."""
        return low + digest(f"world:{self.seed}:" + ":".join(map(str, key))) % (high - low + 1)


def mended(world: World, tool: str, arguments: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """Return the error that a lookup gives and the arguments that its text asks for; None for a lookup that works.

    Only a plain word or number as the first argument can fail, and what is asked for instead never is one.
    """
    if not arguments or tool == "convert_units":
        return None
    key = ":".join(str(value).lower() for value in arguments.values())
    roll = world.value(0, 9999, "failure", tool, key)
    if roll >= FAILURES * 100:
        return None
    name, value = next(iter(arguments.items()))
    found = _better_number(value, roll) if isinstance(value, int) else _better_name(name, str(value), roll)
    return (f"Error: {found[0]}", {**arguments, name: found[1]}) if found else None


def _better_number(value: int, roll: int) -> tuple[str, int] | None:
    if not 0 <= value < 1000:
        return None
    better = 1000 + 1000 * (roll % 9) + value
    forms = ("number {0} is now {1}.", "there is no {0}. Ask for {1}.", "use {1} for {0}.")
    return forms[roll % len(forms)].format(value, better), better


def _better_name(key: str, value: str, roll: int) -> tuple[str, str] | None:
    """By what the argument is: a town's code, a fuller name, a numbered thing; these are no plain words any more."""
    if not value.isalpha() or value.isupper():
        return None
    if key in ("town", "start"):
        better = value[:3].upper()
        forms: tuple[str, ...] = ("{0} is listed as {1}.", "there is no {0}. Ask for {1}.", "the code of {0} is {1}.")
    elif key == "person":
        better = f"{value} {'ABDEKLMRST'[roll % 10]}"
        forms = ("there are two. Ask for {1}.", "{0} is listed as {1}.", "which {0}? Ask for {1}.")
    else:
        better = f"{value} {2 + roll % 8}"
        forms = ("no {0} here. Ask for {1}.", "{0} is listed as {1}.", "there is only {1}.")
    return forms[roll % len(forms)].format(value, better), better
