"""How a user asks for hops through tools: nested, step by step, by the tools' names, or by how often."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Any

from dami_agent.tasks.words import NOUNS, joined, plural

_NESTED_ONE = (
    "What is the {b} of {inner} of {x}?",
    "I need the {b} of {inner} of {x}.",
    "Tell me the {b} in {inner} of {x}.",
    "Find the {b} for {inner} of {x}.",
    "Get me the {b} of {inner} of {x}.",
    "Can you look up the {b} of {inner} of {x}?",
    "Which {b} has {inner} of {x}?",
    "What {b} does {inner} of {x} have?",
    "Here is {x}. What is the {b} of {inner} of it?",
    "For {x}, find the {b} of {inner}.",
    "Please find out the {b} at {inner} of {x}.",
)
_NESTED_MANY = (
    "What {be} the {b} of {inner} of {x}?",
    "I need the {b} of {inner} of {x}.",
    "Tell me the {b} in {inner} of {x}.",
    "Find the {b} for {inner} of {x}.",
    "Get me the {b} of {inner} of {x}.",
    "Can you look up the {b} of {inner} of {x}?",
    "Which {b} {have} {inner} of {x}?",
    "For each of {x}: what is the {one} of {single}?",
    "For {x}, find the {b} of {inner}.",
    "List the {b} of {inner} of {x}.",
    "Here are {x}. What {be} the {b} of {inner} of {them}?",
)
"""Last thing asked for, what is between, the values; for several also the first two for one of them alone."""

_STEPS_ONE = (
    "Find the {a} of {x}, then {rest}.",
    "Look up the {a} of {x}. Then get {rest}.",
    "First the {a} of {x}, then {rest}.",
    "Start with {x}. Find its {a}, then {rest}.",
    "Get the {a} of {x} and find {rest}.",
    "Take {x}: look up its {a}, then {rest}.",
    "I have {x}. I want its {a}, then {rest}.",
    "Find out the {a} of {x}. After that I need {rest}.",
    "Which {a} does {x} have? Tell me {rest}.",
    "Find the {a} of {x} first, then tell me {rest}.",
    "With the {a} of {x}, find {rest}.",
)
_STEPS_MANY = (
    "Find the {a} of {x}, then {rest}.",
    "Look up the {a} of {x}. Then get {rest}.",
    "First the {a} of {x}, then {rest}.",
    "Start with {x}. Find the {one} of each, then {rest}.",
    "Get the {a} of {x} and find {rest}.",
    "For {x}, look up the {a}, then {rest}.",
    "I have {x}. Find the {one} of each. After that I need {rest}.",
    "Which {a} do {x} have? Tell me {rest}.",
    "Find the {a} of {x} first, then tell me {rest}.",
    "Find the {one} of each of {x}. Go on to {rest}.",
)
"""First thing asked for, the values, and what comes after."""

_NAMED = (
    "Call {a} on {x}, then {rest}.",
    "Use {a} for {x} and then {rest}.",
    "Run {a} with {x}, then {rest}. What comes out?",
    "First {a} on {x}, then {rest}.",
    "Ask {a} about {x}. Then use {rest}.",
)
_AS_CODE = ("Give me {code}.", "What is {code}?", "Compute {code} with the tools.", "Evaluate {code}.")

_COUNTED = (
    "Start with {x} and go to its {a}, {times} in all.",
    "Find the {a} of {x}, then the {a} of that, and so on, {times} in all.",
    "Call {tool} {times}: first on {x}, then on what it said.",
    "Look up the {a} {times}, first of {x}, then always of what you found.",
    "From {x}, go {times} to the {a} of what you have.",
    "Apply {tool} to {x}, {times} in a row.",
    "Begin at {x}. {Times}: find the {a} of what you have. Where do we end?",
)
_TIMES = {2: "twice", 4: "four times", 5: "five times"}


def several(word: str) -> str:
    """Return the plural of what a tool finds; made-up words keep their letters, so that they can still be told."""
    return f"{word[:-1]}ies" if word.endswith("y") and word in NOUNS else plural(word)


def shown(rng: Random, values: Sequence[Any]) -> list[str]:
    """Values as a user writes them: all bare, or all texts in quotes."""
    mark = rng.choice(("", "", "", "'", '"'))
    return [f"{mark}{value}{mark}" if isinstance(value, str) else str(value) for value in values]


def nesting(finds: Sequence[str]) -> str:
    """Return `the name of the rate`, for rate, then name."""
    return " of ".join(f"the {word}" for word in reversed(finds))


def ask(rng: Random, finds: Sequence[str], tools: Sequence[str], values: Sequence[Any]) -> str:
    """Draw a prompt for what the last of `finds` is of the one before, ... of each of the values.

    Args:
        rng: the random stream.
        finds: what each hop finds.
        tools: the tools of the hops, in order.
        values: the values asked about.
    """
    repeated = len(set(tools)) == 1
    if repeated and rng.random() < 0.4:
        times = _TIMES[len(tools)]
        text = rng.choice(_COUNTED[2:] if len(tools) == 2 else _COUNTED)
        return text.format(x=shown(rng, values)[0], a=finds[0], tool=tools[0], times=times, Times=times.capitalize())
    roll = rng.random()
    if roll < 0.12:
        return _by_name(rng, tools, values)
    return nested(rng, finds, values) if roll < 0.56 else steps(rng, finds, values)


def nested(rng: Random, finds: Sequence[str], values: Sequence[Any]) -> str:
    """Return `What is the name of the rate of Kex?`."""
    listed = joined(shown(rng, values))
    if len(values) == 1:
        return rng.choice(_NESTED_ONE).format(b=finds[-1], inner=nesting(finds[:-1]), x=listed)
    many = rng.random() < 0.6
    said = [several(word) for word in finds] if many else finds
    return rng.choice(_NESTED_MANY).format(
        b=said[-1],
        inner=nesting(said[:-1]),
        x=listed,
        be="are" if many else "is",
        have="have" if many else "has",
        one=finds[-1],
        single=nesting(finds[:-1]),
        them=_them(rng, len(values)),
    )


def steps(rng: Random, finds: Sequence[str], values: Sequence[Any]) -> str:
    """Return `Find the rates of Kex and Zan, then the names of both.`."""
    listed = joined(shown(rng, values))
    if len(values) == 1:
        that = rng.choice(("that", "that", "it", "what you find", "that one"))
        rest = ", then ".join(f"the {word} of {that}" for word in finds[1:])
        if rng.random() < 0.15:
            rest = ", then ".join(f"the {word} of that {before}" for before, word in pairwise(finds))
        return rng.choice(_STEPS_ONE).format(a=finds[0], x=listed, rest=rest)
    said = [several(word) for word in finds] if rng.random() < 0.6 else finds
    them = _them(rng, len(values))
    rest = ", then ".join(f"the {word} of {them}" for word in said[1:])
    return rng.choice(_STEPS_MANY).format(a=said[0], one=finds[0], x=listed, rest=rest)


def _them(rng: Random, count: int) -> str:
    """How one goes on with all that was just found."""
    if rng.random() < 0.5:
        return "both" if count == 2 else "all"
    own: tuple[str, ...] = ("both of them", "the two") if count == 2 else ("all of them", "all three", "all of these")
    return rng.choice(("each", "each", "these", "them", "what you find", *own))


def _by_name(rng: Random, tools: Sequence[str], values: Sequence[Any]) -> str:
    """Return `Call blorf on Kex, then glim on the result.`."""
    marked = shown(rng, values)
    if len(values) == 1 and rng.random() < 0.3:
        code: str = marked[0]
        for name in tools:
            code = f"{name}({code})"
        return rng.choice(_AS_CODE).format(code=code)
    that = rng.choice(("the result", "what it says", "that") if len(values) == 1 else ("each result", "what it says"))
    rest = ", then ".join(f"{name} on {that}" for name in tools[1:])
    return rng.choice(_NAMED).format(a=tools[0], x=joined(marked), rest=rest)
