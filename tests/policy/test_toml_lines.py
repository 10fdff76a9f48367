"""The lines that TOML errors name, beside a slow search for the shortest beginning of the text that has the value."""

from __future__ import annotations

import sys
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from dami_agent.policy.toml_text import read_toml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Path = tuple["str | int", ...]


def parsed(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except ValueError:
        return None


def depth(data: Any, path: Path) -> int:
    """How many steps of ``path`` lead somewhere in ``data``."""
    reached = 0
    with suppress(KeyError, IndexError, TypeError):
        for part in path:
            data = data[part]
            reached += 1
    return reached


def slow_line(text: str, path: Path) -> int | None:
    """The line at which the first beginning of ``text`` ends that has as much of ``path`` as the whole text."""
    lines = text.splitlines(keepends=True)
    whole = depth(tomllib.loads(text), path)
    for end in range(1, len(lines) + 1) if whole else ():
        for closer in ("", "]", "]]"):
            data = parsed("".join(lines[:end]) + closer)
            if data is not None and depth(data, path) == whole:
                return end
    return None


def paths(data: Any, way: Path = ()) -> list[Path]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [way, *(path for key, inner in items for path in paths(inner, (*way, key)))]


def random_toml(rng: Random) -> str:
    """A text of tables, tables in lists, dotted and quoted keys, lists over lines, comments and blank lines."""
    lines, number = [], 0

    def fields() -> None:
        nonlocal number
        for _ in range(rng.randrange(4)):
            number += 1
            key = rng.choice([f"k{number}", f"'k {number}'", f"k{number}.x", f"k{number}.x.y"])
            inline = f"{{a = {number}, b = [1, {{c = 2}}]}}  # one"
            opened = rng.choice(["[", "[[1,\n  2],", "[1, # one", "[{a = 1},"])
            lines.append(f"{key} = {rng.choice([str(number), repr('# no [comment]'), inline, opened])}")
            if lines[-1].endswith(opened):
                lines.extend(rng.choices(["", "# [a", "  3,", "  [4, 5],", "  {b = 2},"], k=rng.randrange(4)))
                lines.append("]")
            lines.extend(rng.choices(["", "# k = 1"], k=rng.randrange(2)))

    fields()
    for table in rng.sample(["a", "b", "c.d", "'e f'.g"], 3):
        if rng.random() < 0.5:
            lines.append(f"[{table}]")
            fields()
            if rng.random() < 0.5:
                lines.append(f" [ {table}.sub ]")
                fields()
        else:
            for _ in range(rng.randrange(1, 4)):
                lines.append(f"[[{table}]]")
                fields()
                if rng.random() < 0.5:
                    lines.append(f"[{table}.sub]")
                    fields()
                for _ in range(rng.randrange(3)):
                    lines.append(f"[[{table}.list]]")
                    fields()
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("seed", range(40))
def test_every_value_has_the_line_that_a_slow_search_finds(seed: int) -> None:
    rng = Random(seed)
    text = random_toml(rng)
    data, line_of = read_toml(text, "p.toml")
    asked = [path for path in paths(data) if path]
    assert asked
    rng.shuffle(asked)
    for path in asked:
        for each in (path, (*path, "missing", 0)):
            assert line_of(each) == slow_line(text, each), (text, each)
    assert line_of(("missing",)) is None


def test_a_list_longer_than_two_hundred_lines_keeps_the_line_where_it_begins() -> None:
    text = "a = 1\nlist = [\n" + "1,\n" * 300 + "]\nz = 1\n"
    line_of = read_toml(text, "p.toml")[1]
    assert [line_of(("a",)), line_of(("list", 5)), line_of(("list", 250)), line_of(("z",))] == [1, 8, 2, None]
