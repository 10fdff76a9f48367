"""Arithmetic on numbers that made-up tools find: sums, differences, so many of each, and what changes them then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from builtin_pair.composed.numbers import MEASURES, Figures, figures
from builtin_pair.composed.tools import bind, guessable
from dami_agent.tasks.agent.changes import STUFF, changes, said
from dami_agent.tasks.agent.scene import MOST_WORK, running
from dami_agent.tasks.agent.work import totals
from dami_agent.tasks.task import AgentTask, Operation, PlannedCall, Split
from dami_agent.tasks.words import joined, plural

LARGEST = 999
"""No value that is worked out is above this, none below 0."""


@dataclass(frozen=True)
class Forms:
    """How a prompt asks for a piece of work: `whole` where nothing follows, `first` where changes do.

    {p} and {q} are the first number and the last, {plus} all with plus between, {group} all, {lead} a sentence that
    asks to find them, {c} a factor, {times} each so many times, {things} so many things, {finds} what is found of each.
    """

    whole: tuple[str, ...]
    first: tuple[str, ...]


_ALONE = Forms((), ("Take {p}.", "Start with {p}.", "Find {p}.", "Look up {p}.", "{lead}", "{lead}", "I want {p}."))
_SUM = Forms(
    (
        "Add up {group}.",
        "What is {plus}?",
        "What is {group} together?",
        "How much is {group} in all?",
        "What is the sum of {group}?",
        "I need the total of {group}.",
        "Find {group} and add them up.",
        "{lead} What is the sum?",
        "{lead} Add them up.",
        "{lead} How much is that together?",
        "How much is {plus}?",
    ),
    (
        "Add up {group}.",
        "Take {plus}.",
        "Find {group} and add them up.",
        "Start with the sum of {group}.",
        "{lead} Add them up.",
        "Put {group} together.",
    ),
)
_ABOVE = Forms(
    (
        "By how much is {p} above {q}?",
        "What is {p} minus {q}?",
        "How much more is {p} than {q}?",
        "Find {p} and {q}. By how much is the first larger?",
        "{lead} By how much is the first above the other?",
        "{lead} What is the difference, the first minus the other?",
        "How far is {p} above {q}?",
    ),
    ("Take {p} minus {q}.", "Start with {p} and take away {q}.", "{lead} Take the first minus the other."),
)
_BELOW = Forms(
    (
        "Subtract {q} from {p}.",
        "By how much is {q} below {p}?",
        "How much less is {q} than {p}?",
        "How much must be added to {q} to get {p}?",
        "Take {q} away from {p}.",
    ),
    ("Subtract {q} from {p}.", "Take {q} away from {p}."),
)
_TIMES = Forms(
    ("What is {times}?", "How much is {times}?", "Compute {times}.", "I need {times}.", "Find {times}."),
    ("Take {times}.", "Start with {times}.", "Compute {times}."),
)
_TIMES_ONE = Forms(
    (*_TIMES.whole, "{lead} What is {c} times that?", "{lead} Multiply it by {c}.", "Multiply {p} by {c}."),
    (*_TIMES.first, "{lead} Take it {c} times.", "Multiply {p} by {c}."),
)
_THINGS = Forms(
    (
        "What is the {finds} of {things} together?",
        "Find the total {finds} of {things}.",
        "I have {things}. What is their {finds} in all?",
        "We take {things}. How much {finds} is that?",
        "What {finds} do {things} have together?",
    ),
    (
        "Take the total {finds} of {things}.",
        "We have {things} and add up the {finds}.",
        "Find the {finds} of {things}.",
    ),
)
_VERBS: Mapping[str, Forms] = {
    "weigh": Forms(
        (
            "How much do {things} weigh together?",
            "What do {things} weigh?",
            "How heavy are {things}?",
            "We carry {things}. How heavy is that?",
        ),
        ("We carry {things}.", "Take {things}.", "Pack {things}.", "We load {things}."),
    ),
    "cost": Forms(
        (
            "What do {things} cost together?",
            "What do {things} cost?",
            "How much do I pay for {things}?",
            "I want to buy {things}. How much is that?",
        ),
        ("We order {things}.", "I want to buy {things}.", "I need {things}."),
    ),
}
_STUFF_OF = {"weigh": "weight", "cost": "bill"}
_NUMBER = (
    " What is the result?",
    " What comes out?",
    " What do you get?",
    " How much is that?",
    " What is it then?",
    "",
)
_ENDS: Mapping[str, tuple[str, ...]] = {
    "stock": (" How many are left?", " How many are there?"),
    "money": (" How much is left?", " How much do we have?"),
    "bill": (" How much do I pay?", " What do we pay?"),
    "seats": (" How many seats are free?", " How many are free?"),
    "way": (" How many km is that?", " How long is the way?"),
    "weight": (" How heavy is that?", " What does it weigh?"),
    "number": (*_NUMBER, *_NUMBER[:4]),
}
"""Kind of number -> how a prompt that has changed it ends."""


@dataclass(frozen=True)
class Asked:
    """What is worked out of the numbers, the forms that ask for it, what fills them, and the kind of number."""

    work: Sequence[Operation]
    forms: Forms
    fill: Mapping[str, object]
    stuff: str = ""


def composed_work(rng: Random, split: Split) -> AgentTask:
    """Numbers are found together or hop by hop and worked with; the answer is the last value."""
    while True:
        found = figures(rng, split)
        task = _draw(rng, split, found) if found else None
        if task is not None:
            return task


def _draw(rng: Random, split: Split, found: Figures) -> AgentTask | None:
    asked = _asked(rng, found)
    if asked is None:
        return None
    value = asked.work[-1].result if asked.work else found.numbers[0]
    if not 1 <= value <= LARGEST or any(not 0 <= step.result <= LARGEST for step in asked.work):
        return None
    more = changes(rng, value, _span(rng, asked), LARGEST)
    work = [*asked.work, *more]
    if len(work) > MOST_WORK:
        return None
    stuff = asked.stuff or ("number" if rng.random() < 0.8 else rng.choice(tuple(STUFF)))
    text = said(rng, stuff, more) + rng.choice(_ENDS[stuff]) if more else ""
    form = rng.choice(asked.forms.first if more else asked.forms.whole)
    prompt = (form if len(found.numbers) > 1 else form.replace(" together", "")).format(**asked.fill) + text
    plan = _turned(found.plan) if asked.forms is _BELOW else found.plan
    if guessable(prompt, plan):
        return None
    return bind(rng, split, AgentTask("novel", "composed_work", prompt, (), plan, ()), found.tools, work)


def _turned(plan: Sequence[PlannedCall]) -> tuple[PlannedCall, ...]:
    """Swap the two calls of every hop, as a prompt that names the second value first has them."""
    pairs = [plan[start : start + 2] for start in range(0, len(plan), 2)]
    return tuple(replace(call, together=place > 0) for pair in pairs for place, call in enumerate((pair[1], pair[0])))


def _span(rng: Random, asked: Asked) -> int:
    """How many changes follow: never four, which training holds back, and few after much work.

    One number so many times reads like a change itself, so three do not follow that.
    """
    if not asked.work:
        return rng.choice((1, 2, 3, 5))
    if len(asked.work) == 1 and asked.work[0].symbol == "*":
        return rng.choice((0, 0, 0, 1, 2, 5))
    return rng.choice((0, 0, 0, 1, 2, 3, 5) if len(asked.work) < 3 else (0, 0, 1, 2))


def _asked(rng: Random, found: Figures) -> Asked | None:
    """Draw a piece of work that this many numbers allow; None for a difference below zero."""
    count, roll = len(found.numbers), rng.random()
    fill: dict[str, object] = {
        "p": found.each[0],
        "q": found.each[-1],
        "plus": " plus ".join(found.each),
        "group": found.group,
        "lead": found.lead,
        "finds": found.finds,
    }
    if found.things or (count != 3 and roll < 0.25):
        return _so_many(rng, found, fill)
    if count == 1:
        return Asked((), _ALONE, fill)
    if count == 2 and roll < 0.7:
        gap = Operation(found.numbers[0], "-", found.numbers[1])
        return Asked([gap], rng.choice((_ABOVE, _ABOVE, _BELOW)), fill) if gap.result > 0 else None
    return Asked(running(found.numbers[0], found.numbers[1:], "+"), _SUM, fill)


def _so_many(rng: Random, found: Figures, fill: dict[str, object]) -> Asked:
    """So many of each taken together: one, two or four, as training holds three things on a bill back."""
    results = [str(each) for each in found.numbers]
    counts = [rng.randint(2, min(9, 16 // len(results))) for _ in results]
    fill["times"] = " plus ".join(f"{count} times {each}" for count, each in zip(counts, found.each, strict=True))
    fill["c"] = counts[0]
    work = totals(results, counts)
    if not found.things or rng.random() < 0.15:
        return Asked(work, _TIMES_ONE if len(results) == 1 else _TIMES, fill)
    fill["things"] = joined([f"{count} {plural(each)}" for count, each in zip(counts, found.things, strict=True)])
    if found.finds in MEASURES and rng.random() < 0.8:
        verb = rng.choice(MEASURES[found.finds])
        return Asked(work, _VERBS[verb], fill, _STUFF_OF[verb])
    return Asked(work, _THINGS, fill)
