"""How work is written at a level of detail s in [0, 1], and tersely.

s is latent: it never appears in a document. The base model sees all levels, Instruct is tuned on none, Thinking on the
last; between them the amount of working grows with lambda instead of switching on. The bands of s, upper ends:

    EMPTY      no thought; the reply says terse values on its way
    VALUES     29, 87, 82.
    EQUATIONS  24 + 5 = 29, 29 * 3 = 87, 87 - 5 = 82.
    LINES      one line a step
    DETAIL     one line a step, each taken apart into smaller ones
    (above)    the same, and every step is checked
"""

from __future__ import annotations

from collections.abc import Sequence

from dami_agent.tasks.task import Operation, Working

EMPTY, VALUES, EQUATIONS, LINES, DETAIL = 0.1, 0.28, 0.46, 0.64, 0.82

OPENING = "Let me work it out step by step."
"""How a thought begins that takes steps apart and checks them."""

_ORDER = ("First", "Next", "Then", "After that")


def ordinal(index: int) -> str:
    """First, Next, Then, After that, Then, ..."""
    return _ORDER[index] if index < 2 else _ORDER[2 + index % 2]


def terse(work: Sequence[Working]) -> str:
    """Return what a terse answer says on its way to the last value: `29, 87.`, or nothing."""
    said = [step.value for step in work[:-1] if step.said]
    return f"{', '.join(said)}." if said else ""


def worked(work: Sequence[Working], style: float) -> str:
    """Return the thought that works `work` out."""
    if style < EMPTY or not work:
        return ""
    if style < VALUES:
        return ", ".join(step.value for step in work) + "."
    if style < EQUATIONS:
        return ", ".join(step.line for step in work) + "."
    lines = [_line(index, step, style) for index, step in enumerate(work)]
    if style >= DETAIL:
        first = work[0]
        if isinstance(first, Operation):
            lines.insert(0, f"We have {first.left}.")
        lines.insert(0, OPENING)
        lines += checked(work)
    return "\n".join([*lines, result(work)])


def _line(index: int, step: Working, style: float) -> str:
    return f"{ordinal(index)}, {step.line if style < LINES else step.detail}."


def checked(work: Sequence[Working]) -> list[str]:
    """Return the line that checks every step, if there is anything to check."""
    checks = [step.check for step in work if step.check]
    return [f"Check: {', '.join(checks)}, right."] if checks else []


def result(work: Sequence[Working]) -> str:
    """Return the last line of a thought."""
    return f"So the result is {work[-1].value}."


def revised(work: Sequence[Working], wrong: int, said: int) -> str:
    """How a thought goes on whose operation number `wrong` came out as `said`, from its check on, to the right result.

    The mistaken step is done again, and all after it, as they may build on it.
    """
    mistake = work[wrong]
    assert isinstance(mistake, Operation)
    checks = [step.check for step in work[:wrong] if step.check]
    if mistake.symbol == "*":
        checks.append(f"{said} / {mistake.right} is not {mistake.left}")
    else:
        back = Operation(said, "-" if mistake.symbol == "+" else "+", mistake.right)
        checks.append(f"{back.line}, not {mistake.left}")
    lines = [f"Check: {', '.join(checks)}.", f"Again, {mistake.detail}."]
    lines += [f"Then, {step.detail}." for step in work[wrong + 1 :]]
    return "\n".join([*lines, result(work)])
