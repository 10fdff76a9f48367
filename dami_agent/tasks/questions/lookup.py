"""Lookup and order: no arithmetic. Small tables, a ball passed from hand to hand, who is taller than whom."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from random import Random

from dami_agent.tasks.questions.sizes import Size, Unseen
from dami_agent.tasks.task import Note, Question
from dami_agent.tasks.world import SEEN, Names

HOPS = {1: 1, 2: 1, 3: 1, 4: 5, 5: 8}
ROW = (5, 7)
HELD_HOPS = {1: 4, 2: 4, 3: 4, 4: 6, 5: 6}
HELD_ROW = 6
"""Passes of the ball per level and people in a row, and those never trained on."""

KINDS: dict[int, tuple[str, ...]] = {
    1: ("ball",),
    2: ("ball",),
    3: ("letter",),
    4: ("ball", "letter", "table", "order", "column"),
    5: ("ball", "letter"),
}
"""What is asked per level; a column is a table read from its second one."""

ROWS = (3, 4)
COLUMN_ROWS = (4, 5, 7)
"""Rows of a table read forwards, and of one read from its second column."""

_ORDINALS = ("", "second ")


def draw(rng: Random, level: int, size: Size, unseen: Unseen | None = None, names: Names = SEEN) -> Question:
    """Draw one question; unseen templates ask about the ball, or say who has it first, before telling who passes it.

    Levels 1 and 2 have one pass among few and among more people, level 3 one told in any other way, level 4 five, rows
    of people and tables, some read backwards (who is in a room), level 5 more passes.

    Args:
        rng: the random stream.
        level: 1 (easiest) to 5.
        size: how many operations, and how large the numbers.
        unseen: what training never shows of it; None for nothing.
        names: the people, things and towns it talks about.
    """
    hops = HELD_HOPS[level] if unseen == "length" else HOPS[level]
    if unseen == "template" or (unseen == "length" and level <= 3):
        return _ball(rng, level, hops, unseen, names)
    kind = rng.choice(("ball", "order") if unseen == "length" else KINDS[level])
    if kind == "order":
        return _order(rng, level, HELD_ROW if unseen == "length" else rng.choice(ROW), unseen, names)
    if kind in ("table", "column"):
        return _table(rng, kind == "column", level, unseen, names)
    return (_ball if kind == "ball" else _letter)(rng, level, hops, unseen, names)


def practice(rng: Random, size: Size, names: Names) -> Question:
    """Any kind with any trained length."""
    level, roll = rng.choice(tuple(HOPS)), rng.random()
    if roll < 0.25:
        return _table(rng, rng.random() < 0.5, level, None, names)
    if roll < 0.7:
        kind = rng.choice((_ball, _letter))
        return kind(rng, level, rng.choice((1, 2, 3, 5, 7, 8, 10)), None, names)
    return _order(rng, level, rng.choice((3, 4, 5, 7, 9)), None, names)


def _question(
    kind: str,
    level: int,
    told: list[str],
    ask: str,
    answer: str | int,
    work: tuple[Note, ...],
    unseen: Unseen | None,
    first: bool,
) -> Question:
    """Return the question after what is told, or `first`."""
    parts = [ask, *told] if first else [*told, ask]
    return Question("lookup", level, " ".join(parts), answer, work, (unseen,) if unseen else (), kind)


@dataclass(frozen=True)
class _Passes:
    """Everyone passes to one other: who passes to whom in the order it is told, who begins, who has it at the end."""

    pairs: list[tuple[str, str]]
    first: str
    last: str
    work: tuple[Note, ...]


def _passes(rng: Random, level: int, hops: int, names: Names) -> _Passes:
    count = max(hops + 1, rng.randint(3, 5) + level // 2)
    people = names.some_people(rng, count)
    after = dict(zip(people, [*people[1:], rng.choice(people[:-1])], strict=True))
    pairs = list(after.items())
    rng.shuffle(pairs)
    holder, work = people[0], []
    for left in range(hops, 0, -1):
        work.append(Note(after[holder], f"{left} left, {holder} to {after[holder]}"))
        holder = after[holder]
    work[-1] = Note(holder, work[-1].line, "0 left")
    return _Passes(pairs, people[0], holder, tuple(work))


def _times(hops: int) -> str:
    return "1 pass" if hops == 1 else f"{hops} passes"


def _goes(thing: str, made: _Passes) -> str:
    return f"The {thing} goes {', '.join(f'{giver} to {taker}' for giver, taker in made.pairs)}."


def _ball(rng: Random, level: int, hops: int, unseen: Unseen | None, names: Names) -> Question:
    """Return the ball goes Ana to Ben, Ben to Leo, ... Ana has it first. Who has it after 2 passes?"""
    made = _passes(rng, level, hops, names)
    if unseen == "template" and rng.random() < 0.5:
        told = [f"{made.first} has the ball first.", _goes("ball", made)]
        ask = f"Who has the ball after {_times(hops)}?"
        return _question("passes", level, told, ask, made.last, made.work, unseen, False)
    ask = f"{made.first} has it first. Who has it after {_times(hops)}?"
    return _question("passes", level, [_goes("ball", made)], ask, made.last, made.work, unseen, unseen == "template")


_THINGS = ("letter", "book", "key")
_BEGINS = ("The {0} starts at {1}.", "The {0} is with {1}.", "{1} begins with the {0}.", "First {1} has it.")
_ASKS = ("Who has the {0} after {1}?", "After {1}, who has the {0}?", "Who has it after {1}?")
_GIVES = ("{0} gives to {1}.", "{0} passes to {1}.", "{0} hands it to {1}.")


def _letter(rng: Random, level: int, hops: int, unseen: Unseen | None, names: Names) -> Question:
    """Ana gives to Ben. Ben gives to Leo. ... The letter starts at Ana. Who has the letter after 2 passes?

    Or `The letter goes Ana to Ben, Ben to Leo.`, as a ball is told. It can be any thing but a ball, and what is told,
    where it starts and the question come in any order.
    """
    made = _passes(rng, level, hops, names)
    thing = rng.choice((*_THINGS, *(item for item in names.items if item != "ball")))
    form = rng.choice(_GIVES)
    gives = [form.format(giver, taker) for giver, taker in made.pairs]
    told = gives if rng.random() < 0.5 else [_goes(thing, made)]
    begins = rng.choice(_BEGINS).format(thing, made.first)
    ask = rng.choice(_ASKS).format(thing, _times(hops))
    apart, together = ([begins, *told], ask), (told, f"{begins} {ask}")
    (parts, asked), first = rng.choice(((apart, False), (together, False), (together, True), (apart, True)))
    return _question("passes", level, parts, asked, made.last, made.work, unseen, first)


def _order(rng: Random, level: int, count: int, unseen: Unseen | None, names: Names) -> Question:
    """Ana is shorter than Ben. Leo is shorter than Ana. Who is the tallest?

    Facts lead to the end that is asked for, so that one climbs from fact to fact in reading direction.
    """
    people = names.some_people(rng, count)
    shortest = rng.random() < 0.4
    word, end = ("taller", "shortest") if shortest else ("shorter", "tallest")
    facts = [f"{one} is {word} than {other}." for other, one in pairwise(people)]
    rng.shuffle(facts)
    place = rng.randrange(2) if level >= 4 else 0
    start = people.index(facts[0].split()[0])
    climb = [(people[index], people[index - 1]) for index in range(start, 0, -1)]
    work = [Note(above, f"{below} is {word} than {above}") for below, above in climb]
    work.append(Note(people[0], f"{people[0]} is the {end}"))
    if place:
        work.append(Note(people[1], f"then {people[1]}"))
    ask = f"Who is the {_ORDINALS[place]}{end}?"
    return _question("order", level, facts, ask, people[place], tuple(work), unseen, rng.random() < 0.3)


def _table(rng: Random, backwards: bool, level: int, unseen: Unseen | None, names: Names) -> Question:
    """Ana: room 12, phone 45. Ben: room 31, phone 17. In which room is Ben? `backwards`: who is in room 31?

    Backwards a table is worked through row by row, in reading direction.
    """
    count = rng.choice(COLUMN_ROWS if backwards else ROWS)
    people = names.some_people(rng, count)
    rooms, phones = (rng.sample(range(10, 100), count) for _ in range(2))
    rows = [f"{name}: room {room}, phone {phone}." for name, room, phone in zip(people, rooms, phones, strict=True)]
    chosen = rng.randrange(count)
    name, room, phone = people[chosen], rooms[chosen], phones[chosen]
    asks: tuple[tuple[str, str | int], ...]
    if backwards:
        asks = (f"Who is in room {room}?", name), (f"Which phone is in room {room}?", phone)
        passed = zip(people[:chosen], rooms, strict=False)
        work = [
            *(Note(each, f"{each} has {other}, not {room}") for each, other in passed),
            Note(name, f"{name} has {room}"),
        ]
    else:
        asks = (f"In which room is {name}?", room), (f"Which phone does {name} have?", phone)
        work = [Note(rows[chosen].rstrip("."), f"the row is {rows[chosen].rstrip('.')}")]
    ask, answer = rng.choice(asks)
    work.append(Note(str(answer), f"that is {answer}"))
    return _question("table", level, rows, ask, answer, tuple(work), unseen, rng.random() < 0.3)
