"""Tools nobody has seen: made-up or English-looking names, arguments and values, to be copied from the prompt.

Every word of a name or value belongs to one split by its own hash (`words.word_split`), so a test tool shares no
made-up word with training. `novel_task` gives one call and the answer that copies its result.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from dami_agent.tasks.model import AgentTask, PlannedCall, Split, Tool, ToolSpec
from dami_agent.tasks.words import NOUNS, VERBS, english, joined, letters, made_up

_SUFFIXES = ("txt", "csv", "md", "json", "py", "com", "org")
_SCRIPTS = ((0x4E00, 0x9FA0), (0x3041, 0x3097), (0x30A1, 0x30FB), (0x0410, 0x0450), (0x03B1, 0x03CA), (0xAC00, 0xD7A3))


@dataclass(frozen=True)
class Argument:
    """One argument of a made-up tool: its schema type and the value the prompt gives."""

    name: str
    kind: str
    value: Any


def identifier(rng: Random, split: Split, *, parts: int | None = None) -> str:
    """A tool or argument name: snake_case, camelCase or CamelCase, of made-up and English words."""
    count = parts or rng.choices((1, 2, 3, 4), (3, 6, 3, 1))[0]
    pools = (VERBS, *[NOUNS] * (count - 1)) if count > 1 else (NOUNS,)
    words = [made_up(rng, split) if rng.random() < 0.5 else english(rng, split, pool) for pool in pools]
    style = rng.random()
    if style < 0.7:
        return "_".join(words)
    tail = "".join(word.capitalize() for word in words[1:])
    return words[0] + tail if style < 0.85 else words[0].capitalize() + tail


def value(rng: Random, split: Split) -> tuple[str, Any]:
    """A JSON-schema type and a value of it."""
    if rng.random() < 0.45:
        number = rng.choice((rng.randint(0, 9), rng.randint(10, 99), rng.randint(100, 999), rng.randint(1000, 9999)))
        return "integer", -number if rng.random() < 0.05 else number
    word = made_up(rng, split)
    roll = rng.random()
    if roll < 0.3:
        return "string", word
    if roll < 0.5:
        return "string", word.capitalize()
    if roll < 0.62:
        return "string", f"{word.capitalize()} {made_up(rng, split).capitalize()}"
    if roll < 0.68:
        return "string", f"{word.capitalize()} {made_up(rng, split).capitalize()}, {letters(rng, 2).upper()}"
    if roll < 0.78:
        return "string", f"{word}.{rng.choice(_SUFFIXES)}"
    if roll < 0.82:
        return "string", f"{letters(rng, rng.randint(1, 3)).upper()}{'-' * rng.randint(0, 1)}{rng.randint(1, 999)}"
    if roll < 0.86:
        return "string", letters(rng, rng.randint(3, 8))
    low, high = rng.choice(_SCRIPTS)
    return "string", "".join(chr(rng.randint(low, high - 1)) for _ in range(rng.randint(2, 7)))


def schema(rng: Random, split: Split, arguments: list[Argument]) -> dict[str, Any]:
    """The JSON schema of the arguments, with the extras real tools have: descriptions, limits, defaults."""
    properties: dict[str, Any] = {}
    described = rng.random() < 0.25
    for argument in arguments:
        entry: dict[str, Any] = {}
        if described:
            entry["description"] = f"The {english(rng, split)} of the {made_up(rng, split)}."
        if argument.kind == "integer" and rng.random() < 0.1:
            entry |= {"exclusiveMaximum": 10 ** rng.randint(4, 5), "exclusiveMinimum": -rng.randint(100, 999) * 10}
        entry["type"] = argument.kind
        properties[argument.name] = entry
    if rng.random() < 0.1:
        properties[identifier(rng, split, parts=1)] = {"default": None, "type": "string"}
    result: dict[str, Any] = {"properties": properties}
    if arguments:
        result["required"] = [argument.name for argument in arguments]
    return result | {"type": "object"}


def _value_text(rng: Random, text: Any, *, quoted: bool) -> str:
    return (
        f"{(mark := rng.choice(('', chr(39), chr(34))))}{text}{mark}" if quoted and isinstance(text, str) else str(text)
    )


def _prompt(rng: Random, name: str, subject: str, arguments: list[Argument], split: Split) -> str:
    """How a user asks for the call: by the tool's name, as code, or by what the tool is described to do."""
    shown = [_value_text(rng, argument.value, quoted=True) for argument in arguments]
    forms: tuple[str, ...]
    if not arguments:
        forms = (
            "Call {0}.",
            "Use {0}.",
            "What does {0}() give?",
            "Run {0}() and tell me what it says.",
            "Use the tool to get the {1}.",
        )
        forms += ("What is the {1}?", "Give me the result of {0}(). Use the tool.", "Compute {0}() with the tool.")
        return rng.choice(forms).format(name, subject)
    listed = ", ".join(shown)
    if len(arguments) == 1:
        forms = (
            "Call {0} on {2}.",
            "What does {0} say about {2}?",
            "Give me {0}({2}).",
            "What is {0}({2})? Use the tool.",
        )
        forms += (
            "Compute {0}({2}) with the tool.",
            "Find the {1} of {2}.",
            "What is the {1} of {2}?",
            "Tell me the {1} for {2}.",
        )
        forms += (
            "What is the {1} in {2}?",
            "Make a {1} called {2}.",
            "Use {0} with {3} {2}.",
            "Get the result of {0}({2}).",
        )
        return rng.choice(forms).format(name, subject, listed, arguments[0].name)
    pairs = " and ".join(f"{argument.name} {text}" for argument, text in zip(arguments, shown, strict=True))
    aside = f" ({made_up(rng, split).capitalize()} {english(rng, split)})"
    forms = ("Use {0} with {2}.", "Call {0} with {2}.", "What is the {1} for {2}?", "Give me {0}({3}).")
    forms += ("Evaluate {0}({3}) with the tool.", "Make a {1} with {2}.", "Find the {1} with {2}.", "Set {2} in {0}.")
    text = rng.choice(forms).format(name, subject, pairs, listed)
    return text[:-1] + aside + text[-1] if rng.random() < 0.05 else text


@dataclass(frozen=True)
class Novel:
    """A made-up tool, a prompt that asks for one use of it, the arguments the prompt gives, and the result."""

    tool: Tool
    subject: str
    prompt: str
    arguments: dict[str, Any]
    result: str

    @property
    def name(self) -> str:
        """The tool's name."""
        return self.tool.spec.name

    def call(self, *, together: bool = False) -> PlannedCall:
        """The call the prompt asks for."""
        return PlannedCall(self.name, self.arguments, self.result, (), together)


_FINDS = ("Find", "Get", "Look up", "Compute", "Make", "Count", "Return", "Apply")


def novel_tool(rng: Random, split: Split, *, named: float = 0.6) -> Novel:
    """A made-up tool; `named` is how often the prompt has its name where a description would do."""
    arguments: list[Argument] = []
    for _ in range(rng.choices((0, 1, 2, 3), (2, 6, 5, 2))[0]):
        name = identifier(rng, split, parts=rng.choices((1, 2), (4, 1))[0])
        if name not in {argument.name for argument in arguments}:
            arguments.append(Argument(name, *value(rng, split)))
    name = identifier(rng, split)
    subject = english(rng, split) if rng.random() < 0.6 else made_up(rng, split)
    description = f"{rng.choice(_FINDS)} the {subject} of a {english(rng, split)}."
    if rng.random() < 0.15:
        description += f"\n\n{made_up(rng, split).capitalize()} {made_up(rng, split)} {english(rng, split)}."
    spec = ToolSpec(name, description, schema(rng, split, arguments))
    result = str(value(rng, split)[1])
    prompt = _ask(rng, split, name, subject, arguments, named)
    return Novel(Tool(spec, lambda **_: result), subject, prompt, {each.name: each.value for each in arguments}, result)


def _ask(rng: Random, split: Split, name: str, subject: str, arguments: list[Argument], named: float) -> str:
    if rng.random() < named:
        return _prompt(rng, name, name, arguments, split).replace(f"the {name} ", f"{name} ")
    return _prompt(rng, name, subject, arguments, split)


def novel_tools(rng: Random, split: Split, count: int, *, named: float = 0.6) -> list[Novel]:
    """Made-up tools whose names and subjects differ, so that each prompt fits one of them."""
    found: list[Novel] = []
    while len(found) < count:
        other = novel_tool(rng, split, named=named)
        if all(_apart(other, each) and _apart(each, other) for each in found):
            found.append(other)
    return found


def _apart(one: Novel, other: Novel) -> bool:
    """Whether nothing that asks for `one` names or describes `other`."""
    described = other.tool.spec.description.lower()
    return one.name.lower() != other.name.lower() and one.subject not in described.replace(".", " ").split()


def novel_task(rng: Random, split: Split, *, bound: int = 1) -> AgentTask:
    """One call of a made-up tool among `bound` made-up tools, then the answer that copies the result."""
    chosen, *others = novel_tools(rng, split, bound, named=0.6 if bound == 1 else 0.4)
    return _task([chosen, *others], chosen.prompt, (chosen.call(),), rng)


def novel_pair(rng: Random, split: Split, *, bound: int = 2) -> AgentTask:
    """Two calls: one tool used twice or two tools, together, or in turn where the prompt says so."""
    tools = novel_tools(rng, split, bound, named=0.5)
    while bound == 1 and not tools[0].arguments:
        tools = novel_tools(rng, split, bound, named=0.5)
    first = tools[0]
    second = _again(rng, split, first) if bound == 1 or (first.arguments and rng.random() < 0.4) else tools[1]
    together = rng.random() < 0.7
    prompt = f"{first.prompt} {second.prompt}" if together else f"First: {first.prompt} Then: {second.prompt}"
    return _task(tools, prompt, (first.call(), second.call(together=together)), rng)


def _again(rng: Random, split: Split, first: Novel) -> Novel:
    """The same tool asked for with other values; its answer follows the values."""
    arguments = []
    for name, old in first.arguments.items():
        new = old
        while new == old or isinstance(new, str) != isinstance(old, str):
            new = value(rng, split)[1]
        arguments.append(Argument(name, "", new))
    values, result = {each.name: each.value for each in arguments}, str(value(rng, split)[1])
    prompt = _ask(rng, split, first.name, first.subject, arguments, 0.5)
    both = Tool(first.tool.spec, lambda **given: result if given == values else first.result)
    object.__setattr__(first, "tool", both)
    return Novel(both, first.subject, prompt, values, result)


def _task(tools: list[Novel], prompt: str, plan: tuple[PlannedCall, ...], rng: Random) -> AgentTask:
    bound = [each.tool for each in tools]
    rng.shuffle(bound)
    answers = tuple(call.result for call in plan)
    reply = f"The answer is {answers[0]}." if len(answers) == 1 else f"The answers are {joined(answers)}."
    return AgentTask("novel", "novel", prompt, tuple(bound), plan, answers, (), reply)
