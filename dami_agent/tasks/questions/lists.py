"""List statistics: the largest, the ends, how many above, the sum, the range of a list of numbers."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from dami_agent.tasks.questions.sizes import Size, Unseen
from dami_agent.tasks.task import Note, Operation, Question, Working
from dami_agent.tasks.words import joined
from dami_agent.tasks.world import SEEN, Names

Kind = tuple[str, tuple[Working, ...], int]
"""What is asked, the solution, the answer."""

LENGTHS = {1: (3, 4), 2: (4, 5), 3: (4, 5), 4: (8, 11), 5: (9, 11)}
HELD_LENGTH = {1: 6, 2: 6, 3: 6, 4: 10, 5: 10}
"""List lengths per level, and those never trained on."""

TOP = {1: 40, 2: 99, 3: 99, 4: 999, 5: 9_999}
"""The largest number there can be in a list, per level."""

_LISTED = ("List: {0}.", "Here are some numbers: {0}.", "Look at this list: {0}.", "Numbers: {0}.", "{0}.")
_TOLD = ("The numbers are {0}.", "We have {0}.", "I count {0}.")
"""A list after a colon, and one told as a sentence: the latter stands before the question only."""


def draw(rng: Random, level: int, size: Size, unseen: Unseen | None = None, names: Names = SEEN) -> Question:
    """Draw one list question; in unseen templates it comes before a list told as a sentence, or has it inside.

    Training has lists inside the question for what is largest, smallest and the range.

    Args:
        rng: the random stream.
        level: 1 (easiest) to 5.
        size: how many operations, and how large the numbers.
        unseen: what training never shows of it; None for nothing.
        names: the people, things and towns it talks about.
    """
    length = HELD_LENGTH[level] if unseen == "length" else rng.choice(LENGTHS[level])
    return _question(rng, level, rng.choice(KINDS[level]), length, TOP[level], unseen)


def practice(rng: Random, size: Size, names: Names) -> Question:
    """Any kind with any length but the held-out ones, those that no level has included."""
    kind = rng.choice((largest, smallest, ends, above, total, span))
    length = rng.choice((3, 4, 5, 7, 8, 9, 11))
    return _question(rng, 1, kind, length, rng.choice((30, 60, 99, 300, 999, 9_999)), None)


def _question(
    rng: Random, level: int, kind: Callable[[Random, list[int]], Kind], length: int, top: int, unseen: Unseen | None
) -> Question:
    numbers = rng.sample(range(2, top + 1), length)
    asked, work, answer = kind(rng, numbers)
    texts = [str(number) for number in numbers]
    within = kind in (largest, smallest, span)
    if unseen == "template":
        after = within or rng.random() < 0.5
        prompt = f"{asked} The numbers are {joined(texts)}." if after else _inside(asked, joined(texts))
    elif within and rng.random() < 0.3:
        prompt = _inside(asked, joined(texts))
    elif rng.random() < 0.35:
        prompt = f"{asked} {rng.choice(_LISTED).format(', '.join(texts))}"
    else:
        told = rng.choice((*_LISTED, *_TOLD))
        prompt = f"{told.format(joined(texts) if told in _TOLD else ', '.join(texts))} {asked}"
    return Question("list", level, prompt, answer, work, (unseen,) if unseen else ())


def _inside(asked: str, numbers: str) -> str:
    """Return the second unseen template: `Which number is the largest of 4, 9 and 12?`."""
    if asked.startswith("How many"):
        return asked.replace("are above", f"of {numbers} are above")
    if asked.startswith("What do they"):
        return f"What do {numbers} add up to?"
    return f"{asked.rstrip('?')} of {numbers}?"


def _extreme(numbers: list[int], sign: str, word: str) -> tuple[Note, ...]:
    """Return a scan that keeps the best so far."""
    best, notes = numbers[0], [Note(str(numbers[0]), f"start with {numbers[0]}")]
    for number in numbers[1:]:
        better = number > best if sign == ">" else number < best
        other = "<" if sign == ">" else ">"
        line = f"{number} {sign} {best}, take {number}" if better else f"{number} {other} {best}, keep {best}"
        best = number if better else best
        notes.append(Note(str(best), line))
    return (*notes[:-1], Note(notes[-1].value, notes[-1].line, f"{best} is the {word}", said=True))


def largest(rng: Random, numbers: list[int]) -> Kind:
    """Ask for the largest number; solved by a scan that keeps the best so far."""
    asked = rng.choice(("What is the largest?", "Which number is the largest?"))
    return asked, _extreme(numbers, ">", "largest"), max(numbers)


def smallest(rng: Random, numbers: list[int]) -> Kind:
    """Ask for the smallest number, likewise."""
    asked = rng.choice(("What is the smallest?", "Which number is the smallest?"))
    return asked, _extreme(numbers, "<", "smallest"), min(numbers)


def above(rng: Random, numbers: list[int]) -> Kind:
    """Ask how many numbers are above a limit that is none of them."""
    limit = rng.choice([n for n in range(min(numbers), max(numbers) + 1) if n not in numbers] or [max(numbers) + 1])
    count, notes = 0, []
    for number in numbers:
        more = number > limit
        count += more
        sign, word = (">", "that is") if more else ("<", "still")
        notes.append(Note(str(count), f"{number} {sign} {limit}, {word} {count}"))
    return f"How many are above {limit}?", tuple(notes), count


def total(rng: Random, numbers: list[int]) -> Kind:
    """Ask for the sum; solved number by number."""
    work = [Operation(numbers[0], "+", numbers[1], said=False)]
    for number in numbers[2:]:
        work.append(Operation(work[-1].result, "+", number, said=False))
    return rng.choice(("What is the sum?", "What do they add up to?")), tuple(work), sum(numbers)


def span(rng: Random, numbers: list[int]) -> Kind:
    """Ask how far apart the largest and the smallest are; solved by two scans and a difference."""
    last = Operation(max(numbers), "-", min(numbers))
    work: tuple[Working, ...] = (*_extreme(numbers, ">", "largest"), *_extreme(numbers, "<", "smallest"), last)
    asked = rng.choice(("How far apart are the largest and the smallest?", "What is the largest minus the smallest?"))
    return asked, work, last.result


def ends(rng: Random, numbers: list[int]) -> Kind:
    """Ask for the first number plus the last."""
    work = Operation(numbers[0], "+", numbers[-1])
    return "What is the first plus the last?", (work,), work.result


KINDS: dict[int, tuple[Callable[[Random, list[int]], Kind], ...]] = {
    1: (ends,),
    2: (*(ends,) * 5, largest),
    3: (total,),
    4: (total, total, above, span),
    5: (total, span),
}
