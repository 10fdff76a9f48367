"""What tools nobody has seen are made of: names, values and schemas.

Every word of a name or value belongs to one split by its own hash (`words.word_split`), so a test tool shares no
made-up word with training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from dami_agent.tasks.task import Split
from dami_agent.tasks.words import NOUNS, VERBS, english, letters, made_up

_SUFFIXES = ("txt", "csv", "md", "json", "py", "com", "org")
_SCRIPTS = ((0x4E00, 0x9FA0), (0x3041, 0x3097), (0x30A1, 0x30FB), (0x0410, 0x0450), (0x03B1, 0x03CA), (0xAC00, 0xD7A3))


@dataclass(frozen=True)
class Argument:
    """One argument of a made-up tool: its schema type and the value the prompt gives."""

    name: str
    kind: str
    value: Any


def identifier(rng: Random, split: Split, *, parts: int | None = None) -> str:
    """Draw a tool or argument name: snake_case, camelCase or CamelCase, of made-up and English words."""
    count = parts or rng.choices((1, 2, 3, 4), (3, 6, 3, 1))[0]
    pools = (VERBS, *[NOUNS] * (count - 1)) if count > 1 else (NOUNS,)
    return spelled(rng, [made_up(rng, split) if rng.random() < 0.5 else english(rng, split, pool) for pool in pools])


def spelled(rng: Random, words: Sequence[str]) -> str:
    """Words as one name: snake_case, camelCase or CamelCase."""
    style = rng.random()
    if style < 0.7:
        return "_".join(words)
    tail = "".join(word.capitalize() for word in words[1:])
    return words[0] + tail if style < 0.85 else words[0].capitalize() + tail


def value(rng: Random, split: Split) -> tuple[str, Any]:
    """Draw a JSON-schema type and a value of it."""
    if rng.random() < 0.45:
        number = rng.choice((rng.randint(0, 9), rng.randint(10, 99), rng.randint(100, 999), rng.randint(1000, 9999)))
        return "integer", -number if rng.random() < 0.05 else number
    word = made_up(rng, split)
    roll = rng.random()
    if roll < 0.27:
        return "string", word
    if roll < 0.46:
        return "string", word.capitalize()
    if roll < 0.58:
        return "string", f"{word.capitalize()} {made_up(rng, split).capitalize()}"
    if roll < 0.64:
        return "string", f"{word.capitalize()} {made_up(rng, split).capitalize()}, {letters(rng, 2).upper()}"
    if roll < 0.72:
        return "string", f"{word}.{rng.choice(_SUFFIXES)}"
    if roll < 0.76:
        return "string", f"{letters(rng, rng.randint(1, 3)).upper()}{'-' * rng.randint(0, 1)}{rng.randint(1, 999)}"
    if roll < 0.8:
        return "string", letters(rng, rng.randint(3, 8))
    return "string", foreign(rng)


def foreign(rng: Random, *, most: int = 7) -> str:
    """Text in one or two scripts that are not Latin."""
    text = ""
    for low, high in rng.choices(_SCRIPTS, k=rng.choice((1, 1, 1, 2))):
        text += "".join(chr(rng.randint(low, high - 1)) for _ in range(rng.randint(2, most)))
    return text


Form = Literal["tool", "class", "dict"]
"""Where a schema comes from: a function's signature, a pydantic class, a TypedDict. Each orders its keys otherwise."""


def schema(
    rng: Random,
    split: Split,
    arguments: list[Argument],
    *,
    form: Form | None = None,
    described: bool | None = None,
    optional: bool | None = None,
) -> dict[str, Any]:
    """Return the JSON schema of the arguments, with the extras real tools have: descriptions, titles, limits, defaults.

    What is left None is drawn; `optional` adds an argument that may be left out.

    Args:
        rng: the random stream.
        split: the split that everything drawn belongs to.
        arguments: the tool's arguments.
        form: where the schema comes from, which orders its keys; None draws it.
        described: whether arguments have descriptions; None draws it.
        optional: whether there is an argument that may be left out; None draws it.
    """
    form = form or rng.choices(("tool", "class", "dict"), (8, 1, 1))[0]
    described = rng.random() < (0.25 if form == "tool" else 0.8) if described is None else described
    titled = form == "class" and rng.random() < 0.5
    properties: dict[str, Any] = {}
    for argument in arguments:
        entry: dict[str, Any] = {"description": description(rng, split, argument.name)} if described else {}
        if argument.kind == "integer" and rng.random() < 0.1:
            least = -rng.randint(100, 999) * 10
            least = min(least, argument.value - 1) if isinstance(argument.value, int) else least
            entry |= {"exclusiveMaximum": 10 ** rng.randint(4, 5), "exclusiveMinimum": least}
        if titled:
            entry["title"] = argument.name.replace("_", " ").title()
        properties[argument.name] = {**entry, "type": argument.kind}
    if rng.random() < 0.1 if optional is None else optional:
        properties[identifier(rng, split, parts=1)] = _optional(rng, split, form)
    required = {"required": [argument.name for argument in arguments]} if arguments else {}
    if form == "dict":
        return {"type": "object", "properties": properties, **required}
    return {"properties": properties, **required, "type": "object"}


def description(rng: Random, split: Split, name: str) -> str:
    """Return what an argument is for."""
    first, second = english(rng, split), made_up(rng, split)
    forms = ("The {0} of the {1}.", "{0} to {1} a {2}", "{0} of the {1} {2}", "the {2} of the {0}")
    return rng.choice(forms).format(first, second, name)


def _optional(rng: Random, split: Split, form: Form | None) -> dict[str, Any]:
    if form == "dict":
        return {"description": description(rng, split, "value"), "type": "string"}
    if rng.random() < 0.5:
        return {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}
    return (
        {"default": rng.randint(0, 9), "type": "integer"} if rng.random() < 0.5 else {"default": None, "type": "string"}
    )
