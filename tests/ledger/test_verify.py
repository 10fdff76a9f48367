"""`Ledger.verify` finds what is broken, and only that."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from dami_agent.ledger import Ledger
from tests.ledger.records import make_record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger of thirty calls, some failed, some retried."""
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger.open(path)
    base = random.randrange(10**6)
    for seed in range(30):
        ledger.record(make_record(base + seed, error="E: x" if seed % 7 == 0 else None))
    ledger.close()
    return path


def test_a_whole_ledger(path: Path, tmp_path: Path) -> None:
    found = Ledger.open(path).verify()
    assert (found.rows, found.schema, found.problems, found.whole) == (30, 8, (), True)
    assert Ledger.open(tmp_path / "none").verify().whole
    assert Ledger.disabled().verify().whole


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("update calls set output_tokens = output_tokens + 1 where id = 7", "row 7: output_tokens"),
        ("update calls set features = '{' where id = 3", "row 3: features is '{'"),
        ("update calls set tags = '3' where id = 3", "row 3: tags is '3': not of type list"),
        ("update calls set started_at = 'noon' where id = 30", "row 30: started_at is 'noon': not of type float"),
        ("update calls set started_at = 1e300 where id = 9", "row 9: started_at is 1e+300: too large"),
        ("update calls set started_at = 1e14 where id = 9", "row 9: does not parse"),
        ("update calls set intensity = 1.5 where id = 2", "row 2: an intensity"),
        ("update calls set intensity_snapped = -0.5 where id = 2", "row 2: an intensity"),
        ("update calls set discarded_tokens = 3 where id = 7", "row 7: output_tokens"),
        (
            "update calls set answer_tokens = -1, output_tokens = -1 + probe_tokens + reasoning_tokens where id = 2",
            "row 2",
        ),
        ("update calls set cached_tokens = prompt_tokens + 1 where id = 5", "row 5: an impossible token count"),
        ("update calls set reread_tokens = -1 where id = 5", "row 5: an impossible token count"),
        ("update calls set cost = 1.0 where id = 5", "row 5: cost without"),
        ("update calls set call_id = 'twice', attempt = 0 where id in (4, 8)", "call twice, attempt 0 is recorded 2"),
        ("update dami_migrations set name = 'other' where number = 2", "migration 2 is 'other'"),
    ],
)
def test_what_is_broken_is_named(path: Path, statement: str, says: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()
    found = Ledger.open(path).verify()
    assert len(found.problems) == 1
    assert says in found.problems[0]
    assert found.rows == 30


def test_a_damaged_file(path: Path) -> None:
    """A page of zeros in the middle, as a dying disk leaves."""
    whole = path.read_bytes()
    page = 4096
    pages = len(whole) // page
    damaged = random.randrange(3, pages)
    path.write_bytes(whole[: damaged * page] + bytes(page) + whole[(damaged + 1) * page :])
    assert not Ledger.open(path).verify().whole
    path.write_bytes(b"no database at all" * 200)
    assert "not a database" in Ledger.open(path).verify().problems[0]
