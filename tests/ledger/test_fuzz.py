"""Records and rows of strangers, through `record`, `rows` and every command: only our classes come out.

Two directions: records with values of every type, and cells written behind the ledger's back. ``DAMI_FUZZ`` sets how
many rounds of each, with five records or up to ten cells, and makes them new ones; 100 by default, always the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dami_agent.cli import main
from dami_agent.ledger import Ledger, trace
from dami_agent.ledger.schema import calls
from dami_agent.types import CallRecord, InvalidToolCall, Reply, ToolCall
from tests.ledger.records import make_record

TRIES = int(os.environ.get("DAMI_FUZZ", "100"))
CONTROL = "\x1b]0;owned\x07\x1b[31m\u202e\r\n\t\x9b2J\u2028"
COMMANDS = (
    ["logs"],
    ["logs", "--json"],
    ["logs", "--csv"],
    ["logs", "--short"],
    ["logs", "--usage"],
    ["logs", "--verify"],
    ["logs", "-q", "a"],
    ["logs", "--by", "tag"],
    ["runs"],
    ["runs", "--json"],
    ["runs", "--by", "tool"],
    ["runs", "--by", "user", "--json"],
    ["explain"],
    ["explain", "--json"],
    ["replay", "last"],
    ["watch", "--for", "0", "--every", "0.05"],
    ["report"],
    ["report", "--text"],
)


class Ring(dict[str, Any]):
    def __init__(self) -> None:
        super().__init__(self=self, other=[self, self])


class Mute:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(4_000, 6_000).map(lambda digits: 10**digits)
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.just(CONTROL)
    | st.binary(max_size=8)
    | st.datetimes()
    | st.builds(Mute)
    | st.builds(Ring)
    | st.just(float)
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()) | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)
FIELDS = (
    "run_id",
    "parent_run_id",
    "root_run_id",
    "thread_id",
    "node",
    "step",
    "tags",
    "metadata",
    "run_name",
    "call_id",
)
replies = st.builds(
    Reply,
    content=st.text(st.characters(), max_size=10) | st.just(CONTROL),
    reasoning=st.text(st.characters(), max_size=10),
    tool_calls=st.lists(
        st.builds(ToolCall, id=st.just("i"), name=values, arguments=st.dictionaries(st.text(), values, max_size=2)),
        max_size=2,
    ).map(tuple),
    invalid_tool_calls=st.lists(
        st.builds(InvalidToolCall, id=values, name=values, text=st.just(CONTROL), error=values), max_size=1
    ).map(tuple),
)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "ledger.sqlite"
    monkeypatch.setenv("DAMI_LEDGER", str(path))
    return path


def dami(*arguments: str) -> tuple[int, str, str]:
    """Run a command; anything but an orderly end is raised."""
    out, err = io.StringIO(), io.StringIO()
    before = sys.argv
    sys.argv = ["dami", *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as ended:
        return int(ended.code or 0), out.getvalue(), err.getvalue()
    finally:
        sys.argv = before
    raise AssertionError("main ends with SystemExit")


def look_at_everything(command: list[str]) -> None:
    status, out, err = dami(*command)
    assert status in (0, 1, 2)
    assert "Traceback" not in err
    assert not {"\x1b", "\x9b", "\x07", "\u202e", "\0"} & set(out + err)
    if "--json" in command:
        json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def few(tries: int) -> Any:
    return settings(
        max_examples=tries,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def hostile_record(data: st.DataObject) -> CallRecord:
    odd = data.draw(st.dictionaries(st.sampled_from(FIELDS), values, max_size=5))
    if "metadata" in odd and data.draw(st.booleans()):
        odd["metadata"] = {"user_id": odd["metadata"], "x": odd["metadata"]}
    record = make_record(data.draw(st.integers(0, 50)), error=data.draw(st.none() | st.just("E: x")), **odd)
    optional = {"model": values, "seconds": values, "started_at": values, "error": values, "reply": replies}
    return dataclasses.replace(record, **data.draw(st.fixed_dictionaries({}, optional=optional)))


@pytest.mark.slow
@pytest.mark.timeout(900)
@given(data=st.data(), command=st.sampled_from(COMMANDS))
@few(TRIES)
def test_hostile_records(path: Path, data: st.DataObject, command: list[str]) -> None:
    for file in path.parent.glob("ledger.sqlite*"):
        file.unlink()
    ledger = Ledger.open(path, keep_text=data.draw(st.booleans()))
    with trace(data.draw(st.sampled_from(["", "nightly", CONTROL]))) as t:
        for _ in range(5):
            ledger.record(hostile_record(data))
        ledger.record(make_record(1))
    repr(t), t._repr_html_(), t.by_tool(), t.by_called_tool(), t.by_node(), t.totals
    rows = ledger.rows()
    assert (ledger.waiting, rows.skipped) == (0, 0)
    assert make_record(1).step.run_context.call_id in [row.call_id for row in rows]
    ledger.close()
    look_at_everything(command)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
).map(json.dumps)
cells = (
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(st.characters(codec="utf-8"), max_size=20)
    | st.sampled_from([CONTROL, "[" * 5_000, "9" * 5_000, "{", '{"user": {}}'])
    | st.binary(max_size=8)
    | json_like
)
NAMES = [column.name for column in calls.columns if column.name != "id"]


@pytest.mark.slow
@given(damage=st.lists(st.tuples(st.integers(1, 6), st.sampled_from(NAMES), cells, st.booleans()), max_size=10),
       command=st.sampled_from(COMMANDS))  # fmt: skip
@few(TRIES)
def test_cells_written_behind_our_back(
    path: Path, damage: list[tuple[int, str, Any, bool]], command: list[str]
) -> None:
    for file in path.parent.glob("ledger.sqlite*"):
        file.unlink()
    ledger = Ledger.open(path, keep_text=True)
    for seed in range(6):
        ledger.record(make_record(seed, metadata={"user": "me"}, tags=("a",)))
    ledger.close()
    with sqlite3.connect(path) as connection:
        for row, name, cell, as_text in damage:
            value = "cast(? as text)" if as_text and isinstance(cell, bytes) else "?"
            with contextlib.suppress(sqlite3.IntegrityError):
                connection.execute(f"update calls set {name} = {value} where id = ?", [cell, row])
    connection.close()
    found = Ledger.open(path).rows()
    hit = {row for row, *_ in damage}
    assert len(found) + found.skipped == 6
    assert found.skipped <= len(hit)
    look_at_everything(command)
    ledger = Ledger.open(path)
    ledger.record(make_record(77))
    assert ledger.waiting == 0
    ledger.close()
