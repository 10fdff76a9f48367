"""No place that a ledger is kept at costs an answer: odd settings, files replaced, damaged or locked, forks."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dami_agent.ledger import Ledger, trace
from dami_agent.ledger.store import PATIENCE
from dami_agent.testing import FakeReply, fake_chat_model
from tests.ledger.records import make_record

BOUND = 0.5  # seconds that a ledger may delay one answer
MARGIN = 1.0  # more, for a busy machine


# ---- settings in the environment ------------------------------------------------------------------------------------

ODD = [
    "a\udcffb",  # a byte that is not UTF-8
    "://",
    "nosuchdb://x",
    "sqlite://host/x",
    "postgresql://:port/",
    "sqlite+aiosqlite:///x",
    "~nobodyhere/x.sqlite",
    "/dev/null/x.sqlite",
    "/",
    "x" * 5000,
    "sqlite:///" + "y" * 5000,
    "file:x?mode=nonsense",
]


@pytest.mark.parametrize("location", ODD, ids=range(len(ODD)))
def test_odd_locations_in_the_environment_cost_no_answer(
    location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAMI_LEDGER", location)
    model = fake_chat_model([FakeReply("fine")], ledger=None)
    assert model.invoke("hello").content == "fine"
    ledger = model.pipeline().ledger
    assert isinstance(ledger, Ledger)
    assert caplog.text or len(ledger.rows()) == 1
    ledger.forget_waiting()  # nothing is said at exit


@pytest.mark.parametrize(
    ("variable", "value"), [("DAMI_LEDGER_TEXT", "perhaps"), ("DAMI_LEDGER_PRICES", "/no/such/file")]
)
def test_other_odd_settings_cost_no_answer_and_no_row(
    variable: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DAMI_LEDGER", str(tmp_path / "ledger.sqlite"))
    model = fake_chat_model([FakeReply("fine")], ledger=None)
    monkeypatch.setenv(variable, value)
    assert model.invoke("hello").content == "fine"
    ledger = model.pipeline().ledger
    assert isinstance(ledger, Ledger)
    (row,) = ledger.rows()
    assert (row.prompt_text, row.cost) == (None, None)
    assert "cannot be used" in caplog.text
    ledger.close()


@pytest.mark.parametrize(("said", "off"), [(" OFF ", True), ("0", True), ("on", False), ("1", False), ("  ", False)])
def test_what_people_write_for_on_and_off(said: str, off: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAMI_LEDGER", said)
    assert (Ledger.open().url is None) == off
    assert off or str(Ledger.open().url).endswith("ledger.sqlite")


# ---- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [False, True])
def test_a_file_deleted_and_made_anew_by_another_process(tmp_path: Path, again: bool) -> None:
    """Rows written to a file without a name are seen by nobody."""
    path = tmp_path / "ledger.sqlite"
    first, other = Ledger.open(path), Ledger.open(path)
    first.record(make_record(0))
    for round_ in range(2 if again else 1):
        for file in tmp_path.iterdir():
            file.unlink()
        made = Ledger.open(path)
        made.record(make_record(10 + round_))
        made.close()
        first.record(make_record(1))
        first.record(make_record(2))
        expected = [make_record(seed).step.run_context.call_id for seed in (10 + round_, 1, 2)]
        assert {row.call_id for row in Ledger.open(path).rows()} == set(expected)
        assert len(other.rows()) == len(first.rows()) == 3  # readers look at the new one too
    first.close()
    other.close()


def test_a_file_replaced_by_another_ledger(tmp_path: Path) -> None:
    path, restored = tmp_path / "ledger.sqlite", tmp_path / "backup.sqlite"
    backup = Ledger.open(restored)
    backup.record(make_record(5))
    backup.close()
    ledger = Ledger.open(path)
    ledger.record(make_record(0))
    ledger.flush()
    os.replace(restored, path)
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    ledger.record(make_record(1))
    expected = {make_record(seed).step.run_context.call_id for seed in (5, 1)}
    assert {row.call_id for row in Ledger.open(path).rows()} == expected
    ledger.close()


def test_damaged_pages_cost_no_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger.open(path)
    for seed in range(30):
        ledger.record(make_record(seed))
    ledger.close()
    whole = path.read_bytes()
    for page in range(len(whole) // 4096):
        path.write_bytes(whole[: page * 4096] + random.randbytes(4096) + whole[(page + 1) * 4096 :])
        damaged = Ledger.open(path)
        damaged.record(make_record(77))
        damaged.record(make_record(78))
        damaged.forget_waiting()
        damaged.close()


# ---- locks ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[tuple[Path, sqlite3.Connection]]:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger.open(path)
    ledger.record(make_record(0))
    ledger.close()
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    yield path, holder
    holder.close()


@pytest.mark.parametrize("fresh", [True, False])
def test_a_locked_ledger_delays_an_answer_by_half_a_second_at_most(
    locked: tuple[Path, sqlite3.Connection], fresh: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path, holder = locked
    assert PATIENCE < BOUND
    ledger = Ledger.open(path)
    if not fresh:
        holder.execute("ROLLBACK")
        ledger.record(make_record(1))
        holder.execute("BEGIN IMMEDIATE")
    caplog.set_level(logging.WARNING)
    start = time.monotonic()
    ledger.record(make_record(2))
    first = time.monotonic() - start
    ledger.record(make_record(3))  # does not wait again
    assert first < BOUND + MARGIN
    assert time.monotonic() - start - first < 0.2 + MARGIN
    assert ledger.waiting == 2
    assert len([r for r in caplog.records if "cannot be written" in r.message]) == 1
    holder.execute("ROLLBACK")
    ledger.close()
    assert len(Ledger.open(path).rows()) == (3 if fresh else 4)


def test_eight_threads_at_a_locked_ledger_all_answer_in_time(
    locked: tuple[Path, sqlite3.Connection], caplog: pytest.LogCaptureFixture
) -> None:
    path, holder = locked
    ledger = Ledger.open(path)
    times: list[float] = []

    def work(seed: int) -> None:
        start = time.monotonic()
        ledger.record(make_record(seed))
        times.append(time.monotonic() - start)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(times) < BOUND + MARGIN
    assert ledger.waiting == 8
    holder.execute("ROLLBACK")
    assert ledger.flush()
    assert len(ledger.rows()) == 9
    ledger.close()


def test_a_lock_that_is_let_go_in_time_costs_no_row(locked: tuple[Path, sqlite3.Connection]) -> None:
    path, holder = locked
    ledger = Ledger.open(path)
    timer = threading.Timer(0.1, holder.execute, ["ROLLBACK"])
    timer.start()
    ledger.record(make_record(1))
    timer.join()
    assert ledger.waiting == 0
    ledger.close()


# ---- forks ----------------------------------------------------------------------------------------------------------


def record_in_child(ledger: Ledger, seed: int) -> None:
    assert ledger.waiting == 0  # the parent's rows are the parent's
    ledger.record(make_record(seed))
    assert ledger.waiting == 0


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # Python 3.12 warns when other threads run
def test_a_fork_in_the_middle_of_a_write_does_not_hang_the_child(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    ledger.record(make_record(0))
    store: Any = ledger.store
    with trace("around") as t:
        store._lock.acquire()  # as another thread of the parent does at that moment: no public name leads there
        store._queue_lock.acquire()
        store._waiting.append((0, {}))
        child = multiprocessing.get_context("fork").Process(target=record_in_child, args=(ledger, 1))
        child.start()
        child.join(30)
        store._waiting.clear()
        store._queue_lock.release()
        store._lock.release()
    assert child.exitcode == 0
    ledger.record(make_record(2))
    assert len(ledger.rows()) == 3
    assert t.steps == ()  # the child's trace is the child's
    ledger.close()
