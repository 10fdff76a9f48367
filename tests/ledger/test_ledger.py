from __future__ import annotations

import dataclasses
import json
import logging
import random
import sqlite3
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, inspect

from dami_agent.errors import LedgerError
from dami_agent.ledger import CallRow, Ledger, default_location
from dami_agent.ledger.schema import MIGRATIONS, calls, migrate
from dami_agent.types import CallRecord
from tests.chance import SEED
from tests.ledger.records import make_record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "down" / "ledger.sqlite"


def test_a_row_says_what_the_call_was(path: Path) -> None:
    seed = random.randrange(10**6)
    record = make_record(seed, node="model", step=3, tags=("a", "b"), metadata={"who": "me", "n": 3}, thread_id="t")
    ledger = Ledger.open(path)
    ledger.record(record)
    (row,) = Ledger.open(path).rows()
    decision, generation, estimate = record.decision, record.generation, record.decision.estimate
    assert (row.call_id, row.run_id, row.root_run_id, row.thread_id) == (
        record.step.run_context.call_id,
        "run",
        "root",
        "t",
    )
    assert (row.node, row.step, row.tags, row.metadata) == ("model", 3, ("a", "b"), {"who": "me", "n": 3})
    assert row.tools_bound == ("search", "add")
    assert row.tools_digested == record.step.digested_tools
    assert row.tools_called == ("add", "search")
    assert row.invalid_tool_calls == 1
    assert (row.intensity_requested, row.intensity_estimated) == (decision.requested, estimate.intensity)
    assert row.intensity == decision.intensity
    assert (row.template, row.reason, row.policy) == (decision.template, decision.reason, decision.policy)
    assert row.attempt == decision.attempt
    assert (row.estimator, row.features["surprise"]) == ("confidence", estimate.features["surprise"])
    assert row.features["entropy"] == "inf"
    assert row.prompt_tokens == generation.prompt_tokens
    assert row.probe_tokens == record.probe_tokens
    assert row.output_tokens == record.output_tokens == row.probe_tokens + row.reasoning_tokens + row.answer_tokens
    assert row.reasoning_tokens == generation.reasoning_tokens
    assert (row.finish_reason, row.thought_closed_by) == ("tool_calls", generation.thought_closed_by)
    assert row.sampling["seed"] == generation.sampling.seed
    assert row.limits["stop"] == ["END"]
    assert row.started_at == datetime.fromtimestamp(record.started_at, timezone.utc)
    assert (row.seconds, row.decode_seconds, row.first_token_seconds) == (record.seconds, 1.5, 0.65)
    assert row.error is None
    assert json.loads(json.dumps(row.to_dict()))["started_at"] == row.started_at.isoformat()


def test_no_text_of_prompt_or_answer_is_kept(path: Path) -> None:
    with_text = Ledger.open(path)
    with_text.record(make_record(1))
    with_text.close()
    assert b"SECRET" not in path.read_bytes()


def test_failures_are_rows_too(path: Path) -> None:
    ledger = Ledger.open(path)
    ledger.record(make_record(2, error="DeadlineExceeded: after 3 s: too long\n  hint: wait"))
    bare = dataclasses.replace(
        make_record(3), decision=None, generation=None, reply=None, error="ContextOverflow: long"
    )
    ledger.record(bare)
    ledger.record(dataclasses.replace(bare, prompt=None, error="KeyboardInterrupt: "))
    first, second, third = ledger.rows()
    assert (first.error_type, first.error) == ("DeadlineExceeded", "after 3 s: too long\n  hint: wait")
    assert first.output_tokens > 0
    assert first.accepted is None
    assert (second.error_type, second.intensity, second.prompt_tokens) == ("ContextOverflow", None, 3)
    assert (third.error_type, third.error, third.prompt_tokens) == ("KeyboardInterrupt", None, 0)


def matches(record: CallRecord, run: str | None, tool: str | None, node: str | None, since: float | None) -> bool:
    """The slow, obvious filter."""
    run_context = record.step.run_context
    called = [c.name for c in record.reply.tool_calls] if record.reply else []
    return (
        (
            run is None
            or any(
                (id_ or "").startswith(run)
                for id_ in (run_context.run_id, run_context.parent_run_id, run_context.root_run_id)
            )
        )
        and (tool is None or tool in called or tool in record.step.digested_tools)
        and (node is None or run_context.node == node)
        and (since is None or record.started_at >= since)
    )


def test_filters_agree_with_a_plain_loop() -> None:
    rng = random.Random(SEED)
    ledger = Ledger.open(":memory:")
    names = ["r%", "r_", "rx", 'r"', "r", "R"]
    records = [
        make_record(
            rng.randrange(10**6),
            error=rng.choice([None, "E: x"]),
            started_at=float(i // 2),
            run_id=rng.choice(names),
            parent_run_id=rng.choice([None, *names]),
            root_run_id=rng.choice([None, *names]),
            node=rng.choice([None, "agent", "tools"]),
        )
        for i in range(60)
    ]
    for record in records:
        ledger.record(record)
    for _ in range(60):
        run, node = rng.choice([None, *names]), rng.choice([None, "agent", "tools"])
        tool = rng.choice([None, "search", "read_file", "a%", "d", 'x"y', "read"])
        since, limit = rng.choice([None, 7.0]), rng.choice([None, 0, 1, 5])
        expected = [r.step.run_context.call_id for r in records if matches(r, run, tool, node, since)]
        expected = expected if limit is None else expected[len(expected) - min(limit, len(expected)) :]
        at = None if since is None else datetime.fromtimestamp(since, timezone(timedelta(hours=5)))
        found = ledger.rows(run=run, tool=tool, node=node, since=at, limit=limit)
        assert [r.call_id for r in found] == expected, (run, tool, node, since, limit)


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text() | st.binary() | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text() | st.integers() | st.tuples(st.integers()), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(anything, st.text(st.characters(), max_size=8))
@settings(max_examples=60, deadline=None)
def test_any_metadata_is_kept_in_some_form(value: object, text: str) -> None:
    ledger = Ledger.open(":memory:")
    ledger.record(make_record(0, metadata={"value": value, text: 1}, node=text + "\ud800\0", tags=(text,)))
    (row,) = ledger.rows()
    json.dumps(row.to_dict(), allow_nan=False)
    assert row.node.endswith("\\ud800\\x00")


def test_metadata_that_cannot_even_be_printed_costs_no_row() -> None:
    class Broken:
        def __str__(self) -> str:
            raise ValueError("no")

    ledger = Ledger.open(":memory:")
    ledger.record(make_record(0, metadata={"x": Broken()}))
    assert ledger.rows()[0].metadata == {"x": "<Broken>"}
    ring: list[object] = []
    ring.append(ring)
    ledger.record(make_record(0, metadata={"x": ring, "long": "y" * 10**6}))
    row = ledger.rows()[-1]
    assert len(row.metadata["long"]) < 3000


def test_nothing_touches_the_disk_before_the_first_record(path: Path) -> None:
    ledger = Ledger.open(path)
    assert ledger.rows() == []
    ledger.close()
    assert not path.parent.exists()
    ledger.record(make_record(1))
    assert path.exists()


def test_location(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DAMI_LEDGER", str(tmp_path / "x.sqlite"))
    assert default_location() == str(tmp_path / "x.sqlite")
    Ledger.open().record(make_record(1))
    assert len(Ledger.open(f"sqlite:///{tmp_path}/x.sqlite").rows()) == 1
    monkeypatch.setenv("DAMI_LEDGER", "off")
    Ledger.open().record(make_record(1))
    assert Ledger.open().rows() == Ledger.disabled().rows() == []
    monkeypatch.delenv("DAMI_LEDGER")
    assert default_location().endswith("ledger.sqlite")
    with pytest.raises(LedgerError, match="driver"):
        Ledger.open("nosuchdb://x")
    with pytest.raises(LedgerError, match="not a valid database URL"):
        Ledger.open("://x")


def test_a_file_that_is_no_ledger(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "ledger.sqlite"
    file.write_bytes(b"this is not a database" * 500)
    ledger = Ledger.open(file)
    ledger.record(make_record(1))
    assert ledger.waiting == 1
    assert "cannot be written" in caplog.text
    with pytest.raises(LedgerError, match="cannot read"):
        ledger.rows()
    assert file.read_bytes().startswith(b"this is not")


def test_a_ledger_of_a_newer_release_is_left_alone(path: Path) -> None:
    Ledger.open(path).record(make_record(1))
    with sqlite3.connect(path) as connection:
        connection.execute("insert into dami_migrations values (99, 'from the future', 0)")
    connection.close()
    ledger = Ledger.open(path)
    ledger.record(make_record(1))
    assert ledger.waiting == 1
    with pytest.raises(LedgerError, match="schema 99"):
        ledger.rows()


def test_who_holds_the_lock_writes_the_rows_of_threads_that_gave_up(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dami_agent.ledger.store.PATIENCE", 0.01)
    ledger = Ledger.open(path)
    begun, go_on = threading.Event(), threading.Event()
    assert ledger.store is not None
    prepare = ledger.store._prepare

    def slowly(connection: Connection) -> None:
        begun.set()
        assert go_on.wait(30)
        prepare(connection)

    monkeypatch.setattr(ledger.store, "_prepare", slowly)
    first = threading.Thread(target=ledger.record, args=(make_record(1),))
    first.start()
    assert begun.wait(30)
    for seed in (2, 3):
        ledger.record(make_record(seed))  # does not wait for the other
    assert ledger.waiting == 3
    go_on.set()
    first.join()
    assert ledger.waiting == 0
    assert len(Ledger.open(path).rows()) == 3


def test_what_cannot_be_written_waits_and_is_written_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocker = tmp_path / "folder"
    blocker.write_text("a file where the folder should be")
    ledger = Ledger.open(blocker / "ledger.sqlite")
    with caplog.at_level(logging.WARNING):
        for seed in range(5):
            ledger.record(make_record(seed))
    assert ledger.waiting == 5
    assert len([r for r in caplog.records if "cannot be written" in r.message]) == 1
    blocker.unlink()
    assert ledger.flush()
    assert len(ledger.rows()) == 5
    assert "written again" in caplog.text


def test_the_backlog_is_bounded_and_says_what_it_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocker = tmp_path / "folder"
    blocker.touch()
    ledger = Ledger(Ledger.open(blocker / "ledger.sqlite").url, backlog=3)
    records = [make_record(seed) for seed in range(8)]
    for record in records:
        ledger.record(record)
    blocker.unlink()
    assert ledger.flush()
    assert [r.call_id for r in ledger.rows()] == [r.step.run_context.call_id for r in records[-3:]]
    assert "5 older ones were lost" in caplog.text


def test_a_deleted_file_is_made_anew(path: Path) -> None:
    ledger = Ledger.open(path)
    ledger.record(make_record(1))
    for file in path.parent.iterdir():
        file.unlink()
    ledger.record(make_record(2))
    assert len(Ledger.open(path).rows()) == 1


@pytest.mark.parametrize("memory", [True, False])
def test_many_threads_one_ledger(path: Path, memory: bool) -> None:
    ledger = Ledger.open(":memory:" if memory else path)

    def work(base: int) -> None:
        for i in range(10):
            ledger.record(make_record(base * 100 + i))
            assert ledger.rows(limit=1)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({r.call_id for r in ledger.rows()}) == 80


def test_migrations_add_up_to_the_table(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/x.sqlite")
    with engine.connect() as connection:
        migrate(connection)
        migrate(connection)
    with engine.connect() as connection:
        found = inspect(connection)
        columns = {c["name"]: (str(c["type"]), c["nullable"]) for c in found.get_columns("calls")}
        expected = {c.name: (c.type.compile(engine.dialect), bool(c.nullable)) for c in calls.columns}
        assert columns == expected
        assert {i["name"] for i in found.get_indexes("calls")} == {i.name for i in calls.indexes}
    engine.dispose()
    assert [m.number for m in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))
    assert [f.name for f in dataclasses.fields(CallRow)] == [c.name for c in calls.columns]


def test_a_row_the_database_refuses_blocks_no_other(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger.open(path)
    ledger.record(make_record(1))
    ledger.record(make_record(2, step=2**70))  # more than an SQL integer holds
    ledger.record(make_record(3))
    assert ledger.waiting == 0
    expected = [make_record(seed).step.run_context.call_id for seed in (1, 3)]
    assert [r.call_id for r in ledger.rows()] == expected
    assert "is lost" in caplog.text


def test_a_call_is_found_by_how_its_id_begins_and_rows_by_what_came_after(path: Path) -> None:
    ledger = Ledger.open(path)
    for seed, call_id in enumerate(("ab1", "ab2", "a%", "b")):
        ledger.record(make_record(seed, call_id=call_id))
    assert [r.call_id for r in ledger.rows(call="ab")] == ["ab1", "ab2"]
    assert [r.call_id for r in ledger.rows(call="a%")] == ["a%"]
    assert [r.call_id for r in ledger.rows(after=ledger.rows(call="ab2")[0].id)] == ["a%", "b"]
