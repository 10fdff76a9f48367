"""Bring replies to a form in which they can be compared: the same answer in other words is the same.

Two replies agree that make the same tool calls, in any order; else whose answers are the same: what stands in
``\\boxed{}``, else JSON, else the last number of a short last line, else the whole text, case, blanks and punctuation
aside.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from hashlib import blake2b
from typing import Any

import regex

from dami_agent.types import Reply

__all__ = ["NUMBER", "answer_of", "last_number"]

NUMBER = regex.compile(r"(?:(?<!\w)[-−])?(?:(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?|\.\d+)")
_BOXED = regex.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")
_ONLY_NUMBER = regex.compile(r"[\s$]*[-−+]?[\d,.]+[\s$%]*")
_SHORT = 12
"""Words of a last line whose number is the answer; of a longer one it may be any number."""


def last_number(text: str) -> float | None:
    """Return the last number in a text, commas between digits left out; None without one."""
    found = NUMBER.findall(text)
    if not found:
        return None
    value = float(found[-1].replace(",", "").replace("−", "-"))
    return value if math.isfinite(value) else None


def answer_of(reply: Reply) -> str | None:
    """Return what a reply answers: its form and a digest, equal for replies that agree; None if it answers nothing.

    A tool call that cannot be read is no answer, whatever stands beside it.
    """
    if reply.invalid_tool_calls:
        return None
    if reply.tool_calls:
        calls = sorted(_canonical([call.name, dict(call.arguments)]) for call in reply.tool_calls)
        return f"calls {_digest(calls)}"
    form, said = _said(reply.content.strip())
    return f"{form} {_digest(said)}" if said else None


def _said(text: str) -> tuple[str, str]:
    """Return the form of an answer, and the answer in it: equal for equal ones."""
    if boxed := _BOXED.findall(text):
        answer = boxed[-1].strip()
        number = last_number(answer) if _ONLY_NUMBER.fullmatch(answer) else None
        return ("text", "".join(answer.split())) if number is None else ("number", f"{number:.9g}")
    with suppress(ValueError, RecursionError):
        value = json.loads(text)
        if isinstance(value, (dict, list)):
            return "json", _canonical(value)
    last = text.splitlines()[-1] if text else ""
    number = last_number(last) if len(last.split()) <= _SHORT else None
    if number is not None:
        return "number", f"{number:.9g}"
    return "text", " ".join(regex.findall(r"[\p{L}\p{M}\p{N}]+", text.casefold())) or text


def _canonical(value: Any) -> str:
    """Write a JSON value so that equal ones are written alike: keys in order, 1.0 as 1."""
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False, default=str)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _digest(said: object) -> str:
    return blake2b(repr(said).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
