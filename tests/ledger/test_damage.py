"""A damaged cell costs its own row alone: it is skipped and counted by every question, and named by `verify`."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from dami_agent.ledger import Ledger
from dami_agent.ledger.schema import calls
from tests.ledger.records import make_record

CELLS: list[Any] = [
    "{",
    "noon",
    "[1, {",
    '{"a": NaN}',
    '{"a": 1e999}',
    '["\\ud800"]',
    "[" * 5000,
    '{"a": ' + "9" * 5000 + "}",
    b"\xff\xfe",
    b"",
    -(2**63),
    9e999,
    1e300,
    7e16,
    "",
    None,
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger.open(path, keep_text=True)
    for seed in range(5):
        ledger.record(make_record(seed, started_at=float(seed)))
    ledger.close()
    return path


def write(path: Path, column: str, cell: Any, *, as_text: bool = False) -> bool:
    """Put ``cell`` into row 3 behind the ledger's back; False if SQLite refuses."""
    with sqlite3.connect(path) as connection:
        try:
            value = "cast(? as text)" if as_text else "?"
            connection.execute(f"update calls set {column} = {value} where id = 3", [cell])
        except sqlite3.IntegrityError:
            return False
        finally:
            connection.commit()
    connection.close()
    return True


@pytest.mark.parametrize("column", [c.name for c in calls.columns if c.name != "id"])
def test_every_damaged_cell_costs_one_row_at_most(path: Path, column: str) -> None:
    whole = path.read_bytes()
    for cell in CELLS:
        for as_text in (False, True) if isinstance(cell, bytes) else (False,):
            path.write_bytes(whole)
            if not write(path, column, cell, as_text=as_text):
                continue
            ledger = Ledger.open(path)
            rows = ledger.rows()
            assert len(rows) + rows.skipped == 5
            assert {1, 2, 4, 5} <= {row.id for row in rows}
            found = ledger.verify()
            assert found.rows == 5
            if rows.skipped:
                named = (f"row 3: {column} is ", "row 3: does not parse")
                assert any(problem.startswith(named) for problem in found.problems), (cell, found.problems)
                assert all(problem.isprintable() for problem in found.problems)
            ledger.close()


def test_text_that_is_not_utf_8_hides_no_other_row(path: Path) -> None:
    write(path, "reason", b"caf\xe9", as_text=True)
    rows = Ledger.open(path).rows()
    assert ([row.id for row in rows], rows.skipped) == ([1, 2, 4, 5], 1)
    assert Ledger.open(path).verify().problems == (r"row 3: reason is 'caf\udce9': not UTF-8",)


def test_filters_and_limits_see_past_damaged_rows(path: Path) -> None:
    write(path, "metadata", "{")
    ledger = Ledger.open(path)
    assert [row.id for row in ledger.rows(limit=3)] == [2, 4, 5]
    assert (len(ledger.rows(run="root")), ledger.rows(run="root").skipped) == (4, 1)
    assert ledger.rows(tool="search", containing="secret question").skipped == 1
    assert ledger.rows(call=make_record(0).step.run_context.call_id).skipped == 0
    ledger.close()


def test_damage_of_several_cells_at_random(path: Path) -> None:
    names = [c.name for c in calls.columns if c.name != "id"]
    for _ in range(20):
        for _ in range(3):
            write(path, random.choice(names), random.choice(CELLS))
    ledger = Ledger.open(path)
    assert len(ledger.rows()) >= 4
    assert ledger.verify().rows == 5
    ledger.record(make_record(9))
    assert len(ledger.rows()) >= 5
    ledger.close()
