"""Read the TOML of a policy, with the line of every value; tomllib does not tell them."""

from __future__ import annotations

import re
import sys
from bisect import bisect_left
from functools import cached_property, lru_cache
from typing import Any

from dami_agent.errors import InvalidPolicy
from dami_agent.policy.yaml_text import LineOf, too_large

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_CLOSERS = ("", "]", "]]")
"""What ends an array that goes on in the next lines; inline tables do not."""

_LONGEST_STATEMENT = 200
"""Lines of one statement that are tried as its end; of a longer one no lines are told."""

_MOST_DOTS = 100
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")


def read_toml(text: str, source: str) -> tuple[Any, LineOf]:
    """The content of a TOML text and where each of its values stands.

    Raises:
        InvalidPolicy: naming file and line.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > _MOST_DOTS and _QUOTED.sub("", line).count(".") > _MOST_DOTS:  # tomllib takes n² for them
            raise too_large(f"{source}:{number}", "a key has too many parts")
    try:
        data = tomllib.loads(text)
    except Exception as error:  # its own error, and what int() and deep nesting raise
        told = re.search(r"line (\d+)", str(error))
        where = f"{source}:{told.group(1)}" if told else source
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise InvalidPolicy(f"{where}: invalid TOML: {why}", hint="check quotes and brackets") from error
    return data, _Lines(text).line


class _Lines:
    """Finds the line of a value by where the text must end for the value to be in it."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines(keepends=True)
        self._upto = lru_cache(maxsize=64)(self._data)

    def line(self, path: tuple[str | int, ...]) -> int | None:
        """The line where the value at ``path`` begins, or the innermost part of the way that is there.

        The longer the beginning of a text, the more of the way is in it: so the statement that brings the value is
        found by bisection.
        """
        if not self._ends:
            return None
        places = range(len(self._ends))
        whole = self._depth(places[-1], path)
        place = bisect_left(places, whole, key=lambda place: self._depth(place, path))
        return self._ends[place][2] if whole else None

    @cached_property
    def _ends(self) -> list[tuple[int, str, int]]:
        """Where the text could end: after how many lines, closed how, and the line where what stands there began."""
        ends, begins, first = [], 0, 0  # of the value that the end is about, and of its statement
        for end, line in enumerate(self._lines, 1):
            if begins == end - 1 and line.lstrip()[:1] in ("", "#"):
                begins, first = end, end if first == begins else first
                continue
            if end - first > _LONGEST_STATEMENT:
                break
            statement = "".join(self._lines[first:end])
            closer = next((closer for closer in _CLOSERS if _parsed(statement + closer) is not None), None)
            if closer is None:
                continue
            ends.append((end, closer, begins + 1))
            begins, first = end, end if closer == "" else first
        return ends

    def _data(self, place: int) -> Any:
        end, closer, _ = self._ends[place]
        return _parsed("".join(self._lines[:end]) + closer)

    def _depth(self, place: int, path: tuple[str | int, ...]) -> int:
        """How much of the way there is up to that place."""
        data, depth = self._upto(place), 0
        try:
            for part in path:
                data = data[part]
                depth += 1
        except (KeyError, IndexError, TypeError):
            pass
        return depth


def _parsed(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return None
