"""Calls added up by name, tag, user, day, node and tool; filters by them; and what is said where there is nothing."""

from __future__ import annotations

import datetime
import json
import random
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from dami_agent.cli.output import visible
from dami_agent.ledger import CallRow, Ledger, trace
from tests.chance import SEED
from tests.cli.conftest import Dami
from tests.ledger.records import make_record

NASTY = "a\x1b[31mred\x1b]0;title\x07\x9b2J\u202ereversed\r\nforged line"


@pytest.fixture
def rows(ledger_file: Path) -> list[CallRow]:
    rng = random.Random(SEED)
    ledger = Ledger.open()
    for seed in range(60):
        with trace(rng.choice(["", "nightly", "hourly"])):
            ledger.record(
                make_record(
                    seed,
                    started_at=1_790_000_000.0 + 40_000 * rng.randrange(8),
                    root_run_id=f"run-{seed % 7}",
                    node=rng.choice([None, "plan", "act"]),
                    tags=tuple(rng.sample(["a", "b", "c"], rng.randrange(3))),
                    metadata={rng.choice(["user_id", "user"]): rng.choice(["ann", "bob"])} if seed % 3 else {},
                    run_name=rng.choice([None, "digest"]),
                    root_run_name=rng.choice([None, "agent", "digest"]),
                    error=rng.choice([None, "E: x"]),
                )
            )
    found = ledger.rows()
    ledger.close()
    return found


Keys = Callable[[dict[str, Any]], Iterable[Any]]
SLOW: dict[str, tuple[str, Keys]] = {
    "name": ("name", lambda r: {*r["trace_names"], r["run_name"], r["root_run_name"]} - {None} or {None}),
    "tag": ("tag", lambda r: set(r["tags"]) or {None}),
    "user": ("user", lambda r: [r["metadata"].get("user_id") or r["metadata"].get("user")]),
    "day": ("day", lambda r: [datetime.datetime.fromisoformat(r["started_at"]).astimezone().strftime("%Y-%m-%d")]),
    "node": ("node", lambda r: [r["node"]]),
    "tool": ("tool_called", lambda r: set(r["tools_called"]) or {"answer"}),
}


@pytest.mark.parametrize("by", SLOW)
@pytest.mark.parametrize("command", ["logs", "runs"])
def test_groups_are_sums_of_calls(dami: Dami, rows: list[CallRow], command: str, by: str) -> None:
    view, keys = SLOW[by]
    expected: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for row in dami("logs", "--json").json:
        for key in keys(row):
            expected[key].append(row)
    found = {each["key"]: each for each in dami(command, "--by", by, "--json").json[view]}
    assert found.keys() == expected.keys()
    for key, each in expected.items():
        assert found[key]["calls"] == len(each)
        assert found[key]["failed"] == sum(r["error_type"] is not None for r in each)
        assert found[key]["output_tokens"] == sum(r["output_tokens"] for r in each)
    table = dami(command, "--by", by).out
    assert all((key or "(none)") in table for key in expected)


def test_both_views_of_tools(dami: Dami, rows: list[CallRow]) -> None:
    """A step that read `search` and called `add` is under the one in the first view, under the other in the second."""
    said = dami("runs", "--by", "tool", "--json").json
    assert {each["key"] for each in said["tool_read"]} == {row.charged_to for row in rows}
    assert sum(each["output_tokens"] for each in said["tool_read"]) == sum(row.output_tokens for row in rows)
    assert {each["key"] for each in said["tool_called"]} == {"add", "search", "answer"}
    out = dami("runs", "--by", "tool").out
    assert out.index("tool it read") < out.index("tool it called") < out.index("counts under each of them")
    for run in dami("runs", "--json").json["runs"]:
        assert sum(run["output_tokens_by_tool_read"].values()) == run["output_tokens"]
        assert max(run["output_tokens_by_tool_called"].values()) <= run["output_tokens"]
        own = {name for row in rows if row.run == run["run"] for name in row.names}
        assert set(run["names"]) == own


@pytest.mark.parametrize(
    ("option", "value", "test"),
    [
        ("--name", "nightly", lambda r: "nightly" in r.trace_names),
        ("--name", "digest", lambda r: "digest" in (r.run_name, r.root_run_name)),
        ("--tag", "b", lambda r: "b" in r.tags),
        ("--user", "ann", lambda r: r.user == "ann"),
        ("--node", "plan", lambda r: r.node == "plan"),
    ],
)
def test_filters(dami: Dami, rows: list[CallRow], option: str, value: str, test: Callable[[CallRow], bool]) -> None:
    expected = [row.call_id for row in rows if test(row)]
    assert expected
    assert [row["call_id"] for row in dami("logs", option, value, "--json").json] == expected
    assert sum(run["calls"] for run in dami("runs", option, value, "--json").json["runs"]) == len(expected)


def test_runs_show_their_name(dami: Dami, ledger_file: Path) -> None:
    with trace("nightly"):
        Ledger.open().record(make_record(1, run_name="digest"))
    assert "nightly, digest" in dami("runs").out
    assert "nightly, digest" in dami("explain").out


def test_by_goes_with_tables_and_json(dami: Dami, rows: list[CallRow]) -> None:
    assert dami("logs", "--by", "tag", "--csv").status == 2
    assert dami("logs", "--by", "colour").status == 2


# ---- nothing to show ------------------------------------------------------------------------------------------------

COMMANDS = (["logs"], ["logs", "--short"], ["logs", "--by", "tag"], ["runs"], ["runs", "--by", "day"], ["explain"],
            ["replay", "last"], ["report"], ["watch", "--for", "0"])  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_three_reasons_for_nothing(
    dami: Dami, ledger_file: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ledger_file.parent)
    missing = dami(*command)
    assert f"there is no ledger at sqlite:///{ledger_file} yet" in missing.err
    assert not ledger_file.exists()
    ledger = Ledger.open()
    ledger.record(make_record(1))
    ledger.close()
    if command[0] in ("logs", "runs", "report"):
        option, value = ("--tag", "no-such-tag") if command[0] != "report" else ("--run", "no-such-run")
        assert f"matches {option} {value}" in dami(*command, option, value).err
    with sqlite3.connect(ledger_file) as connection:
        connection.execute("delete from calls")
    connection.close()
    empty = dami(*command)
    assert "is empty: no call is on record" in empty.err
    assert empty.status == missing.status == (2 if command[0] in ("explain", "replay") else 0)
    monkeypatch.setenv("DAMI_LEDGER", "off")
    assert "the ledger is off" in dami(*command).err


def test_nothing_as_json_is_still_json(dami: Dami, ledger_file: Path) -> None:
    assert dami("logs", "--json").json == []
    assert dami("runs", "--json").json["runs"] == []
    assert dami("runs", "--by", "tool", "--json").json == {"tool_read": [], "tool_called": []}
    assert dami("logs", "--csv").out.count("\n") == 1


def test_damaged_rows_are_counted_by_every_command(
    dami: Dami, rows: list[CallRow], ledger_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ledger_file.parent)
    with sqlite3.connect(ledger_file) as connection:
        connection.execute("update calls set features = '{' where id = 9")
    connection.close()
    call = next(row.call_id for row in rows if row.id == 9)
    for command in (
        ["logs", "--limit", "0"],
        ["logs", "--json"],
        ["logs", "--csv"],
        ["logs", "--usage"],
        ["runs"],
        ["report"],
    ):
        ended = dami(*command)
        assert (ended.status, "1 damaged row was skipped" in ended.err) == (0, True), command
    assert len(dami("logs", "--json").json) == 59
    assert dami("explain", call).status == 2
    verified = dami("logs", "--verify")
    assert (verified.status, "row 9: features is '{'" in verified.out) == (1, True)


# ---- what strangers wrote -------------------------------------------------------------------------------------------


def test_text_is_made_visible() -> None:
    assert visible("plain λ → text") == "plain λ → text"
    assert visible(NASTY) == (r"a\x1b[31mred\x1b]0;title\x07\x9b2J\u202ereversed\r\nforged line")
    assert visible("two\nlines\t\x1b", keep="\n\t") == "two\nlines\t\\x1b"
    assert visible("\ud800") == "\\ud800"
    assert visible("👩\u200d👩\u200d👧 e\u0301 \u00ad") == "👩\u200d👩\u200d👧 e\u0301 \u00ad"


@pytest.mark.parametrize("command", [*COMMANDS, ["logs", "--json"], ["logs", "--csv"], ["runs", "--json"],
                                     ["explain", "--json"], ["logs", "--usage"]], ids=" ".join)  # fmt: skip
def test_no_escape_sequence_reaches_the_terminal(
    dami: Dami, ledger_file: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ledger_file.parent)
    ledger = Ledger.open()
    odd = {"run_name": NASTY, "tags": (NASTY,), "node": NASTY, "metadata": {NASTY: NASTY}, "thread_id": NASTY}
    for seed, call in enumerate((f"a{NASTY}", f"b{NASTY}")):
        ledger.record(make_record(seed, call_id=call, error=f"E: {NASTY}", **odd))
    ledger.close()
    ended = dami(*command)
    assert not set("\x1b\x07\x9b\u202e") & set(ended.out + ended.err)
    assert "--csv" in command or "\nforged line" not in ended.out + ended.err  # a cell of CSV may have lines
    if "--json" in command and command[0] == "logs":
        assert ended.json[0]["tags"] == [NASTY]  # as JSON it is all there
    assert not set("\x1b\x07\x9b") & set(dami("explain", f"zz{NASTY}").err)


def test_json_has_no_nan(dami: Dami, ledger_file: Path) -> None:
    ledger = Ledger.open()
    ledger.record(make_record(1, metadata={"x": float("nan")}))
    ledger.close()
    json.loads(dami("logs", "--json").out, parse_constant=lambda name: pytest.fail(name))
