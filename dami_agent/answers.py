"""Bring replies to a form in which they can be compared: the same answer in other words is the same.

Two replies agree that make the same tool calls, in any order; else whose answers are the same: what stands in
``\\boxed{}``, else JSON, else the last number of a short last line, with those that it hangs together with (``2/3``,
``10:30``, ``1, 2 and 3``, ``A4``), else the whole text, case, blanks and punctuation aside.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import regex

from dami_agent.types import Reply

__all__ = ["NUMBER", "answer_of", "last_number", "same_number"]

NUMBER = regex.compile(r"(?:(?<!\w)[-−])?(?:(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?|\.\d+)")
_BRACES = regex.compile(r"\\boxed\{|[{}]")
_JOINED = regex.compile(r"(?:(?![.!?]\s|(?<!\s):\s)[^\p{L}=≈→⇒]|(?<=\s)and(?=\s))*")
"""What may stand between numbers that are one answer: neither words, nor the end of a sentence, nor an equals sign."""
_LOOSE = regex.compile(r"[\s$€£¥%*_,;]|and")
_CODE = regex.compile(r"\p{Latin}+[-_]?$")
_SHORT = 12
"""Words of a last line whose number is the answer; of a longer one it may be any number."""


def last_number(text: str) -> float | None:
    """Return the last number in a text, commas between digits left out; None without one."""
    found = NUMBER.findall(text)
    return _value(found[-1]) if found else None


def same_number(one: str, other: str, tolerance: float) -> bool:
    """Tell whether the last numbers of two texts are the same: whole ones exactly, others within the tolerance.

    Args:
        one, other: texts; without a number none is the same.
        tolerance: relative, of numbers that are not both whole.
    """
    found = NUMBER.findall(one)[-1:] + NUMBER.findall(other)[-1:]
    values = [value for each in found if (value := _value(each)) is not None]
    if len(values) < 2:
        return False
    if values[0].is_integer() and values[1].is_integer():
        return _written(found[0]) == _written(found[1])
    return math.isclose(*values, rel_tol=tolerance, abs_tol=1e-9)


def _value(number: str) -> float | None:
    value = float(_plain_digits(number))
    return value if math.isfinite(value) else None


def _written(number: str) -> str:
    """Write a number so that equal ones are written alike: whole ones in full, others to nine places."""
    value = _value(number)
    if value is None or not value.is_integer() or abs(value) < 1e9:
        return f"{float(_plain_digits(number)):.9g}"
    return str(int(Decimal(_plain_digits(number))))


def _plain_digits(number: str) -> str:
    return number.replace(",", "").replace("−", "-")


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
    boxed = _boxed(text)
    if boxed is not None:
        bare = boxed.strip(" \t\n$%+").rstrip(".")
        number = _value(bare) if NUMBER.fullmatch(bare) else None
        return ("text", "".join(boxed.split())) if number is None else ("number", _written(bare))
    with suppress(ValueError, RecursionError):
        value = json.loads(text)
        if isinstance(value, (dict, list)):
            return "json", _canonical(value)
    last = text.splitlines()[-1] if text else ""
    found = _last_numbers(last) if len(last.split()) <= _SHORT else None
    if found is not None:
        return found
    return "text", " ".join(regex.findall(r"[\p{L}\p{M}\p{N}]+", text.casefold())) or text


def _boxed(text: str) -> str | None:
    """Return what the last ``\\boxed{}`` holds, braces in it included; None without one that is closed."""
    opened: list[regex.Match[str]] = []
    found = None
    for brace in _BRACES.finditer(text):
        if brace.group() != "}":
            opened.append(brace)
        elif opened and (start := opened.pop()).group() != "{":
            found = text[start.end() : brace.start()].strip()
    return found


def _last_numbers(line: str) -> tuple[str, str] | None:
    """Return the form and the answer of a line that ends in a number, or in several that are one answer."""
    numbers = list(NUMBER.finditer(line))
    if not numbers or _value(numbers[-1].group()) is None:
        return None
    last = numbers.pop()
    said, begins = _written(last.group()), last.start()
    while numbers and _JOINED.fullmatch(line, numbers[-1].end(), begins):
        before = numbers.pop()
        said = f"{_written(before.group())}{_LOOSE.sub('', line[before.end() : begins]) or ','}{said}"
        begins = before.start()
    code = _CODE.search(line, 0, begins)
    if code is not None:
        said = f"{code.group().casefold()}{said}"
    return ("number" if said == _written(last.group()) else "text"), said


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
