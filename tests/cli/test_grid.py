"""Tables in narrow windows: what is left out, and ids that can be told apart."""

from __future__ import annotations

import io
import uuid

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from dami_agent.cli import runs
from dami_agent.cli.call_view import COLUMNS
from dami_agent.cli.grid import GAP, Column, distinct, grid, kept

words = st.text("abλ→ 0", max_size=12)
cases = st.integers(1, 8).flatmap(
    lambda n: st.tuples(
        st.lists(
            st.builds(Column, words, st.integers(0, 5), st.booleans(), st.sampled_from([0, 0, 6])),
            min_size=n,
            max_size=n,
        ),
        st.lists(st.lists(words, min_size=n, max_size=n), max_size=4),
        st.integers(1, 120),
    )
)


def needs(columns: list[Column], lines: list[list[str]], places: list[int]) -> int:
    """Characters that these columns take at least."""
    total = 0
    for place in places:
        widest = max([cell_len(columns[place].name)] + [cell_len(line[place]) for line in lines])
        total += min(widest, columns[place].least) if columns[place].least else widest
    return total + GAP * (len(places) - 1)


@given(cases)
def test_what_matters_least_goes_first_and_no_more_than_must(case: tuple[list[Column], list[list[str]], int]) -> None:
    columns, lines, width = case
    left, spare = kept(columns, lines, width)
    gone = [place for place in range(len(columns)) if place not in left]
    assert left == sorted(left)
    assert all(columns[place].rank for place in gone)
    assert spare == max(width - needs(columns, lines, left), 0)
    if needs(columns, lines, left) > width:
        assert all(not columns[place].rank for place in left)  # nothing more could go

    def order(place: int) -> tuple[bool, int, int]:
        silent = all(line[place] in ("", "0") for line in lines)
        return silent, columns[place].rank, place

    if gone:
        last = min(gone, key=order)  # the one that went last was still too much
        assert all(order(place) < order(last) for place in left if columns[place].rank)
        assert needs(columns, lines, [*left, last]) > width


@given(st.lists(st.uuids().map(str) | st.sampled_from(["aaaaaaaa-1", "aaaaaaaa-2", "aaaaaaaa", "b", ""]), max_size=8))
def test_ids_can_be_told_apart_and_begin_as_they_do(ids: list[str]) -> None:
    short = distinct(ids)
    assert all(each.startswith(short[each]) for each in ids)
    assert len(set(short.values())) == len(set(ids))


def test_ids_of_one_minute() -> None:
    ids = [f"01a2098f-{n:04x}-7{'0' * 3}-8000-{uuid.uuid4().hex[:12]}" for n in (1, 2, 0x1000)]
    assert len(set(distinct(ids).values())) == 3
    assert max(map(len, distinct(ids).values())) <= 13
    assert distinct(["abcdefgh12345", "bcdefghi"]) == {"abcdefgh12345": "abcdefgh", "bcdefghi": "bcdefghi"}


def test_the_views_fit_eighty_columns() -> None:
    call = ("0123abcd", "11-23 17:59:11", "model", "get_price → add", "0.85", "rule tools.get_price " * 6)
    lines = [(*call, "12345", "32", "1234", "123", "12.34", "tool_calls")]
    out = io.StringIO()
    console = Console(file=out, width=80)
    console.print(grid(COLUMNS, lines, 80))
    run = ("01a2098f-1", "11-23 17:59:11", "nightly", "thread", "12", "0", "0–0.85", "12345", "1234", "123", "12.34")
    console.print(grid(runs.COLUMNS, [(*run, "0.0007964 EUR", "1,234 of 5,678")], 80))
    text = out.getvalue()
    assert "…" not in text
    for said in ("0123abcd", "0.85", "1234", "tool_calls", "0–0.85", "1,234 of 5,678", "0.0007964 EUR"):
        assert said in text
    assert max(map(len, text.splitlines())) <= 80


def test_cells_are_no_markup() -> None:
    out = io.StringIO()
    Console(file=out, width=80).print(grid([Column("a")], [["[bold]x[/bold] [/nonsense]"]], 80))
    assert "[bold]x[/bold] [/nonsense]" in out.getvalue()
