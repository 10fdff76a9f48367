"""The part of :mod:`dami_agent.dialogue.narrow` that is about strings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from dami_agent.dialogue.objects import Empty

_REPEAT = 128
"""xgrammar fails on longer repetitions inside a pattern."""
_UNSUPPORTED = re.compile(r"\(\?(?!:)|\\[1-9bBAZpPkuxcDWSN]|[*+?}][+?]|(?<!\\)\^|(?<!\\)\$")
"""Look-around, back-references, lazy quantifiers, anchors inside, and classes on which regex dialects differ."""
_REPETITION = re.compile(r"\{\d*,?\d*\}")
_CLASS_OR_ESCAPE = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]])*\]")
_DATE = r"[1-9]\d{3}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|1\d|2[0-8]))"
_TIME = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d\d\d|\.\d\d\d\d\d\d)?(Z|[+-](0\d|1[0-4]):[0-5]\d)?"
_BYTE = r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "uuid": r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "ipv4": rf"{_BYTE}\.{_BYTE}\.{_BYTE}\.{_BYTE}",
    "email": r"[a-z0-9]+([._+-][a-z0-9]+)*@[a-z0-9]+([.-][a-z0-9]+)*\.[a-z][a-z]+",
}
"""JSON Schema does not assert ``format``, but the types behind it do: the usual spellings, narrower than the RFCs."""


def narrow_string(schema: Mapping[str, Any], path: str, problem: Callable[[str, str], None]) -> dict[str, Any]:
    """A string schema with a pattern, or lengths, or nothing.

    Strings of bounded length hold no escapes (quotes, backslashes, newlines): xgrammar counts characters as written.
    Beyond 128 xgrammar's own length bounds are used, which let raw control characters through; JSON readers that are
    not strict about those read them.

    Raises:
        Empty: no string satisfies it.
    """
    low, high = int(schema.get("minLength", 0)), schema.get("maxLength")
    high = None if high is None else int(high)
    if high is not None and low > high:
        raise Empty(f"{path}/minLength")
    if "pattern" in schema:
        pattern = _anchored(schema["pattern"])
        if pattern is not None:
            for keyword in ("minLength", "maxLength"):
                if schema.get(keyword):
                    problem(path, keyword)
            return {"type": "string", "pattern": pattern}
        problem(path, "pattern")
    if low or high is not None:
        if low <= _REPEAT and (high is None or high <= _REPEAT):
            return {"type": "string", "pattern": f"^[^\\x00-\\x1f]{{{low},{'' if high is None else high}}}$"}
        bounds = {"minLength": low or None, "maxLength": high}
        return {"type": "string", **{k: v for k, v in bounds.items() if v is not None}}
    if schema.get("format") in _FORMATS:
        return {"type": "string", "pattern": f"^{_FORMATS[schema['format']]}$"}
    return {"type": "string"}


def _anchored(pattern: str) -> str | None:
    """The pattern for whole strings, or None if xgrammar cannot follow it.

    JSON Schema searches; whatever matches as a whole is found by searching too, so this is exact or narrower.
    """
    inner = pattern.removeprefix("^")
    if inner.endswith("$") and not inner.endswith("\\$"):
        inner = inner[:-1]
    if _UNSUPPORTED.search(inner) or ("|" in inner and inner != pattern):
        return None
    if any(int(n) > _REPEAT for repeat in _REPETITION.findall(inner) for n in re.findall(r"\d+", repeat)):
        return None
    if _ranged_inside(inner):
        return None
    return f"^({inner})$" if "|" in inner else f"^{inner}$"


def _ranged_inside(pattern: str) -> bool:
    """Whether ``{m,n}`` stands in parentheses or an alternative; xgrammar 0.2.8 reads ``(ab{1,2})?`` wrongly."""
    bare = _CLASS_OR_ESCAPE.sub("x", pattern)
    ranges = [m.start() for m in _REPETITION.finditer(bare) if "," in m.group()]
    return any("|" in bare or bare.count("(", 0, at) > bare.count(")", 0, at) for at in ranges)
