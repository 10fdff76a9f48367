"""How a thought is written at a level of detail s in [0, 1]: nothing, values only, equations, lines, lines and a check.

s is latent: it never appears in a document. The base model sees all levels, Instruct is tuned on none, Thinking on the
last; between them the amount of working grows with lambda instead of switching on.
"""

from __future__ import annotations

from collections.abc import Sequence

from dami_agent.tasks.model import Operation, PlannedCall

EMPTY, VALUES, EQUATIONS, LINES = 0.12, 0.35, 0.6, 0.85
"""Upper ends of the bands of s; above the last one a check is written."""

_ORDER = ("First", "Next", "Then", "After that")


def _ordinal(index: int) -> str:
    return _ORDER[index] if index < 2 else _ORDER[2 + index % 2]


def worked(work: Sequence[Operation], style: float) -> str:
    """The thought that works `work` out."""
    if style < EMPTY or not work:
        return ""
    if style < VALUES:
        return ", ".join(str(step.result) for step in work) + "."
    if style < EQUATIONS:
        return ", ".join(step.line for step in work) + "."
    lines = [f"{_ordinal(i)}, {step.line}." for i, step in enumerate(work)]
    if style >= LINES:
        lines.insert(0, f"We have {work[0].left}.")
        lines.append(f"Check: {', '.join(step.check for step in reversed(work))}, right.")
    lines.append(f"So the result is {work[-1].result}.")
    return "\n".join(lines)


def _values(call: PlannedCall) -> str:
    return " and ".join(str(value) for value in call.arguments.values())


def before_call(call: PlannedCall, done: Sequence[PlannedCall], style: float) -> str:
    """The thought before a tool call: what is known so far, what is worked out first, which tool comes next."""
    if style < EMPTY:
        return ""
    parts = [worked(call.work, style)] if call.work else []
    target = f"{call.name} for {_values(call)}" if call.arguments else call.name
    if style < EQUATIONS:
        parts.append(f"I call {call.name}.")
    else:
        if style >= LINES and done:
            known = ", ".join(f"{_values(each) or each.name} gives {each.result}" for each in done)
            parts.append(f"So far {known}.")
        parts.append(f"I need {target}, so I call {call.name}.")
    return "\n".join(parts)


def before_reply(done: Sequence[PlannedCall], work: Sequence[Operation], style: float) -> str:
    """The thought before the final answer of an agent task."""
    if style < EMPTY:
        return ""
    if not work:
        return (
            "I have it." if style < EQUATIONS else "I have all I need: " + ", ".join(each.result for each in done) + "."
        )
    known = ""
    if style >= LINES:
        known = ", ".join(f"{_values(each) or each.name} gives {each.result}" for each in done)
        known = f"I know {known}.\n"
    return known + worked(work, style)


def small_talk(style: float) -> str:
    """The thought before a reply that needs no working."""
    if style < EMPTY:
        return ""
    return "No tool is needed here." if style < LINES else "This is small talk. No tool is needed here."
