"""The part of :mod:`dami_agent.dialogue.narrow` that is about strings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from dami_agent.dialogue.objects import Empty
from dami_agent.dialogue.regex import any_string, whole

_DATE = r"[1-9]\d{3}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|1\d|2[0-8]))"
_TIME = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d\d\d|\.\d\d\d\d\d\d)?(Z|[+-](0\d|1[0-4]):[0-5]\d)?"
_BYTE = r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "uuid": r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "ipv4": rf"{_BYTE}\.{_BYTE}\.{_BYTE}\.{_BYTE}",
    "email": r"[a-z0-9][a-z0-9._-]*[a-z0-9]@[a-z0-9]+\.[a-z][a-z]+",
}
"""JSON Schema does not assert ``format``, but the types behind it do: the usual spellings, narrower than the RFCs."""


def narrow_string(schema: Mapping[str, Any], path: str, problem: Callable[[str, str], None]) -> dict[str, Any]:
    """A string schema with a pattern, or lengths, or nothing.

    Strings of bounded length or with a pattern hold no escapes (quotes, backslashes, newlines): see ``regex``.

    Raises:
        Empty: no string satisfies it.
    """
    low, high = int(schema.get("minLength", 0)), schema.get("maxLength")
    high = None if high is None else int(high)
    if high is not None and low > high:
        raise Empty(f"{path}/minLength")
    if "pattern" in schema:
        pattern = whole(schema["pattern"])
        if pattern is not None:
            return {"type": "string", "pattern": _with_lengths(pattern, low, high, path, problem)}
        problem(path, "pattern")
    if low or high is not None:
        return {"type": "string", "pattern": any_string(low, high)}
    if schema.get("format") in _FORMATS:
        return {"type": "string", "pattern": f"^{_FORMATS[schema['format']]}$"}
    return {"type": "string"}


def _with_lengths(pattern: str, low: int, high: int | None, path: str, problem: Callable[[str, str], None]) -> str:
    """The pattern with the length bounds in it where it is one class repeated; else they are a problem."""
    if not low and high is None:
        return pattern
    one = re.fullmatch(r"\^(\[(?:\\.|[^\]\\])*\])([+*])\$", pattern)
    if one is None:
        problem(path, "minLength" if low else "maxLength")
        return pattern
    low = max(low, 1 if one[2] == "+" else 0)
    if high is not None and low > high:
        raise Empty(f"{path}/maxLength")
    return f"^{one[1]}{{{low},{'' if high is None else high}}}$"
