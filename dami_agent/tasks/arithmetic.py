"""Questions with whole-number answers: chained arithmetic and word problems, in five levels.

The level is the number of operations (`OPERATIONS`) and how large the numbers added get (`ADDEND`); all stay small, so
that what makes a question hard is its length. Every generator is a pure function of the random stream it is given.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from dami_agent.tasks.model import Operation, Question, Split
from dami_agent.tasks.words import HER, HIS, ITEMS, PEOPLE, plural

FAMILIES = ("chain", "story")
LEVELS = (1, 2, 3, 4, 5)
OPERATIONS = {1: 1, 2: 2, 3: 3, 4: 5, 5: 7}
"""Operations per level."""

ADDEND = {1: 20, 2: 25, 3: 30, 4: 40, 5: 40}
"""The largest number added or subtracted, per level."""

LARGEST = 200
"""No value on the way is larger than this, or below zero."""


def question(rng: Random, family: str, level: int) -> Question:
    """One question; which split it falls into is decided by its text."""
    return _chain(rng, level) if family == "chain" else _story(rng, level)


def questions(
    split: Split, count: int, *, seed: int = 0, families: tuple[str, ...] = FAMILIES, levels: tuple[int, ...] = LEVELS
) -> list[Question]:
    """`count` different questions of one split, families and levels in turn; equal seeds give equal questions."""
    found: dict[str, Question] = {}
    for item in stream(split, seed=seed, families=families, levels=levels):
        found.setdefault(item.prompt, item)
        if len(found) >= count:
            return list(found.values())
    raise AssertionError("the stream of questions is endless")


def stream(
    split: Split, *, seed: int, families: tuple[str, ...] = FAMILIES, levels: tuple[int, ...] = LEVELS
) -> Iterator[Question]:
    """Questions of one split without end, families and levels in turn; texts may repeat."""
    rng = Random(f"questions:{split}:{seed}")
    kinds = [(family, level) for level in levels for family in families]
    while True:
        for family, level in kinds:
            item = question(rng, family, level)
            while item.split != split:
                item = question(rng, family, level)
            yield item


def operations(rng: Random, count: int, start: int, addend: int) -> tuple[Operation, ...]:
    """`count` random operations from `start` on that stay within 0..LARGEST; never three products in a row."""
    work: list[Operation] = []
    value = start
    while len(work) < count:
        symbol = rng.choices(("+", "-", "*"), (4, 4, 2))[0]
        if symbol == "*":
            step = Operation(value, "*", rng.randint(2, 5))
        else:
            step = Operation(value, "+" if symbol == "+" else "-", rng.randint(2, addend))
        if 1 <= step.result <= LARGEST:
            work.append(step)
            value = step.result
    return tuple(work)


def _chain(rng: Random, level: int) -> Question:
    start = rng.randint(2, 60)
    work = operations(rng, OPERATIONS[level], start, ADDEND[level])
    verbs = {"+": ("Add", "Then add"), "-": ("Subtract", "Take away"), "*": ("Multiply by", "Then multiply by")}
    parts = [rng.choice((f"Start with {start}.", f"Begin with {start}.", f"Take the number {start}."))]
    parts += [f"{rng.choice(verbs[step.symbol])} {step.right}." for step in work]
    parts.append(rng.choice(("What is the result?", "What do you get?", "Which number comes out?")))
    return Question("chain", level, " ".join(parts), work[-1].result, work)


def _story(rng: Random, level: int) -> Question:
    return rng.choice((_hoard, _boxes, _ladder))(rng, level)


def _person(rng: Random) -> tuple[str, str]:
    """A name and its pronoun."""
    return (rng.choice(HER), "She") if rng.random() < 0.5 else (rng.choice(HIS), "He")


def _event(rng: Random, who: str, things: str, step: Operation, others: tuple[str, ...]) -> str:
    """One sentence that changes how many things a person has."""
    other, number = rng.choice(others), step.right
    if step.symbol == "+":
        return rng.choice(
            (f"{who} buys {number} more.", f"{who} finds {number} more.", f"{other} brings {number} more.")
        )
    if step.symbol == "-":
        return rng.choice((f"{who} gives {number} to {other}.", f"{who} sells {number}.", f"{who} loses {number}."))
    return rng.choice((f"Then there are {number} times as many.", f"{who} trades them for {number} times as many."))


def _hoard(rng: Random, level: int) -> Question:
    """Mia has 12 apples. She buys 5 more. How many apples does she have now?"""
    start = rng.randint(5, 60)
    work = operations(rng, OPERATIONS[level], start, ADDEND[level])
    (name, who), things = _person(rng), plural(rng.choice(ITEMS))
    others = tuple(person for person in PEOPLE if person != name)
    events = [_event(rng, who, things, step, others) for step in work]
    ask = rng.choice(
        (f"How many {things} does {name} have now?", f"How many {things} does {who.lower()} have at the end?")
    )
    return Question("story", level, " ".join([f"{name} has {start} {things}.", *events, ask]), work[-1].result, work)


def _boxes(rng: Random, level: int) -> Question:
    """Each box holds 6 pens. Tom buys 4 boxes. He loses 5. How many pens does Tom have now?"""
    each, boxes = rng.randint(2, 12), rng.randint(2, 5)
    first = Operation(each, "*", boxes)
    work = (first, *operations(rng, OPERATIONS[level] - 1, first.result, ADDEND[level]))
    (name, who), things = _person(rng), plural(rng.choice(ITEMS))
    box = rng.choice(("box", "crate", "pack"))
    others = tuple(person for person in PEOPLE if person != name)
    events = [_event(rng, who, things, step, others) for step in work[1:]]
    head = f"Each {box} holds {each} {things}. {name} buys {boxes} {plural(box)}."
    return Question(
        "story", level, " ".join([head, *events, f"How many {things} does {name} have now?"]), work[-1].result, work
    )


def _ladder(rng: Random, level: int) -> Question:
    """Ana has 4 books. Ben has 3 more than Ana. Cleo has 2 times as many as Ben. How many books does Cleo have?"""
    start = rng.randint(5, 60)
    work = operations(rng, OPERATIONS[level], start, ADDEND[level])
    names, things = rng.sample(PEOPLE, len(work) + 1), plural(rng.choice(ITEMS))
    forms = {
        "+": "{0} has {1} more than {2}.",
        "-": "{0} has {1} fewer than {2}.",
        "*": "{0} has {1} times as many as {2}.",
    }
    lines = [f"{names[0]} has {start} {things}."]
    lines += [forms[step.symbol].format(names[i + 1], step.right, names[i]) for i, step in enumerate(work)]
    lines.append(f"How many {things} does {names[-1]} have?")
    return Question("story", level, " ".join(lines), work[-1].result, work)
