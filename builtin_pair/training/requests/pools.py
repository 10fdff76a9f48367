"""What slots of requests are filled with: names and words of all kinds, and values made up from letters and digits."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

from dami_agent.tasks import words

_WORDS: Mapping[str, list[str]] = json.loads(Path(__file__).with_name("pools.json").read_text(encoding="utf-8"))


def person(rng: Random) -> str:
    """Draw a first name, a full name, a title with a surname, or a name that nobody has."""
    roll = rng.random()
    if roll < 0.3:
        return rng.choice(_WORDS["people"])
    if roll < 0.5:
        return f"{rng.choice(_WORDS['people'])} {rng.choice(_WORDS['surnames'])}"
    if roll < 0.7:
        return f"{rng.choice(_WORDS['titles'])} {rng.choice(_WORDS['surnames'])}"
    made = words.made_up(rng, "train").capitalize()
    return made if roll < 0.9 else f"{made} {words.made_up(rng, 'train').capitalize()}"


def code(rng: Random) -> str:
    """Draw an id of letters and digits: `A17`, `KX-204`, `F-889`, `ord_88`."""
    letters = "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(rng.randint(1, 3)))
    number = str(rng.randint(1, 10 ** rng.randint(2, 5)))
    return rng.choice((letters + number, f"{letters}-{number}", f"{letters.lower()}_{number}", number + letters))


def _either(pool: list[str], share: float = 0.25) -> Callable[[Random], str]:
    """Draw from a pool, or at times a made-up word, so that copying is learned and not the pool."""
    return lambda rng: words.made_up(rng, "train") if rng.random() < share else rng.choice(pool)


POOLS: Mapping[str, Callable[[Random], str]] = {
    "person": person,
    "first_name": lambda rng: rng.choice(_WORDS["people"]),
    "surname": lambda rng: rng.choice(_WORDS["surnames"]),
    "town": lambda rng: (
        rng.choice(_WORDS["towns"]) if rng.random() < 0.75 else words.made_up(rng, "train").capitalize()
    ),
    "weekday": lambda rng: rng.choice(_WORDS["days"]),
    "month": lambda rng: rng.choice(_WORDS["months"]),
    "date": lambda rng: f"{rng.randint(1, 28)} {rng.choice(_WORDS['months'])}",
    "time": lambda rng: f"{rng.randint(7, 22)}:{rng.choice(('00', '15', '30', '45'))}",
    "code": code,
    "colour": lambda rng: rng.choice(_WORDS["colours"]),
    "animal": lambda rng: rng.choice(_WORDS["animals"]),
    "food": _either(_WORDS["foods"]),
    "thing": _either(_WORDS["things"]),
    "place": _either(_WORDS["places"], 0.15),
    "word": lambda rng: words.english(rng, "train"),
    "made_up": lambda rng: words.made_up(rng, "train"),
    "phone": lambda rng: str(rng.randint(100_000, 9_999_999)),
    "company": lambda rng: words.made_up(rng, "train").capitalize() + rng.choice(("", "", " Ltd", " & Sons", " Group")),
}
"""Pool -> what draws from it."""
