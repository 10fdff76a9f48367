"""Turn any object into plain values that JSON and a database can hold, whatever it is and whatever it does."""

from __future__ import annotations

import math
import reprlib
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

LONGEST_TEXT = 2_000  # characters of one string (an error, a metadata value): a ledger is no dump
LONGEST_NUMBER = 1_024  # bits of an integer; Python refuses to print far longer ones, and JSON readers to read them
DEEPEST = 6  # levels of nesting that are kept
MOST_VALUES = 4_000  # values in one column, all levels together; a text counts as one more per 100 characters
LEFT_OUT = "…"

TextHook = Callable[[str], Any]

_brief = reprlib.Repr()
_brief.maxlevel = 1
_brief.maxstring = _brief.maxother = 10 * LONGEST_TEXT  # cut later: a secret cut in half would not be recognised


def plain(value: Any, redact: TextHook | None = None) -> Any:
    """Return ``value`` as None, bool, int, float, str, list or dict; never raises an ``Exception``.

    Strings are made encodable and cut to ``LONGEST_TEXT`` after ``redact`` has seen them; NaN, infinities and integers
    too long to print become text, and so does what is none of these. Of large or deep values a part is kept.
    """
    return _Plain(redact).of(value, 0)


def storable(text: str) -> str:
    """Return ``text`` with lone surrogates and NUL, which databases refuse, as visible escapes."""
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text.replace("\0", "\\x00")


class _Plain:
    def __init__(self, redact: TextHook | None) -> None:
        self._redact = redact
        self._left = MOST_VALUES

    def of(self, value: Any, depth: int) -> Any:
        if self._left <= 0:
            return LEFT_OUT
        self._left -= 1
        try:
            return self._of(value, depth)
        except Exception:  # a foreign object whose content or text cannot be had must not cost the row
            return f"<{type(value).__name__}>"

    def _inner(self, value: Any, depth: int) -> Any:
        """Convert a value in a container: it may use half of what is left, so that those after it are kept too."""
        left = self._left
        self._left = share = (left + 1) // 2
        try:
            return self.of(value, depth)
        finally:
            self._left += left - share

    def _of(self, value: Any, depth: int) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            number = int.__int__(value)  # not a subclass, which may print itself in its own way
            return number if number.bit_length() <= LONGEST_NUMBER else self._text(hex(number))
        if isinstance(value, float):
            real = float.__float__(value)
            return real if math.isfinite(real) else str(real)
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            return self._mapping(value, depth) if depth < DEEPEST else self._text(_brief.repr(value))
        if isinstance(value, (list, tuple, set, frozenset, deque)):
            return self._list(value, depth) if depth < DEEPEST else self._text(_brief.repr(value))
        return self._text(str(value))

    def _list(self, values: Any, depth: int) -> list[Any]:
        kept: list[Any] = []
        for each in values:
            if self._left <= 0:
                kept.append(LEFT_OUT)
                break
            kept.append(self._inner(each, depth + 1))
        return kept

    def _mapping(self, values: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for key, each in values.items():
            if self._left <= 0:
                kept[LEFT_OUT] = LEFT_OUT
                break
            name = self._key(key)
            while name in kept:  # redacted to the same, or different keys of equal text
                name += f"#{len(kept)}"
            kept[name] = self._inner(each, depth + 1)
        return kept

    def _key(self, key: Any) -> str:
        try:
            return self._text(str(key))
        except Exception:
            return f"<{type(key).__name__}>"

    def _text(self, text: str) -> str:
        text = str.__str__(text)
        if self._redact is not None:
            text = self._redact(text)
        text = storable(text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + LEFT_OUT)
        self._left -= len(text) // 100
        return text
