"""Tools nobody has seen: made-up or English-looking names, arguments and values, to be copied from the prompt.

`novel_task` gives one call and the answer that copies its result; `novel_pair` two calls; `novel_mended` one that fails
and says what to ask for. What they are made of is in `invented.py`; calls that build on each other are in `composed`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from random import Random
from typing import Any

from dami_agent.tasks.invented import Argument, identifier, schema, spelled, value
from dami_agent.tasks.task import AgentTask, PlannedCall, Split, TaskTool, ToolSpec
from dami_agent.tasks.words import VERBS, an, english, made_up, reply_of


def _shown(rng: Random, value: Any) -> str:
    """Draw a value as a user writes it: text perhaps in quotes."""
    return f"{(mark := rng.choice(('', chr(39), chr(34))))}{value}{mark}" if isinstance(value, str) else str(value)


_NAMED: tuple[tuple[str, ...], ...] = (
    (
        "Call {0}.",
        "Use {0}.",
        "What does {0}() give?",
        "What is {0}()?",
        "Run {0}() and tell me what it says.",
        "Give me the result of {0}(). Use the tool.",
        "Compute {0}() with the tool.",
    ),
    (
        "Call {0} on {1}.",
        "What does {0} say about {1}?",
        "Give me {0}({1}).",
        "What is {0}({1})? Use the tool.",
        "Compute {0}({1}) with the tool.",
        "Use {0} with {2} {1}.",
        "Get the result of {0}({1}).",
        "Find {0} of {1}.",
        "What is {0} of {1}?",
        "Tell me {0} for {1}.",
        "Make {0} called {1}.",
    ),
    (
        "Use {0} with {2}.",
        "Call {0} with {2}.",
        "Give me {0}({1}).",
        "Evaluate {0}({1}) with the tool.",
        "Set {2} in {0}.",
        "What is {0} for {2}?",
        "Find {0} with {2}.",
    ),
)
"""Prompts with the tool's name, for no argument, one, several: name, values, names with values."""

_DESCRIBED: tuple[tuple[str, ...], ...] = (
    (
        "Use the tool to get the {0}.",
        "What is the {0}?",
        "Tell me the {0}.",
        "What is the {0} of the {1}?",
        "I need the {0} of a {1}.",
        "Get me the {0}.",
        "Can you look up the {0} of the {1}?",
        "Please find the {0}.",
    ),
    (
        "Find the {0} of {2}.",
        "What is the {0} of {2}?",
        "Tell me the {0} for {2}.",
        "What is the {0} in {2}?",
        "Make a {0} called {2}.",
        "What is the {0} of the {1} {2}?",
        "I need the {0} of the {1} {2}.",
        "Which {0} has the {1} {2}?",
        "Get me the {0} of {2}.",
        "Can you look up the {0} for {2}?",
        "Please find the {0} of the {1} {2}.",
        "Here is {2}. What is the {0} of it?",
    ),
    (
        "What is the {0} for {3}?",
        "Make a {0} with {3}.",
        "Find the {0} with {3}.",
        "What is the {0} of the {1} with {3}?",
        "I need the {0} of a {1} for {3}.",
        "Get me the {0} for {3}.",
        "Can you look up the {0} with {3}?",
        "With {3}, what is the {0} of the {1}?",
    ),
)
"""Prompts with words of the description: what the tool finds, of what, values, names with values."""

_SPOKEN: tuple[tuple[str, ...], ...] = (
    ("Please {0}.", "I want to {0}.", "Can you {0}?", "Do this: {0}.", "Time to {0}."),
    ("Please {0} for {1}.", "I want to {0} with {1}.", "Can you {0} for {1}?", "Do this for {1}: {0}.", "{0}: {1}."),
    ("Please {0} with {2}.", "I want to {0} for {2}.", "Can you {0} with {2}?", "With {2}, {0}.", "Do this: {0}, {2}."),
)
"""Prompts with the words of the tool's name as one says them, `find blorf rate`: these, values, names with values."""


def spoken(name: str) -> list[str]:
    """Return the words of a name in snake_case or CamelCase, in lower case."""
    return [part.lower() for part in re.findall(r"[A-Z]?[a-z]+", name)]


def _ask(
    rng: Random, split: Split, tool: ToolSpec, subject: tuple[str, str], values: Mapping[str, Any], named: float
) -> str:
    """How a user asks for the call: by the tool's name, as code, or (1 - `named`) by what it is described to do.

    A name that starts with a verb is sometimes spoken: `find blorf rate` for `findBlorfRate`.
    """
    shown = [_shown(rng, each) for each in values.values()]
    listed, pairs = ", ".join(shown), " and ".join(f"{name} {text}" for name, text in zip(values, shown, strict=True))
    many, parts = min(len(values), 2), spoken(tool.name)
    if rng.random() < named:
        text = rng.choice(_NAMED[many]).format(tool.name, listed, pairs if many == 2 else next(iter(values), ""))
    elif len(parts) > 1 and rng.random() < 0.25 and parts[0] in VERBS:
        text = rng.choice(_SPOKEN[many]).format(" ".join(parts), listed, pairs)
    else:
        text = rng.choice(_DESCRIBED[many]).format(*subject, listed, pairs)
    if many == 2 and rng.random() < 0.05:
        return f"{text[:-1]} ({made_up(rng, split).capitalize()} {english(rng, split)}){text[-1]}"
    return text


@dataclass(frozen=True)
class Novel:
    """A made-up tool and one use of it: what it finds and of what, a prompt, the arguments it gives, the result."""

    spec: ToolSpec
    subject: tuple[str, str]
    prompt: str
    arguments: Mapping[str, Any]
    result: str

    def call(self, *, together: bool = False) -> PlannedCall:
        """Return the call the prompt asks for."""
        return PlannedCall(self.spec.name, self.arguments, self.result, (), together)


FINDS = ("Find", "Get", "Look up", "Compute", "Make", "Count", "Return", "Apply")


def novel_tool(rng: Random, split: Split, *, named: float = 0.7) -> Novel:
    """Draw a made-up tool and one use of it; `named` is how often the prompt has its name and not its description."""
    arguments: list[Argument] = []
    for _ in range(rng.choices((0, 1, 2, 3), (2, 6, 5, 2))[0]):
        name = identifier(rng, split, parts=rng.choices((1, 2), (4, 1))[0])
        if name not in {argument.name for argument in arguments}:
            arguments.append(Argument(name, *value(rng, split)))
    spec, subject = novel_spec(rng, split, arguments)
    values = {each.name: each.value for each in arguments}
    return Novel(spec, subject, _ask(rng, split, spec, subject, values, named), values, str(value(rng, split)[1]))


def novel_spec(
    rng: Random, split: Split, arguments: list[Argument], *, finds: str | None = None
) -> tuple[ToolSpec, tuple[str, str]]:
    """Draw a made-up tool with these arguments, what it finds (drawn if not told) and of what.

    Args:
        rng: the random stream.
        split: the split that everything drawn belongs to.
        arguments: the tool's arguments.
        finds: what the tool finds; None draws it.
    """
    found = finds or (english(rng, split) if rng.random() < 0.6 else made_up(rng, split))
    subject = found, english(rng, split)
    description = f"{rng.choice(FINDS)} the {subject[0]} of {an(subject[1])}."
    if rng.random() < 0.15:
        description += f"\n\n{made_up(rng, split).capitalize()} {made_up(rng, split)} {english(rng, split)}."
    name = _told(rng, split, subject) if rng.random() < 0.35 else identifier(rng, split)
    return ToolSpec(name, description, schema(rng, split, arguments)), subject


def _told(rng: Random, split: Split, subject: tuple[str, str]) -> str:
    """Draw a name that says what the tool finds, as most names do: `get_rate`, `findCityRate`, `city_rate`."""
    verb = english(rng, split, VERBS)
    return spelled(rng, rng.choice(((verb, subject[0]), (verb, subject[1], subject[0]), (subject[1], subject[0]))))


def novel_tools(rng: Random, split: Split, count: int, *, named: float) -> list[Novel]:
    """Draw made-up tools that differ in name and in what they find, so that a prompt fits one of them.

    All are drawn anew when two are alike: to one that is called `the` no other would ever be unlike.

    Args:
        rng: the random stream.
        split: the split that everything drawn belongs to.
        count: how many.
        named: how often a prompt has the tool's name and not its description, 0 to 1.
    """
    while True:
        found = [novel_tool(rng, split, named=named) for _ in range(count)]
        if all(apart(one, other) for one, other in combinations(found, 2)):
            return found


def apart(one: Novel, other: Novel) -> bool:
    """Whether what one tool finds, and its name as it is spoken, say nothing about the other tool."""
    return _says_nothing(one, other) and _says_nothing(other, one)


def _says_nothing(one: Novel, other: Novel) -> bool:
    spec = other.spec
    words = {*spoken(spec.name), *spec.description.lower().replace(".", "").split(), spec.name.lower()}
    words |= {part for argument in other.arguments for part in spoken(argument)}
    return one.subject[0] not in words and not words.issuperset(spoken(one.spec.name))


def novel_task(rng: Random, split: Split, *, bound: int = 1) -> AgentTask:
    """One call of a made-up tool among `bound` made-up tools, then the answer that copies the result."""
    return novel_tasks(rng, split, 1, bound=bound, named=0.7 if bound == 1 else 0.5)[0]


def novel_tasks(rng: Random, split: Split, count: int, *, bound: int, named: float) -> list[AgentTask]:
    """Draw `count` tasks of one call each over the same made-up tools, a different one each time.

    Args:
        rng: the random stream.
        split: the split that everything drawn belongs to.
        count: how many.
        bound: tools bound.
        named: how often a prompt has the tool's name and not its description, 0 to 1.
    """
    tools = novel_tools(rng, split, bound, named=named)
    first = _task(rng, tools, tools[0].prompt, [tools[0]])
    others = [_task(rng, tools, use.prompt, [use]) for use in tools[1:count]]
    return [first, *(replace(other, tools=first.tools) for other in others)]


def novel_pair(rng: Random, split: Split, *, bound: int = 2) -> AgentTask:
    """Two calls: one tool used twice or two tools, together, or in turn where the prompt says so."""
    tools = novel_tools(rng, split, bound, named=0.6)
    while bound == 1 and not tools[0].arguments:
        tools = novel_tools(rng, split, bound, named=0.6)
    first = tools[0]
    second = _again(rng, split, first) if bound == 1 or (first.arguments and rng.random() < 0.4) else tools[1]
    together = rng.random() < 0.7
    prompt = f"{first.prompt} {second.prompt}" if together else f"First: {first.prompt} Then: {second.prompt}"
    return _task(rng, tools, prompt, [first, second], together=together)


def novel_mended(rng: Random, split: Split, *, bound: int = 1) -> AgentTask:
    """One call that fails with a text that says what to ask for, the call mended, and its result."""
    while True:
        tools = novel_tools(rng, split, bound, named=0.6)
        first = tools[0]
        if first.arguments:
            break
    name = rng.choice(tuple(first.arguments))
    old, new = first.arguments[name], _another(rng, split, first.arguments[name])
    forms = ("{0} is now {1}.", "there is no {0}. Ask for {1}.", "use {1} for {0}.", "no {0} here. Ask for {1}.")
    error = f"Error: {rng.choice(forms).format(old, new)}"
    mended = Novel(first.spec, first.subject, first.prompt, {**first.arguments, name: new}, first.result)
    wrong = Novel(first.spec, first.subject, first.prompt, first.arguments, error)
    return _task(rng, tools, first.prompt, [wrong, mended])


def _another(rng: Random, split: Split, old: Any) -> Any:
    while True:
        new = value(rng, split)[1]
        if new != old and isinstance(new, str) == isinstance(old, str):
            return new


def _again(rng: Random, split: Split, first: Novel) -> Novel:
    """Another use of the same tool, with other values."""
    values = {name: _another(rng, split, old) for name, old in first.arguments.items()}
    prompt = _ask(rng, split, first.spec, first.subject, values, 0.5)
    return Novel(first.spec, first.subject, prompt, values, str(value(rng, split)[1]))


def _task(rng: Random, tools: list[Novel], prompt: str, uses: list[Novel], *, together: bool = False) -> AgentTask:
    """Return `uses` are made in order; a tool used twice answers by its arguments."""
    plan = tuple(use.call(together=together and index > 0) for index, use in enumerate(uses))
    bound = answering(rng, tools, plan)
    answers = tuple(call.result for call in plan if not call.result.startswith("Error"))
    return AgentTask("novel", "novel", prompt, bound, plan, answers, (), reply_of(answers))


def answering(rng: Random, tools: Sequence[Novel], plan: tuple[PlannedCall, ...]) -> tuple[TaskTool, ...]:
    """Return the tools in any order, each answering the calls of the plan as planned and every other one anyhow."""
    bound = [TaskTool(each.spec, _answers(each, plan)) for each in tools]
    rng.shuffle(bound)
    return tuple(bound)


def _answers(tool: Novel, plan: tuple[PlannedCall, ...]) -> Callable[..., str]:
    own = [call for call in plan if call.name == tool.spec.name]

    def run(**arguments: Any) -> str:
        return next((call.result for call in own if call.arguments == arguments), tool.result)

    return run
