"""Requests in people's words over their own tools, written by hand, with slots that are filled anew in every document.

Each line of a ``*.jsonl`` beside this file is one :class:`Entry`. Its fields:

- ``kind``: ``one_call``, ``two_calls``, ``call_then_work``, ``ids``, ``extract``, ``no_tool_fits``, ``no_tools``,
  ``follow_up`` or ``small_talk``;
- ``ask``: ways to say the same request, with ``{slots}``; ``talk`` instead for a conversation: user and assistant in
  turn, the last line the user's;
- ``slots``: slot -> list of texts, ``"int 2 40"``, or the name of a pool (:data:`pools.POOLS`);
- ``tools``: ``[{"name", "description", "parameters": {"item": "string", "count?": "integer"}}]``, ``?`` for optional;
- ``calls``: rounds of calls, ``[[["get_price", {"item": "{item}"}]], ...]``, calls of one round are made together;
  ``results``: rounds of what the tools answer;
- ``work``: operations on slots and earlier results, ``["{price} * {count}", "r1 + {fee}"]``, whole numbers only; what
  the first comes to may also be said, as ``{r1}``;
- ``answer``: what the reply says, ``"{price}"``, ``"{a} and {b}"``, ``"r2"`` for the second operation's result, or
  ``"largest {tom}={a} | {eva}={b}"`` (``smallest``) for the name with the largest number; null where nothing is looked
  up (``extract``), where no tool fits, and in small talk, which has ``replies``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from builtin_pair.training.requests.pools import POOLS
from dami_agent.tasks.task import Operation, ToolSpec

FOLDER = Path(__file__).parent
KINDS = (
    "one_call",
    "two_calls",
    "call_then_work",
    "ids",
    "extract",
    "no_tool_fits",
    "no_tools",
    "follow_up",
    "small_talk",
)
TYPES = ("string", "integer", "number", "boolean")
LARGEST = 99_999

_SLOT = re.compile(r"(?:\b(?P<article>[Aa]n?) )?\{(?P<slot>\w+)\}")
_COMPARED = re.compile(r"^(largest|smallest) (.+ \| .+)$")
_STEP = re.compile(r"^(\S+) ([+*-]) (\S+)$")


@dataclass(frozen=True)
class Entry:
    """Hold one line of a file; the package's docstring explains the fields."""

    kind: str
    ask: tuple[str, ...] = ()
    talk: tuple[str, ...] = ()
    slots: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[Mapping[str, Any], ...] = ()
    calls: tuple[Any, ...] = ()
    results: tuple[Any, ...] = ()
    work: tuple[str, ...] = ()
    answer: str | None = None
    replies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Filled:
    """Hold one entry with its slots filled."""

    entry: Entry
    said: tuple[str, ...]
    tools: tuple[ToolSpec, ...]
    calls: tuple[tuple[tuple[str, Mapping[str, Any]], ...], ...]
    results: tuple[tuple[str, ...], ...]
    work: tuple[Operation, ...]
    answer: str | None


@cache
def entries() -> tuple[Entry, ...]:
    """Read all files, in the order of their names."""
    texts = (path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.jsonl")))
    return tuple(entry(json.loads(line)) for text in texts for line in text.splitlines() if line.strip())


def entry(data: Mapping[str, Any]) -> Entry:
    """Make an entry of a line's JSON; a single way to ask may be a plain text."""
    ask = data.get("ask", ())
    return Entry(
        kind=data["kind"],
        ask=(ask,) if isinstance(ask, str) else tuple(ask),
        talk=tuple(data.get("talk", ())),
        slots=data.get("slots", {}),
        tools=tuple(data.get("tools", ())),
        calls=tuple(data.get("calls", ())),
        results=tuple(data.get("results", ())),
        work=tuple(data.get("work", ())),
        answer=data.get("answer"),
        replies=tuple(data.get("replies", ())),
    )


def spec(tool: Mapping[str, Any]) -> ToolSpec:
    """Make the tool that a model sees of its short form."""
    given: Mapping[str, Any] = tool.get("parameters", {})
    properties = {
        key.rstrip("?"): dict(value) if isinstance(value, Mapping) else {"type": value} for key, value in given.items()
    }
    required = [key for key in given if not key.endswith("?")]
    parameters: dict[str, Any] = {"properties": properties, "type": "object"}
    return ToolSpec(
        tool["name"], tool.get("description", ""), parameters | ({"required": required} if required else {})
    )


def fill(rng: Random, chosen: Entry) -> Filled:
    """Fill an entry's slots.

    Args:
        rng: the stream.
        chosen: the entry.

    Raises:
        ValueError: the entry names a slot that it does not have, or its work leaves the whole numbers to 99,999.
    """
    values: dict[str, Any] = {}
    for name, source in chosen.slots.items():
        value = _drawn(rng, source)
        tries = 0
        while value in values.values() and tries < 20:  # two slots differ where they can
            value, tries = _drawn(rng, source), tries + 1
        values[name] = value
    work: list[Operation] = []
    for text in chosen.work:
        match = _STEP.match(text)
        if match is None:
            raise ValueError(f"{text!r} is no operation like '{{price}} * {{count}}' or 'r1 + 5'")
        left, right = (_number(part, values, work) for part in (match[1], match[3]))
        step = Operation(left, match[2], right)  # type: ignore[arg-type]
        if not 0 <= step.result <= LARGEST:
            raise ValueError(f"{text!r} comes to {step.result}")
        work.append(step)
        values[f"r{len(work)}"] = step.result
    said = chosen.talk or (rng.choice(chosen.ask),)
    return Filled(
        entry=chosen,
        said=tuple(put(each, values) for each in said),
        tools=tuple(spec(tool) for tool in chosen.tools),
        calls=tuple(tuple((name, _given(arguments, values)) for name, arguments in turn) for turn in chosen.calls),
        results=tuple(tuple(put(each, values) for each in turn) for turn in chosen.results),
        work=tuple(work),
        answer=None if chosen.answer is None else _answer(chosen.answer, values, work),
    )


def put(text: str, values: Mapping[str, Any]) -> str:
    """Put slots into a text.

    Raises:
        ValueError: a slot is not there.
    """
    if missing := {match["slot"] for match in _SLOT.finditer(text)} - values.keys():
        raise ValueError(f"{text!r} names slots that are not there: {', '.join(sorted(missing))}")
    return _SLOT.sub(lambda match: _with_article(match["article"], str(values[match["slot"]])), text)


def _with_article(article: str | None, word: str) -> str:
    """Put `a` or `an` before a word, where one of them stands before its slot."""
    if article is None:
        return word
    vowel = re.match(r"(?!uni|use|usu|eu|one\b)[aeiou]", word, re.IGNORECASE) is not None
    return f"{article[0]}{'n' if vowel else ''} {word}"


def _drawn(rng: Random, source: Any) -> Any:
    if isinstance(source, list):
        return rng.choice(source)
    if source.startswith("int "):
        low, high = map(int, source.split()[1:])
        return rng.randint(low, high)
    if source not in POOLS:
        raise ValueError(f"no pool {source!r}; there are {', '.join(POOLS)}")
    return POOLS[source](rng)


def _number(text: str, values: Mapping[str, Any], work: Sequence[Operation]) -> int:
    if re.fullmatch(r"r\d+", text):
        return work[int(text[1:]) - 1].result
    return int(put(text, values))


def _answer(text: str, values: Mapping[str, Any], work: Sequence[Operation]) -> str:
    if compared := _COMPARED.match(text):
        pairs = [put(each, values).rsplit("=", 1) for each in compared[2].split(" | ")]
        numbers = {name: int(value) for name, value in pairs}
        if len(set(numbers.values())) < len(pairs):
            raise ValueError(f"{text!r} compares equal numbers or names")
        return (max if compared[1] == "largest" else min)(numbers, key=lambda name: numbers[name])
    return str(_number(text, values, work)) if re.fullmatch(r"r\d+", text) else put(text, values)


def _given(arguments: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Fill the arguments of a call; a slot alone keeps its type, so that numbers stay numbers."""

    def one(value: Any) -> Any:
        if not isinstance(value, str):
            return [one(each) for each in value] if isinstance(value, list) else value
        alone = re.fullmatch(r"\{(\w+)\}", value)
        return values[alone[1]] if alone and alone[1] in values else put(value, values)

    return {key: one(value) for key, value in arguments.items()}
