"""Several processes at one file, processes that die, and what a row must not cost."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event

from dami_agent.ledger import Ledger
from tests.ledger.records import make_record

ROOT = Path(__file__).parents[2]
WRITER = """
import sys
from dami_agent.ledger import Ledger
from tests.ledger.records import make_record
ledger = Ledger.open(sys.argv[1])
start, count = int(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for seed in range(start, start + count):
    record = make_record(seed)
    ledger.record(record)
    print(record.step.run_context.call_id if ledger.waiting == 0 else "waits", flush=True)
"""


def start_writer(path: Path, start: int, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), str(start), str(count)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


def go(writer: subprocess.Popen[str]) -> None:
    """Wait until it has imported everything, then let it loose."""
    assert writer.stdin is not None
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    writer.stdin.write("\n")
    writer.stdin.flush()


def test_processes_that_start_at_once_all_write(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    writers = [start_writer(path, n * 1000, 50) for n in range(3)]
    for writer in writers:
        go(writer)
    written = [line for w in writers for line in w.communicate(timeout=60)[0].split()]
    assert len(set(written)) == 150
    assert {r.call_id for r in Ledger.open(path).rows()} == set(written)


def test_a_killed_process_loses_no_finished_call(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    claimed: set[str] = set()
    for turn in range(4):
        writer = start_writer(path, turn * 10_000, 5_000)
        go(writer)
        assert writer.stdout is not None
        said = [writer.stdout.readline().strip() for _ in range(random.randint(1, 30))]
        time.sleep(random.uniform(0, 0.02))
        writer.send_signal(signal.SIGKILL)
        claimed |= {*said, *writer.communicate()[0].split("\n")[:-1]} - {""}  # its last line may be cut
    assert claimed <= {r.call_id for r in Ledger.open(path).rows()}
    with sqlite3.connect(path) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
        assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
    connection.close()


def record_one(ledger: Ledger, seed: int) -> None:
    ledger.record(make_record(seed))
    assert ledger.waiting == 0


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # Python 3.12 warns when other threads run
def test_a_forked_process_uses_a_connection_of_its_own(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    ledger.record(make_record(0))
    children = [multiprocessing.get_context("fork").Process(target=record_one, args=(ledger, n)) for n in (1, 2, 3)]
    for child in children:
        child.start()
    ledger.record(make_record(4))
    for child in children:
        child.join(30)
    assert [c.exitcode for c in children] == [0, 0, 0]
    assert len(ledger.rows()) == 5


def test_rows_share_one_connection(tmp_path: Path) -> None:
    """What a row costs is measured by `dami bench`; here, that nothing is opened anew for each, and that each goes
    the short way to the driver."""
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    ledger.record(make_record(0))
    assert ledger.store is not None
    opened: list[object] = []
    event.listen(ledger.store.engine, "connect", lambda *_: opened.append(_))
    said: list[str] = []
    event.listen(ledger.store.engine, "before_cursor_execute", lambda *a: said.append(a[2]))
    for seed in range(1, 40):
        ledger.record(make_record(seed))
    assert (opened, said) == ([], [])
    assert len(ledger.rows()) == 40
    ledger.close()


def test_the_short_way_to_the_driver_writes_what_the_long_one_does(tmp_path: Path) -> None:
    """Rows written one by one, and the same rows written together by SQLAlchemy."""
    records = [make_record(random.randrange(10**6), error=random.choice([None, "E: x"])) for _ in range(30)]
    one, other = Ledger.open(tmp_path / "one.sqlite", keep_text=True), Ledger.open(tmp_path / "other", keep_text=True)
    assert other.store is not None
    other.store.pause(float("inf"))
    for record in records:
        one.record(record)
        other.record(record)
    assert other.waiting == 30
    assert other.flush()
    assert one.rows() == other.rows()
    raw = []
    for name in ("one.sqlite", "other"):
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            raw.append(connection.execute("select * from calls").fetchall())
    assert raw[0] == raw[1]  # byte for byte, JSON too


def test_a_row_that_the_short_way_refuses_costs_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    for step in (1, 2**70, 3):
        ledger.record(make_record(step % 7, step=step))
    assert ([row.step for row in ledger.rows()], ledger.waiting) == ([1, 3], 0)
    assert "is lost" in caplog.text
