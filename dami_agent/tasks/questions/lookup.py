"""Lookup and order: no arithmetic. Small tables, a ball passed from hand to hand, who is taller than whom."""

from __future__ import annotations

from itertools import pairwise
from random import Random

from dami_agent.tasks.model import Note, Question
from dami_agent.tasks.questions.sizes import Size, Unseen
from dami_agent.tasks.words import some_people

HOPS = {1: (1,), 2: (1,), 3: (2,), 4: (3, 5), 5: (5, 7)}
ROW = {4: (4, 5), 5: (5, 7)}
HELD_HOPS = {1: 4, 2: 4, 3: 4, 4: 4, 5: 6}
HELD_ROW = 6
"""Passes of the ball and people in a row per level, and those never trained on."""

_ORDINALS = ("", "second ", "third ", "fourth ")


def draw(rng: Random, level: int, size: Size, unseen: Unseen | None = None) -> Question:
    """One question; the unseen template asks about the ball before telling who passes it."""
    roll = rng.random()
    if unseen not in ("template", "length") and (roll < 0.4 if level == 3 else level == 2 and roll < 0.2):
        return _table(rng, 1, level, unseen)
    if roll < 0.6 or unseen == "template" or (level <= 3 and unseen != "length"):
        return _ball(rng, level, HELD_HOPS[level] if unseen == "length" else rng.choice(HOPS[level]), unseen)
    return _order(rng, level, HELD_ROW if unseen == "length" else rng.choice(ROW[level]), unseen)


def practice(rng: Random, size: Size) -> Question:
    """Any kind with any trained length."""
    level, roll = rng.choice(tuple(HOPS)), rng.random()
    if roll < 0.25:
        return _table(rng, rng.choice((1, 2)), level, None)
    if roll < 0.7:
        return _ball(rng, level, rng.choice((1, 2, 3, 5, 7, 8)), None)
    return _order(rng, level, rng.choice((3, 4, 5, 7)), None)


def _question(
    level: int, parts: list[str], answer: str | int, work: tuple[Note, ...], unseen: Unseen | None
) -> Question:
    return Question("lookup", level, " ".join(parts), answer, work, (unseen,) if unseen else ())


def _ball(rng: Random, level: int, hops: int, unseen: Unseen | None) -> Question:
    """Everyone passes to one other: Ana to Ben, Ben to Leo ... Ana has the ball. Who has it after 2 passes?"""
    count = max(hops + 1, rng.randint(3, 5) + level // 2)
    names = some_people(rng, count, held=unseen == "name")
    after = dict(zip(names, [*names[1:], rng.choice(names[:-1])], strict=True))
    passes = [f"{giver} to {taker}" for giver, taker in after.items()]
    rng.shuffle(passes)
    holder, work = names[0], []
    for index in range(hops):
        work.append(Note(after[holder], f"pass {index + 1}, {holder} to {after[holder]}"))
        holder = after[holder]
    work[-1] = Note(holder, work[-1].line, f"{hops} done")
    told = f"The ball goes {', '.join(passes)}."
    times = "1 pass" if hops == 1 else f"{hops} passes"
    ask = f"{names[0]} has it first. Who has it after {times}?"
    parts = [ask, told] if unseen == "template" else [told, ask]
    return _question(level, parts, holder, tuple(work), unseen)


def _order(rng: Random, level: int, count: int, unseen: Unseen | None) -> Question:
    """Ana is taller than Ben. Leo is taller than Ana. Who is the tallest?"""
    names = some_people(rng, count, held=unseen == "name")
    facts = [f"{upper} is taller than {lower}." for upper, lower in pairwise(names)]
    rng.shuffle(facts)
    place = 0 if level <= 2 else rng.randrange(min(count, 2 + level // 2, 4))
    shortest = level <= 3 and rng.random() < 0.4
    order = names[::-1] if shortest else names
    place = 0 if shortest else place
    work = _climb(order, order.index(facts[0].split()[-1].rstrip(".") if shortest else facts[0].split()[0]), shortest)
    work += [Note(order[i + 1], f"then {order[i + 1]}") for i in range(place)]
    ask = "Who is the shortest?" if shortest else f"Who is the {_ORDINALS[place]}tallest?"
    return _question(level, [*facts, ask], order[place], tuple(work), unseen)


def _climb(order: list[str], start: int, down: bool) -> list[Note]:
    """From one end of the first fact to the end of the row that is asked for."""
    word = "under" if down else "over"
    climb = [(order[index - 1], order[index]) for index in range(start, 0, -1)]
    work = [Note(above, f"{above} is {word} {below}") for above, below in climb]
    return [*work, Note(order[0], f"nobody is {word} {order[0]}")]


def _table(rng: Random, ways: int, level: int, unseen: Unseen | None) -> Question:
    """Ana: room 12, phone 45. Ben: room 31, phone 17. In which room is Ben? With two `ways` also: who is in room 31?"""
    count = rng.choice((2, 3, 4)) if ways == 1 else rng.choice((4, 5, 7))
    names = some_people(rng, count, held=unseen == "name")
    rooms, phones = (rng.sample(range(10, 100), count) for _ in range(2))
    rows = [f"{name}: room {room}, phone {phone}." for name, room, phone in zip(names, rooms, phones, strict=True)]
    chosen = rng.randrange(count)
    row = Note(rows[chosen].rstrip("."), f"the row is {rows[chosen].rstrip('.')}")
    asks: list[tuple[str, str | int]] = [
        (f"In which room is {names[chosen]}?", rooms[chosen]),
        (f"Which phone does {names[chosen]} have?", phones[chosen]),
    ]
    if ways > 1:
        asks += [
            (f"Who is in room {rooms[chosen]}?", names[chosen]),
            (f"Which phone is in room {rooms[chosen]}?", phones[chosen]),
        ]
    ask, answer = rng.choice(asks)
    return _question(level, [*rows, ask], answer, (row, Note(str(answer), f"that is {answer}")), unseen)
