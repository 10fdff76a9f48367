"""Word problems: what somebody has after buying, giving, losing; boxes; a bus; who has how many more than whom."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from dami_agent.tasks.questions.sizes import Size, Unseen, operations, start_value
from dami_agent.tasks.task import Operation, Question
from dami_agent.tasks.words import joined, plural
from dami_agent.tasks.world import SEEN, Names


def draw(rng: Random, level: int, size: Size, unseen: Unseen | None = None, names: Names = SEEN) -> Question:
    """Draw one story: a hoard, boxes, a bus or a ladder.

    Unseen templates are hoards whose question comes first or that are told in one sentence, as others are in training.

    Args:
        rng: the random stream.
        level: 1 (easiest) to 5.
        size: how many operations, and how large the numbers.
        unseen: what training never shows of it; None for nothing.
        names: the people, things and towns it talks about.
    """
    if unseen == "template":
        return rng.choice((_hoard, _hoard_at_once))(rng, level, size, unseen, names)
    kinds = (_hoard, _boxes, _ladder) if unseen == "name" else (_hoard, _hoard, _boxes, _boxes, _ladder, _ladder, _bus)
    return rng.choice(kinds)(rng, level, size, unseen, names)


def _event(rng: Random, who: str, step: Operation, others: list[str]) -> str:
    """One sentence that changes how many things a person has."""
    other, number = rng.choice(others), step.right
    forms: tuple[str, ...]
    if step.symbol == "+":
        forms = (f"{who} buys {number} more.", f"{who} finds {number} more.", f"{other} brings {number} more.")
        forms += (f"{who} gets {number} from {other}.",)
    elif step.symbol == "-":
        forms = (f"{who} gives {number} to {other}.", f"{who} sells {number}.", f"{who} loses {number}.")
        forms += (f"{other} takes {number} away.",)
    else:
        forms = (f"Then there are {number} times as many.", f"{who} trades them for {number} times as many.")
    return rng.choice(forms)


def _own_event(rng: Random, who: str, step: Operation, others: list[str]) -> str:
    """Return what a person does, for a list of such: `gives 3 to Ben`."""
    while not (said := _event(rng, who, step, others)).startswith(f"{who} "):
        pass
    return said.removeprefix(f"{who} ").rstrip(".")


def _question(
    level: int, parts: Sequence[str], ask: str, work: tuple[Operation, ...], unseen: Unseen | None, first: bool
) -> Question:
    """Return the question after what is told, or `first`."""
    told = [ask, *parts] if first else [*parts, ask]
    return Question("story", level, " ".join(told), work[-1].result, work, (unseen,) if unseen else ())


def _hoard(rng: Random, level: int, size: Size, unseen: Unseen | None, names: Names) -> Question:
    """Mia has 12 apples. She buys 5 more. How many apples does she have now?"""
    start = max(5, start_value(rng, size))
    work = operations(rng, size, start)
    (name, who), things = names.person(rng), plural(rng.choice(names.items))
    others = names.some_people(rng, 4, but=name)
    parts = [f"{name} has {start} {things}.", *(_event(rng, who, step, others) for step in work)]
    if unseen == "template":
        return _question(level, parts, f"How many {things} does {name} have at the end?", work, unseen, True)
    asks = [f"How many {things} does {name} have now?", f"How many {things} does {who.lower()} have at the end?"]
    asks.append(f"How many {things} are there in the end?")
    return _question(level, parts, rng.choice(asks), work, unseen, False)


def _hoard_at_once(rng: Random, level: int, size: Size, unseen: Unseen | None, names: Names) -> Question:
    """Tell it as training never does: `Mia has 12 apples, buys 5 and gives 3 to Ben. How many does she have now?`."""
    start = max(5, start_value(rng, size))
    work = operations(rng, size, start)
    (name, _), things = names.person(rng), plural(rng.choice(names.items))
    others = names.some_people(rng, 4, but=name)
    told = joined([f"{name} has {start} {things}", *(_own_event(rng, name, step, others) for step in work)])
    return _question(level, [f"{told}."], f"How many {things} does {name} have now?", work, unseen, False)


def _boxes(rng: Random, level: int, size: Size, unseen: Unseen | None, names: Names) -> Question:
    """Each box holds 6 pens. Tom buys 4 boxes. He loses 5. How many pens does Tom have now?"""
    boxes = rng.randint(2, size.factor)
    most = max(2, min(size.largest // boxes, max(12, size.addend)))
    first = Operation(rng.randint(2, most), "*", boxes)
    work = (first, *operations(rng, size, first.result, size.count - 1))
    (name, who), things = names.person(rng), plural(rng.choice(names.items))
    box = rng.choice(("box", "crate", "pack"))
    others = names.some_people(rng, 4, but=name)
    head = f"Each {box} holds {first.left} {things}. {name} buys {boxes} {plural(box)}."
    parts = [head, *(_event(rng, who, step, others) for step in work[1:])]
    if len(work) > 2 and rng.random() < 0.3:
        parts = [head, f"{who} {joined([_own_event(rng, who, step, others) for step in work[1:]])}."]
    return _question(level, parts, f"How many {things} does {name} have now?", work, unseen, rng.random() < 0.35)


def _bus(rng: Random, level: int, size: Size, unseen: Unseen | None, names: Names) -> Question:
    """Draw a train leaves with 40 people. 12 get on. 7 get off. How many people are on the train?"""
    start = max(5, start_value(rng, size))
    work = operations(rng, size, start)
    ride = rng.choice(("bus", "train", "ship"))
    forms: dict[str, tuple[str, ...]] = {
        "+": ("{0} get on.", "Then {0} get on."),
        "-": ("{0} get off.", "Then {0} get off."),
        "*": ("Then there are {0} times as many.",),
    }
    told = [rng.choice(forms[step.symbol]).format(step.right) for step in work]
    parts = [f"A {ride} leaves with {start} people.", *told]
    if rng.random() < 0.3:
        later = [text.removeprefix("Then ").rstrip(".") for text in told]
        parts = [f"{joined([f'A {ride} leaves with {start} people', *later])}."]
    ask = rng.choice((f"How many people are on the {ride} now?", f"How many people are on the {ride} at the end?"))
    return _question(level, parts, ask, work, unseen, rng.random() < 0.35)


def _ladder(rng: Random, level: int, size: Size, unseen: Unseen | None, names: Names) -> Question:
    """Ana has 4 books. Ben has 3 more than Ana. Leo has 2 times as many as Ben. How many books does Leo have?"""
    start = max(5, start_value(rng, size))
    work = operations(rng, size, start)
    people = names.some_people(rng, len(work) + 1)
    things = plural(rng.choice(names.items))
    forms = {
        "+": "{0} has {1} more than {2}.",
        "-": "{0} has {1} fewer than {2}.",
        "*": "{0} has {1} times as many as {2}.",
    }
    parts = [f"{people[0]} has {start} {things}."]
    parts += [forms[step.symbol].format(people[i + 1], step.right, people[i]) for i, step in enumerate(work)]
    ask = f"How many {things} does {people[-1]} have?"
    return _question(level, parts, ask, work, unseen, rng.random() < 0.3)
