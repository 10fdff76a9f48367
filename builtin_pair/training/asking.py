"""Documents of requests in people's words (`requests`): their own tools among others', calls, work, replies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random
from typing import Literal

from builtin_pair.training import requests, thoughts
from builtin_pair.training.forms import NO_TOOL
from builtin_pair.training.render import Template, TrainingDialogue, Turn
from builtin_pair.training.requests import Filled
from dami_agent.tasks.task import Operation, ToolSpec

_NOTED = ("Noted.", "ok", "Saved.", "Done.", "Created.", "true")
_DONE = ("Done.", "I have noted it.", "That is saved.", "It is on record.")
_CALLING = ("one_call", "two_calls", "call_then_work", "ids", "extract")


def draw_request(rng: Random, template: Template, style: float) -> TrainingDialogue:
    """Draw a request with its tools among up to sixteen of other requests; of some its own tools are left out."""
    entry = rng.choice(requests.entries())
    filled = requests.fill(rng, entry)
    unfit = entry.kind == "no_tool_fits" or (entry.kind in _CALLING and rng.random() < 0.06)
    own = () if unfit and entry.kind != "no_tool_fits" else filled.tools
    tools = _among_others(rng, own, {tool.name for tool in filled.tools}, bound=bool(filled.tools))
    roles: tuple[Literal["user", "assistant"], ...] = ("user", "assistant")
    turns = [Turn(roles[place % 2], said, learn=False) for place, said in enumerate(filled.said)]
    thinking = template == "thinking"

    def reply(text: str, thought: str) -> Turn:
        return Turn("assistant", text, (thought if style >= thoughts.EMPTY else "") if thinking else None)

    if unfit:
        turns.append(reply(rng.choice(NO_TOOL), "No tool here does that."))
    elif entry.kind == "small_talk":
        turns.append(reply(rng.choice(entry.replies), "This is small talk. No tool is needed here."))
    else:
        turns += _calls(rng, filled, template, style)
        if filled.answer is not None:
            turns.append(_answer(filled, template, style))
    return TrainingDialogue(turns, tools, "", template, "request")


def _among_others(rng: Random, own: Sequence[ToolSpec], taken: set[str], *, bound: bool) -> tuple[ToolSpec, ...]:
    """Add tools of other requests: seldom where no tool was bound, always where a request has lost its own."""
    least = 1 if bound and not own else 0
    count = (
        rng.choices((0, 1, 2, 3, 6, 9, 14), (8, 4, 4, 2, 1, 1, 1))[0] if bound else rng.choices((0, 1, 2), (8, 1, 1))[0]
    )
    found = list(own)
    for other in rng.sample(requests.entries(), 40):
        if len(found) == len(own) + max(count, least):
            break
        more = [requests.spec(tool) for tool in other.tools if tool["name"] not in taken]
        if more and other.kind != "no_tool_fits":
            found.append(rng.choice(more))
            taken.add(found[-1].name)
    rng.shuffle(found)
    return tuple(found)


def _calls(rng: Random, filled: Filled, template: Template, style: float) -> list[Turn]:
    """Write the rounds of calls and what the tools answer."""
    turns: list[Turn] = []
    before = ""
    results = filled.results or tuple(tuple(rng.choice(_NOTED) for _ in turn) for turn in filled.calls)
    for calls, found in zip(filled.calls, results, strict=True):
        named = [f"{name} with {' and '.join(map(str, given.values()))}" if given else name for name, given in calls]
        thought = f"{before}I call {', then '.join(named)}."
        if style < thoughts.LINES:
            thought = f"I call {', then '.join(name for name, _ in calls)}."
        told = "" if style < thoughts.EMPTY else thought
        turns.append(Turn("assistant", "", told if template == "thinking" else None, tuple(calls)))
        turns += [Turn("tool", text) for text in found]
        before = f"{', '.join(f'{name} says {text}' for (name, _), text in zip(calls, found, strict=True))}.\n"
    if filled.answer is None:
        if rng.random() < 0.5:
            return turns[: -len(filled.calls[-1])]
        done = Turn("assistant", rng.choice(_DONE), None)
        if template == "thinking":
            done = Turn("assistant", done.content, "" if style < thoughts.EMPTY else "It is done.")
        turns.append(done)
    return turns


def _answer(filled: Filled, template: Template, style: float) -> Turn:
    """Write the reply that says the answer, after the operations that nobody has done yet."""
    done = {int(number) for text in filled.entry.talk for number in re.findall(r"\{r(\d+)\}", text)}
    work = tuple(step for number, step in enumerate(filled.work, 1) if number not in done)
    said = f"The answer is {filled.answer}."
    if template == "instruct":
        return Turn("assistant", f"{thoughts.terse(work)} {said}".lstrip())
    thought = thoughts.worked(work, style) if work else _found(filled, style)
    terse = "" if thought else thoughts.terse(work)
    if work and thought and style >= thoughts.EQUATIONS:
        thought = _opening(filled, work) + thought
    return Turn("assistant", f"{terse} {said}".lstrip(), thought)


def _opening(filled: Filled, work: tuple[Operation, ...]) -> str:
    """Return the first line of a thought: what the tools said, or what the conversation has come to."""
    if filled.results:
        told = [
            f"{name} says {text}"
            for calls, results in zip(filled.calls, filled.results, strict=True)
            for (name, _), text in zip(calls, results, strict=True)
        ]
        return f"{', '.join(told)}.\n"
    return f"It is {work[0].left} so far.\n" if filled.entry.talk else ""


def _found(filled: Filled, style: float) -> str:
    if style < thoughts.EMPTY:
        return ""
    return "I have it." if style < thoughts.EQUATIONS else f"I have all I need: {filled.answer}."
