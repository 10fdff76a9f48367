"""Word problems: what somebody has after buying, giving, losing; boxes; who has how many more than whom."""

from __future__ import annotations

from random import Random

from dami_agent.tasks.model import Operation, Question
from dami_agent.tasks.questions.sizes import Size, Unseen, operations, start_value
from dami_agent.tasks.words import person, plural, some_item, some_people


def draw(rng: Random, level: int, size: Size, unseen: Unseen | None = None) -> Question:
    """One story: a hoard, boxes or a ladder; the unseen template is a hoard whose question comes first."""
    if unseen == "template":
        return _hoard(rng, level, size, unseen)
    return rng.choice((_hoard, _boxes, _ladder))(rng, level, size, unseen)


def _event(rng: Random, who: str, step: Operation, others: list[str]) -> str:
    """One sentence that changes how many things a person has."""
    other, number = rng.choice(others), step.right
    forms: tuple[str, ...]
    if step.symbol == "+":
        forms = (f"{who} buys {number} more.", f"{who} finds {number} more.", f"{other} brings {number} more.")
    elif step.symbol == "-":
        forms = (f"{who} gives {number} to {other}.", f"{who} sells {number}.", f"{who} loses {number}.")
    else:
        forms = (f"Then there are {number} times as many.", f"{who} trades them for {number} times as many.")
    return rng.choice(forms)


def _question(level: int, parts: list[str], work: tuple[Operation, ...], unseen: Unseen | None) -> Question:
    return Question("story", level, " ".join(parts), work[-1].result, work, (unseen,) if unseen else ())


def _hoard(rng: Random, level: int, size: Size, unseen: Unseen | None) -> Question:
    """Mia has 12 apples. She buys 5 more. How many apples does she have now?"""
    start = max(5, start_value(rng, size))
    work = operations(rng, size, start)
    (name, who), things = person(rng, unseen == "name"), plural(some_item(rng, unseen == "name"))
    others = some_people(rng, 4, but=name, held=unseen == "name")
    parts = [f"{name} has {start} {things}.", *(_event(rng, who, step, others) for step in work)]
    ask = (f"How many {things} does {name} have now?", f"How many {things} does {who.lower()} have at the end?")
    if unseen == "template":
        return _question(level, [f"How many {things} does {name} have at the end?", *parts], work, unseen)
    return _question(level, [*parts, rng.choice(ask)], work, unseen)


def _boxes(rng: Random, level: int, size: Size, unseen: Unseen | None) -> Question:
    """Each box holds 6 pens. Tom buys 4 boxes. He loses 5. How many pens does Tom have now?"""
    boxes = rng.randint(2, size.factor)
    most = max(2, min(size.largest // boxes, max(12, size.addend)))
    first = Operation(rng.randint(2, most), "*", boxes)
    work = (first, *operations(rng, size, first.result, size.count - 1))
    (name, who), things = person(rng, unseen == "name"), plural(some_item(rng, unseen == "name"))
    box = rng.choice(("box", "crate", "pack"))
    others = some_people(rng, 4, but=name, held=unseen == "name")
    events = [_event(rng, who, step, others) for step in work[1:]]
    head = f"Each {box} holds {first.left} {things}. {name} buys {boxes} {plural(box)}."
    return _question(level, [head, *events, f"How many {things} does {name} have now?"], work, unseen)


def _ladder(rng: Random, level: int, size: Size, unseen: Unseen | None) -> Question:
    """Ana has 4 books. Ben has 3 more than Ana. Leo has 2 times as many as Ben. How many books does Leo have?"""
    start = max(5, start_value(rng, size))
    work = operations(rng, size, start)
    names = some_people(rng, len(work) + 1, held=unseen == "name")
    things = plural(some_item(rng, unseen == "name"))
    forms = {
        "+": "{0} has {1} more than {2}.",
        "-": "{0} has {1} fewer than {2}.",
        "*": "{0} has {1} times as many as {2}.",
    }
    lines = [f"{names[0]} has {start} {things}."]
    lines += [forms[step.symbol].format(names[i + 1], step.right, names[i]) for i, step in enumerate(work)]
    return _question(level, [*lines, f"How many {things} does {names[-1]} have?"], work, unseen)
