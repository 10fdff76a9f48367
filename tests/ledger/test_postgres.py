"""The ledger in a real PostgreSQL server: the same rows, several processes, and a server that hangs up."""

from __future__ import annotations

import dataclasses
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, inspect, make_url

from dami_agent.ledger import Ledger, Price, Prices
from dami_agent.ledger.schema import RENAMED_V5, calls
from tests.chance import SEED
from tests.ledger.conftest import NewDatabase
from tests.ledger.records import make_record

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
WRITER = """
import sys
from dami_agent.ledger import Ledger
from tests.ledger.records import make_record
ledger = Ledger.open(sys.argv[1])
records = [make_record(seed) for seed in range(int(sys.argv[2]), int(sys.argv[2]) + 25)]
print("ready", flush=True)
sys.stdin.readline()
for record in records:
    ledger.record(record)
print(ledger.waiting, flush=True)
ledger.close()
"""


def columns(url: str) -> dict[str, Any]:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    found = inspect(engine)
    shape = {c["name"]: (str(c["type"]), c["nullable"]) for c in found.get_columns("calls")}
    assert {i["name"] for i in found.get_indexes("calls")} == {i.name for i in calls.indexes}
    expected = {c.name: (str(c.type.compile(engine.dialect)), bool(c.nullable)) for c in calls.columns}
    expected["id"] = ("BIGINT", False)
    engine.dispose()
    assert shape == expected
    return shape


def test_rows_and_filters_are_those_of_sqlite(new_database: NewDatabase, tmp_path: Path) -> None:
    url, rng = new_database(), random.Random(SEED)
    options: dict[str, Any] = {"keep_text": True, "prices": Prices(models={"*": Price(output=3.0)})}
    ledgers = [Ledger.open(url, **options), Ledger.open(tmp_path / "ledger.sqlite", **options)]
    odd = {"text": 'ä"\0\ud800', "number": float("inf"), "deep": {"list": [1, None, 2**80]}}
    for _ in range(40):
        record = make_record(
            rng.randrange(10**6),
            error=rng.choice([None, "E: x"]),
            node=rng.choice(["agent", "tools"]),
            run_id=rng.choice(["r%", "r_"]),
            metadata=odd,
        )
        for ledger in ledgers:
            ledger.record(record)
    assert ledgers[0].waiting == 0
    for filters in ({}, {"node": "agent"}, {"run": "r_"}, {"tool": "read_file"}, {"limit": 3}, {"containing": "Ä"}):
        theirs, ours = ([row.to_dict() for row in ledger.rows(**filters)] for ledger in ledgers)  # type: ignore[arg-type]
        assert theirs == ours
        assert ours or filters == {"tool": "read_file"}
    assert len(columns(url)) == len(calls.columns)
    found = ledgers[0].verify()
    assert (found.rows, found.problems) == (40, ())
    for ledger in ledgers:
        ledger.close()


def test_schema_4_opens_with_its_values_under_the_new_names(new_database: NewDatabase) -> None:
    url, prices = new_database(), Prices(models={"*": Price(output=3.0)})
    ledger = Ledger.open(url, prices=prices)
    ledger.record(make_record(1))
    (before,) = ledger.rows()
    ledger.close()
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        for old, new in RENAMED_V5.items():
            connection.exec_driver_sql(f"ALTER TABLE calls RENAME COLUMN {new} TO {old}")
        modules = [column.name for column in calls.columns if column.name.endswith("_modules")]
        for column in ("intensity_prompt", "reread_tokens", *modules):
            connection.exec_driver_sql(f"ALTER TABLE calls DROP COLUMN {column}")
        connection.exec_driver_sql("DELETE FROM dami_migrations WHERE number >= 5")
    engine.dispose()
    opened = Ledger.open(url, prices=prices)
    assert opened.rows() == [dataclasses.replace(before, reread_tokens=None)]  # nobody knows of older rows
    opened.record(make_record(2))
    assert (opened.waiting, opened.verify().rows, opened.verify().schema) == (0, 2, 8)
    assert before.cost
    columns(url)
    opened.close()


def test_processes_that_start_at_once_all_write(new_database: NewDatabase) -> None:
    """All find an empty database, and each wants to make the tables."""
    url, pipe = new_database(), subprocess.PIPE
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, url, str(n * 1000)], stdin=pipe, stdout=pipe, text=True, env=environment
        )
        for n in range(3)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    assert [w.communicate("\n", timeout=120)[0].strip() for w in writers] == ["0"] * 3
    ledger = Ledger.open(url)
    assert ledger.verify().rows == 75
    assert ledger.verify().whole
    ledger.close()


def test_a_server_that_hung_up_costs_no_row(new_database: NewDatabase, caplog: pytest.LogCaptureFixture) -> None:
    url = new_database()
    ledger = Ledger.open(url)
    ledger.record(make_record(1))
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        killed = connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).all()
    engine.dispose()
    assert killed
    ledger.record(make_record(2))
    assert ledger.waiting == 0
    assert len(ledger.rows()) == 2
    assert "cannot be written" not in caplog.text
    ledger.close()


def test_a_refused_row_blocks_no_other(new_database: NewDatabase) -> None:
    ledger = Ledger.open(new_database())
    for seed, step in enumerate((1, 2**40, 3)):  # the second is more than an integer column holds
        ledger.record(make_record(seed, step=step))
    assert (ledger.waiting, [row.step for row in ledger.rows()]) == (0, [1, 3])
    ledger.close()


def test_rows_share_one_connection(new_database: NewDatabase) -> None:
    ledger = Ledger.open(new_database())
    ledger.record(make_record(0))
    assert ledger.store is not None
    opened: list[object] = []
    event.listen(ledger.store.engine, "connect", lambda *_: opened.append(_))
    for seed in range(1, 40):
        ledger.record(make_record(seed))
    assert (opened, len(ledger.rows())) == ([], 40)
    ledger.close()


def test_a_server_that_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("psycopg", reason='no driver: pip install "dami-agent[postgres]"')
    ledger = Ledger.open("postgresql://nobody:geheim@/none?host=/nowhere")
    ledger.record(make_record(1))
    assert ledger.waiting == 1
    assert "cannot be written" in caplog.text
    assert "geheim" not in caplog.text
    assert "geheim" not in repr(ledger)
    ledger.forget_waiting()  # so that its end is quiet
