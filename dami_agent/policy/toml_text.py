"""Read the TOML of a policy, with the line of every value; tomllib does not tell them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
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
"""Lines of one statement that are tried as its end; a longer one gets no line numbers."""

_MOST_DOTS = 100
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")


def read_toml(text: str, source: str) -> tuple[Any, LineOf]:
    """Read the content of a TOML text and where each of its values stands.

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
    """Finds the line of a value: reads the text once more, statement by statement, as far as it is asked for."""

    def __init__(self, text: str) -> None:
        self._line: dict[tuple[str | int, ...], int] = {}  # where each value read so far begins, by its way
        self._tables: dict[tuple[str | int, ...], int] = {}  # how many ``[[...]]`` of each name there were so far
        self._statements = _statements(text)
        self._table: tuple[str | int, ...] = ()  # of the last header

    def line(self, path: tuple[str | int, ...]) -> int | None:
        """Find the line where the value at ``path`` begins, or the innermost part of the way that is there."""
        while path not in self._line and (statement := next(self._statements, None)):
            self._read(*statement)
        return next((self._line[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self._line), None)

    def _read(self, data: dict[str, Any], line: int, is_header: bool) -> None:
        if not is_header:
            self._keep(self._table, data, line)
            return
        way: tuple[str | int, ...] = ()
        inner: Any = data
        while inner:  # {"a": {"b": {}}} of [a.b], {"a": {"b": [{}]}} of [[a.b]]
            ((key, inner),) = inner.items()
            way = (*way, key)
            self._line.setdefault(way, line)
            if isinstance(inner, list):
                self._tables[way] = self._tables.get(way, 0) + 1
                inner = None
            if way in self._tables:
                way = (*way, self._tables[way] - 1)
                self._line.setdefault(way, line)
        self._table = way

    def _keep(self, way: tuple[str | int, ...], data: Any, line: int) -> None:
        items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
        for key, inner in items:
            self._line.setdefault((*way, key), line)
            self._keep((*way, key), inner, line)


def _statements(text: str) -> Iterator[tuple[dict[str, Any], int, bool]]:
    """Yield each header and each ``key = value``: its content, the line where it begins, and whether it is a header.

    An array over several lines comes once for each line at which it could end, with where its last part begins.
    """
    lines = text.splitlines(keepends=True)
    begins = first = 0  # of the part that may end here, and of its statement
    for end, line in enumerate(lines, 1):
        if begins == end - 1 and line.lstrip()[:1] in ("", "#"):
            begins, first = end, end if first == begins else first
            continue
        if end - first > _LONGEST_STATEMENT:
            return
        statement = "".join(lines[first:end])
        for closer in _CLOSERS:
            if (data := _parsed(statement + closer)) is not None:
                yield data, begins + 1, statement.lstrip().startswith("[")
                begins, first = end, end if closer == "" else first
                break


def _parsed(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return None
