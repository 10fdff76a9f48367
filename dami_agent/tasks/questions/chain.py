"""Ask for chained arithmetic: `Start with 24. Add 5. Multiply by 3. What is the result?`."""

from __future__ import annotations

from random import Random

from dami_agent.tasks.questions.sizes import Size, Unseen, operations, start_value
from dami_agent.tasks.task import Operation, Question
from dami_agent.tasks.world import SEEN, Names

_VERBS = {
    "+": ("Add", "Then add", "Now add"),
    "-": ("Subtract", "Take away", "Then take away"),
    "*": ("Multiply by", "Then multiply by", "Now multiply by"),
}
_SHORT = {"+": "add", "-": "take away", "*": "multiply by"}
_SPOKEN = {"+": "plus", "-": "minus", "*": "times"}
_STARTS = ("Start with {0}.", "Begin with {0}.", "Take the number {0}.", "We have the number {0}.", "{0}.")
_ASKS = ("What is the result?", "What do you get?", "Which number comes out?", "What is it now?")


def draw(rng: Random, level: int, size: Size, unseen: Unseen | None = None, names: Names = SEEN) -> Question:
    """Draw one chain: steps as sentences (before or after the question), as one sentence, as brackets.

    Unseen templates ask first and tell the steps in one sentence, or begin with the bare number. There is nobody in a
    chain: `names` is not used.

    Args:
        rng: the random stream.
        level: 1 (easiest) to 5.
        size: how many operations, and how large the numbers.
        unseen: what training never shows of it; None for nothing.
        names: the people, things and towns it talks about.
    """
    start = start_value(rng, size)
    work = operations(rng, size, start)
    if unseen == "template":
        prompt = rng.choice((_asked_first, _bare))(rng, start, work)
    elif len(work) <= 3 and rng.random() < 0.25:
        prompt = _brackets(rng, start, work)
    else:
        prompt = rng.choice((_sentences, _sentences, _one_sentence, _condition, _lines))(rng, start, work)
    return Question("chain", level, prompt, work[-1].result, work, (unseen,) if unseen else ())


def _sentences(rng: Random, start: int, work: tuple[Operation, ...]) -> str:
    parts = [rng.choice(_STARTS).format(start)]
    parts += [f"{rng.choice(_VERBS[step.symbol])} {step.right}." for step in work]
    parts.insert(0 if rng.random() < 0.3 else len(parts), rng.choice(_ASKS))
    return " ".join(parts)


def _listed(rng: Random, work: tuple[Operation, ...], last: str = "then") -> str:
    steps = [f"{_SHORT[step.symbol]} {step.right}" for step in work]
    return steps[0] if len(steps) == 1 else ", ".join(steps[:-1]) + f", {last} {steps[-1]}"


def _one_sentence(rng: Random, start: int, work: tuple[Operation, ...]) -> str:
    return f"{rng.choice(('Take', 'From'))} {start}, {_listed(rng, work)}. {rng.choice(_ASKS)}"


def _condition(rng: Random, start: int, work: tuple[Operation, ...]) -> str:
    """Return `What do you get if you take 24, add 5, and take away 3?`."""
    form = rng.choice(
        (
            "What do you get if you take {0}, {1}?",
            "Which number comes out when you take {0}, {1}?",
            "If you begin with {0}, {1}, what do you get?",
            "When I take {0}, {1}, which number comes out?",
        )
    )
    return form.format(start, _listed(rng, work, "and"))


def _lines(rng: Random, start: int, work: tuple[Operation, ...]) -> str:
    """`Start with 24, then:` and a list of steps, numbered or not."""
    head = rng.choice(("Start with {0}, then:", "Take {0}, then:", "First number: {0}.", "We begin at {0}:")).format(
        start
    )
    numbered = rng.random() < 0.5
    steps = [f"{_SHORT[step.symbol]} {step.right}" for step in work]
    listed = [f"{place}. {step}" if numbered else f"- {step}" for place, step in enumerate(steps, start=1)]
    lines, ask = [head, *listed], rng.choice(_ASKS)
    return "\n".join([ask, *lines] if rng.random() < 0.3 else [*lines, ask])


def _asked_first(rng: Random, start: int, work: tuple[Operation, ...]) -> str:
    return f"What is the result? Start with {start}, {_listed(rng, work)}."


def _bare(rng: Random, start: int, work: tuple[Operation, ...]) -> str:
    return f"{start}: {_listed(rng, work)}. {rng.choice(_ASKS)}"


def _brackets(rng: Random, start: int, work: tuple[Operation, ...]) -> str:
    """Ask as one asks a calculator: `What is (24 + 5) * 3?`, `How much is 24 plus 5?`."""
    text = str(start)
    for index, step in enumerate(work):
        sign = step.symbol if len(work) > 1 or rng.random() < 0.5 else _SPOKEN[step.symbol]
        text = f"({text})" if index else text
        text = f"{text} {sign} {step.right}"
    form = rng.choice(
        ("What is {0}?", "What is {0}", "How much is {0}?", "{0}", "Work out {0}.", "What does {0} make?")
    )
    return form.format(text)
