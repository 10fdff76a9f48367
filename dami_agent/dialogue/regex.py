"""A regular expression from a JSON schema, rewritten so that xgrammar 0.2.8 follows it exactly or more narrowly.

xgrammar matches a ``pattern`` against the string as it is written in JSON, without escapes, so a quote or a backslash
that the pattern allows would end or spoil the string; complements and ``.`` would let invalid UTF-8 through; and
repetitions inside parentheses or an alternative are read wrongly: ``(aa+)?`` matches "a". So every class becomes a list
of ranges of plain characters, and what cannot be said that way is not translated.
"""

from __future__ import annotations

import re

_REPEAT = 10_000
_REPEAT_GROUP = 100
"""Longest repetitions that are handed on, of a character and of a group; xgrammar unrolls the latter."""
_PLAIN = ((0x20, 0x21), (0x23, 0x5B), (0x5D, 0xD7FF), (0xE000, 0x10FFFF))
"""What stands for itself in a JSON string: no quote, no backslash, no control characters, no surrogates."""
_SETS = {"d": ((0x30, 0x39),), "w": ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)), "s": ((0x20, 0x20),)}
"""ASCII only: narrower than Python's, the same as JavaScript's; of white space only the one that needs no escape."""

Ranges = tuple[tuple[int, int], ...]


def any_string(low: int, high: int | None) -> str:
    """A pattern for ``low`` to ``high`` characters that need no escape in JSON.

    Beyond 128 xgrammar counts instead of unrolling; its mask may then offer a token that its matcher refuses.
    """
    return f"^{_class(_PLAIN)}{{{low},{'' if high is None else high}}}$"


def whole(pattern: str) -> str | None:
    """The pattern for a whole string, or None if it cannot be followed.

    JSON Schema searches; whatever matches as a whole is found by searching too.
    """
    inner = pattern.removeprefix("^")
    if inner.endswith("$") and not re.search(r"(?<!\\)(\\\\)*\\\$\Z", inner):
        inner = inner[:-1]
    alternatives = _has_alternatives(inner)
    if alternatives and inner != pattern:
        return None  # the anchor may belong to one alternative only
    translated = _translate(inner, alternatives)
    if translated is None:
        return None
    return f"^({translated})$" if alternatives else f"^{translated}$"


def _has_alternatives(pattern: str) -> bool:
    """Whether there is a ``|`` outside parentheses."""
    bare = re.sub(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", "x", pattern)
    return any(c == "|" and bare.count("(", 0, at) == bare.count(")", 0, at) for at, c in enumerate(bare))


def _translate(pattern: str, alternatives: bool) -> str | None:
    out: list[str] = []
    at = depth = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "[":
            found = _read_class(pattern, at)
            if found is None:
                return None
            at, piece = found
        elif char == "{":
            end = pattern.find("}", at) + 1
            numbers = pattern[at + 1 : end - 1].split(",")
            most = _REPEAT_GROUP if out and out[-1] == ")" else _REPEAT
            if not all(n.isdigit() and int(n) <= most for n in numbers if n or n is numbers[0]) or not end:
                return None
            at, piece = end, pattern[at:end]
        elif pattern.startswith("(?", at):
            if not pattern.startswith("(?:", at):
                return None
            at, piece = at + 3, "("
        elif char == "\\":
            escape = pattern[at + 1 : at + 2]
            if escape not in _SETS and (not escape or escape.isalnum() or escape in '"\\'):
                return None
            at, piece = at + 2, _class(_SETS[escape]) if escape in _SETS else _literal(escape)
        elif char in '^$"' or ord(char) < 0x20:
            return None
        else:
            at, piece = at + 1, _class(_PLAIN) if char == "." else char
        depth += (piece == "(") - (piece == ")")
        if char in "?*+{" and (depth or alternatives):
            return None
        if piece in ("?", "+", "*") and out and out[-1][-1] in "?+*}" and not out[-1].startswith("\\"):
            return None  # lazy or possessive
        out.append(piece)
    return "".join(out)


def _read_class(pattern: str, at: int) -> tuple[int, str] | None:
    """The class that begins at ``at``: where it ends, and the same as ranges of plain characters."""
    at += 1
    negated = pattern.startswith("^", at)
    at += negated
    ranges: list[tuple[int, int]] = []
    first = True
    while first or not pattern.startswith("]", at):
        first = False
        low = _read_member(pattern, at)
        if low is None:
            return None
        at, member = low
        if isinstance(member, str):
            if negated:
                return None  # Python's sets hold more than ASCII, so their complements hold less
            ranges += _SETS[member]
        elif pattern.startswith("-", at) and not pattern.startswith("-]", at):
            high = _read_member(pattern, at + 1)
            if high is None or isinstance(high[1], str) or high[1] < member:
                return None
            at = high[0]
            ranges.append((member, high[1]))
        else:
            ranges.append((member, member))
    allowed = _intersect(_complement(ranges) if negated else ranges)
    return (at + 1, _class(allowed)) if allowed else None


def _read_member(pattern: str, at: int) -> tuple[int, int | str] | None:
    """A character of a class, or the name of a set, and where it ends."""
    if at >= len(pattern):
        return None
    if pattern[at] != "\\":
        return at + 1, ord(pattern[at])
    escape = pattern[at + 1 : at + 2]
    if escape in _SETS:
        return at + 2, escape
    controls = {"n": 10, "r": 13, "t": 9, "f": 12, "v": 11}
    if escape in controls:
        return at + 2, controls[escape]
    return None if not escape or escape.isalnum() else (at + 2, ord(escape))


def _complement(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    found, start = [], 0
    for low, high in sorted(ranges):
        if low > start:
            found.append((start, low - 1))
        start = max(start, high + 1)
    return [*found, (start, 0x10FFFF)] if start <= 0x10FFFF else found


def _intersect(ranges: list[tuple[int, int]]) -> Ranges:
    pairs = ((max(a, low), min(b, high)) for low, high in ranges for a, b in _PLAIN)
    return tuple((a, b) for a, b in pairs if a <= b)


def _class(ranges: Ranges) -> str:
    spans = (_literal(chr(a)) if a == b else f"{_literal(chr(a))}-{_literal(chr(b))}" for a, b in ranges)
    return f"[{''.join(spans)}]"


def _literal(char: str) -> str:
    return "\\" + char if char in r"\[](){}^$.|?*+-/" else char
