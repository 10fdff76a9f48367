"""The turns of an agent task as its reference solution goes, with the thoughts before its calls and its reply."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

from builtin_pair.training import thoughts
from builtin_pair.training.render import Template, Turn
from dami_agent.tasks import words
from dami_agent.tasks.records import NOUNS, WHOLE_RECORDS
from dami_agent.tasks.task import AgentTask, PlannedCall, Working

Noun = Callable[[PlannedCall], str]
"""How a thought says what a call finds."""


def noun(call: PlannedCall) -> str:
    """Return what a call finds: `the price of lamp`; for a tool that is not of the catalogue `blorf with 34`."""
    if call.name in NOUNS:
        return NOUNS[call.name].format(**call.arguments)
    values = " and ".join(str(value) for value in call.arguments.values())
    return f"{call.name} with {values}" if values else call.name


def labelled(call: PlannedCall) -> str:
    """Return what a call of a made-up tool finds, other arguments by name: `blorf with 34 (depth Kex)`.

    Several calls stand in one list, and `blorf with 34 and Kex and blorf with 20 and Kex` says nothing.
    """
    first, *others = call.arguments.items()
    rest = ", ".join(f"{name} {value}" for name, value in others)
    return f"{call.name} with {first[1]}" + (f" ({rest})" if rest else "")


_IS = {"free_seats": "are", "seats_in": "are", "count_meetings": "are"}


def failed(call: PlannedCall) -> bool:
    """Whether the tool answered with an error."""
    return call.result.startswith("Error")


def _known(calls: Sequence[PlannedCall], noun: Noun) -> str:
    """Return `The price of lamp is 12, the price of pen is 7.`."""
    told = [call for call in calls if not failed(call) and call.name not in WHOLE_RECORDS]
    text = ", ".join(f"{noun(call)} {_IS.get(call.name, 'is')} {call.result}" for call in told)
    if not text:
        return ""
    return f"The{text[3:]}." if text.startswith("the ") else f"{text}."


_TIMES = {1: "", 2: " twice", 3: " three times", 4: " four times", 5: " five times"}


def _called(group: Sequence[PlannedCall], again: bool) -> str:
    """`get_price twice`, `get_price and get_stock`."""
    counts: dict[str, int] = {}
    for call in group:
        counts[call.name] = counts.get(call.name, 0) + 1
    said = words.joined([name + _TIMES.get(count, f" {count} times") for name, count in counts.items()])
    return f"{said} again" if again else said


def _checked_calls(group: Sequence[PlannedCall]) -> str:
    """Return the line that checks what each tool is given: `Check: get_price with item lamp, right.`."""
    told = []
    for call in group:
        given = " and ".join(f"{key} {value}" for key, value in call.arguments.items())
        told.append(f"{call.name} with {given}" if given else call.name)
    return f"Check: {', '.join(told)}, right."


def before_calls(
    group: Sequence[PlannedCall],
    done: Sequence[Sequence[PlannedCall]],
    style: float,
    *,
    mends: bool = False,
    noun: Noun = noun,
) -> str:
    """Return the thought before a turn of calls: what the last turn found, what is worked out first, what is needed.

    `mends` says that these calls repeat ones that failed.

    Args:
        group: the calls.
        done: the turns of calls before it.
        style: level of detail of the thoughts, 0 to 1.
        mends: whether these calls repeat ones that failed.
        noun: says what a call finds.
    """
    if style < thoughts.EMPTY:
        return ""
    work = [step for call in group for step in call.work]
    parts = [thoughts.worked(work, style)] if work else []
    if style < thoughts.EQUATIONS:
        return "\n".join([*parts, f"I call {_called(group, mends)}."])
    if style >= thoughts.LINES and done and (known := _known(done[-1], noun)):
        parts.insert(0, known)
    needed = words.joined([noun(call) for call in group])
    failure = "That did not work. " if mends else ""
    if group[0].name in NOUNS:
        parts.append(f"{failure}I need {needed}, so I call {_called(group, mends)}.")
        if style >= thoughts.DETAIL:
            parts.append(_checked_calls(group))
    else:
        parts.append(f"{failure}I call {needed}.")
    return "\n".join(parts)


def before_reply(
    done: Sequence[Sequence[PlannedCall]],
    work: Sequence[Working],
    answers: Sequence[str],
    style: float,
    *,
    noun: Noun = noun,
) -> str:
    """Return the thought before the final answer of a task: what is worked out, or which results are copied.

    Args:
        done: the turns of calls before it.
        work: the operations or comparisons that must be worked out.
        answers: the results that are copied.
        style: level of detail of the thoughts, 0 to 1.
        noun: says what a call finds.
    """
    if style < thoughts.EMPTY:
        return ""
    if work:
        used = {number for step in work for number in re.findall(r"\d+", step.line)}
        known = _known([call for group in done for call in group if call.result in used], noun)
        return (f"{known}\n" if style >= thoughts.DETAIL and known else "") + thoughts.worked(work, style)
    if style < thoughts.EQUATIONS:
        return "I have it."
    said = f"I have all I need: {', '.join(answers)}."
    found = _known([call for group in done for call in group if call.result in answers and call.name in NOUNS], noun)
    checked = f"t{found[1:-1]}" if found.startswith("The ") else found[:-1]
    return f"{said}\nCheck: {checked}, right." if style >= thoughts.DETAIL and found else said


def aside(work: Sequence[Working]) -> str:
    """Return what a terse worker says before a call whose argument takes more than one step: `29, 87.`."""
    said = thoughts.terse(work)
    return f"{said[:-1]}, {work[-1].value}." if said else ""


def task_turns(
    rng: Random, task: AgentTask, template: Template, style: float, *, partial: bool = True, noun: Noun = noun
) -> list[Turn]:
    """Draw an agent task as its reference solution goes; earlier thoughts may have been dropped.

    Args:
        rng: the random stream.
        task: the task.
        template: whose chat template it is rendered with.
        style: level of detail of the thoughts, 0 to 1.
        partial: whether earlier thoughts may be missing.
        noun: says what a call finds.
    """
    thinking, turns, rounds = template == "thinking", [Turn("user", task.prompt)], task.rounds
    drops = rng.choices(tuple(_DROPS), tuple(_DROPS.values()))[0] if partial else "none"
    stop = len(rounds) if drops == "none" or rng.random() < 0.5 else rng.randint(0, len(rounds))
    for index, group in enumerate(rounds[: stop + 1]):
        mends = index > 0 and any(failed(call) for call in rounds[index - 1])
        thought = before_calls(group, rounds[:index], style, mends=mends, noun=noun) if thinking else None
        work = [step for call in group for step in call.work]
        if index < stop and _dropped(rng, drops, bool(work)):
            thought = None
        said = aside(work) if thought is None or style < thoughts.EMPTY else ""
        turns.append(Turn("assistant", said, thought, tuple((call.name, call.arguments) for call in group)))
        if index == stop:
            return turns
        turns += [Turn("tool", call.result) for call in group]
    thought = before_reply(rounds, task.work, task.answers, style, noun=noun) if thinking else None
    said = thoughts.terse(task.work) if not thinking or style < thoughts.EMPTY else ""
    return [*turns, Turn("assistant", f"{said} {task.reply}".lstrip(), thought)]


_DROPS = {"none": 0.45, "all": 0.2, "half": 0.1, "shallow": 0.25}
"""Which thoughts of earlier steps are gone, and how often: those of an agent whose depth is chosen step by step are
gone where nothing was to be worked out, those of a chat at λ = 0 everywhere."""


def _dropped(rng: Random, drops: str, deep: bool) -> bool:
    """Draw whether the thought of an earlier step is gone; ``deep`` says that it worked something out."""
    if drops == "half":
        return rng.random() < 0.5
    return drops == "all" or (drops == "shallow" and not deep)
