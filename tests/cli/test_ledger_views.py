"""`dami runs`, `explain`, `watch`, and what `dami logs` learned beside its table."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import random
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console, ConsoleDimensions

import dami_agent
from dami_agent.cli.watch import follow, frame
from dami_agent.ledger import CallRow, Ledger, Price, Prices
from dami_agent.ledger.savings import expected_tokens
from dami_agent.policy import Frontier
from dami_agent.testing import fake_chat_model
from dami_agent.types import CallRecord
from tests.cli.conftest import Dami
from tests.ledger.records import make_record
from tests.ledger.test_columns import decided

TABLE = {
    "pair": "some-pair",
    "rows": [
        {"lambda": 0, "accuracy": 0.2, "tokens": 10},
        {"lambda": 0.5, "accuracy": 0.7, "tokens": 130},
        {"lambda": 1, "accuracy": 0.9, "tokens": 100},
    ],
    "tools": [
        {"setting": "one", "lambda": 0.0, "tokens": 20},
        {"setting": "one", "lambda": 1.0, "tokens": 60},
        {"setting": "three", "lambda": 0.0, "tokens": 10},
        {"setting": "three", "lambda": 1.0, "tokens": 50},
    ],
}


@pytest.fixture
def frontier(tmp_path: Path) -> Path:
    path = tmp_path / "frontier.json"
    path.write_text(json.dumps(TABLE))
    return path


@pytest.fixture
def records(ledger_file: Path) -> list[CallRecord]:
    """Twelve calls of three runs, one of them failed before anything was decided."""
    base, now = random.randrange(10**6), time.time() - 1000
    made = [
        make_record(base + i, started_at=now + i, run_id=f"c{i}", root_run_id=f"root-{i % 3}-of-three", thread_id="th")
        for i in range(12)
    ]
    for i in (0, 1, 2, 7):
        made[i] = dataclasses.replace(made[i], step=dataclasses.replace(made[i].step, tools=()))
    made[4] = dataclasses.replace(made[4], decision=None, generation=None, reply=None, error="ContextOverflow: long")
    ledger = Ledger.open(prices=Prices(models={"*": Price(output=1e6)}, currency="EUR"))
    for record in made:
        ledger.record(record)
    ledger.close()
    return made


# ---- logs -----------------------------------------------------------------------------------------------------------


def test_csv_holds_what_json_holds(dami: Dami, records: list[CallRecord]) -> None:
    rows, lines = dami("logs", "--json").json, list(csv.DictReader(io.StringIO(dami("logs", "--csv").out)))
    assert len(lines) == len(rows) == 12
    for row, line in zip(rows, lines, strict=True):
        assert list(line) == list(row)
        for name, value in row.items():
            text = json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else str(value)
            assert line[name] == ("" if value is None else text), name
    assert dami("logs", "--csv", "--json").status == 2


def test_search(dami: Dami, records: list[CallRecord]) -> None:
    wanted = records[3].step.run_context.call_id
    assert [r["call_id"] for r in dami("logs", "-q", wanted.upper(), "--json").json] == [wanted]
    assert [r["error_type"] for r in dami("logs", "-q", "contextover", "--json").json] == ["ContextOverflow"]
    assert dami("logs", "-q", "no such text anywhere", "--json").json == []
    assert len(dami("logs", "-q", "root-1", "--short", "--limit", "2").out.splitlines()) == 2


def test_verify_says_what_is_broken(dami: Dami, records: list[CallRecord], ledger_file: Path) -> None:
    whole = dami("logs", "--verify")
    assert (whole.status, whole.out.strip()) == (0, f"sqlite:///{ledger_file}: 12 calls, schema 8: whole")
    with sqlite3.connect(ledger_file) as connection:
        connection.execute("update calls set output_tokens = output_tokens + 1 where id = 3")
    connection.close()
    broken = dami("logs", "--verify", "--json")
    assert broken.status == 1
    assert len(broken.json["problems"]) == 1
    assert "row 3: output_tokens" in broken.json["problems"][0]


def test_what_a_row_costs_is_measured_beside_the_ledger(dami: Dami, ledger_file: Path) -> None:
    cost = dami("logs", "--verify", "--timing", "--json").json["write_cost"]
    assert 0 < cost["median"] <= cost["p95"] <= cost["p99"]
    assert list(ledger_file.parent.iterdir()) == []


# ---- runs -----------------------------------------------------------------------------------------------------------


def test_rules_that_never_matched_are_listed(dami: Dami, ledger_file: Path) -> None:
    policy = {"name": "mine", "tools": {"get_prise": {"intensity": 0}}, "nodes": {"plan": {"intensity": 0}}}
    assert dami("runs", "--json").json["unmatched_rules"] == {}
    fake_chat_model(["yes"], policy=policy, ledger=Ledger.open(ledger_file)).invoke("hi")
    assert dami("runs", "--json").json["unmatched_rules"] == {"mine": ["tools.get_prise", "nodes.plan"]}
    said = " ".join(dami("runs").out.split())
    assert "rules of policy mine that matched no call of these runs: tools.get_prise, nodes.plan" in said


def slow_expectation(intensity: float) -> float:
    """The table above, by hand."""
    return 10 + 240 * intensity if intensity <= 0.5 else 130 - 60 * (intensity - 0.5)


def test_expected_tokens() -> None:
    table = Frontier.from_dict(TABLE)
    for _ in range(50):
        intensity = random.choice([0.0, 0.5, 1.0, random.random()])
        assert expected_tokens(table, intensity) == pytest.approx(slow_expectation(intensity))
    short = Frontier.from_dict({"rows": TABLE["rows"][1:2]})
    assert [expected_tokens(short, x) for x in (0.0, 0.5, 1.0)] == [130.0] * 3


def test_runs_are_sums_of_calls(dami: Dami, records: list[CallRecord], frontier: Path) -> None:
    said, rows = dami("runs", "--json", "--frontier", str(frontier)).json, dami("logs", "--json").json
    assert [run["run"] for run in said["runs"]] == [f"root-{n}-of-three" for n in range(3)]
    assert "expected, not measured" in said["saved"]["method"]
    assert said["saved"]["frontiers"] == ["some-pair (frontier.json)"]
    for run in said["runs"]:
        calls = [r for r in rows if r["root_run_id"] == run["run"]]
        used = [r["intensity"] for r in calls if r["intensity"] is not None]
        assert (run["steps"], run["calls"], run["intensity"]) == (4, 4, [min(used), max(used)])
        assert run["failed"] == sum(r["error_type"] is not None for r in calls)
        assert run["output_tokens"] == sum(r["output_tokens"] for r in calls)
        assert run["cost"] == {"EUR": pytest.approx(run["output_tokens"])}
        saved = 0.0
        for r in calls:
            more = 40 * (1 - (r["intensity"] or 0)) if r["tools_bound"] else 100 - slow_expectation(r["intensity"] or 0)
            saved += (0 if r["intensity"] is None else more) - r["probe_tokens"]
        assert run["saved_tokens_expected"] == pytest.approx(saved)
        assert run["baseline_tokens_expected"] == pytest.approx(saved + run["output_tokens"])


def test_nothing_is_claimed_for_tools_that_were_not_measured(
    dami: Dami, records: list[CallRecord], frontier: Path
) -> None:
    frontier.write_text(json.dumps({**TABLE, "tools": []}))
    said = dami("runs", "--json", "--frontier", str(frontier)).json["runs"]
    assert {run["saved_tokens_expected"] for run in said} == {None}  # each run has calls with tools bound


def test_nothing_is_claimed_without_a_frontier(dami: Dami, records: list[CallRecord]) -> None:
    said = dami("runs", "--json").json
    assert {run["saved_tokens_expected"] for run in said["runs"]} == {None}
    assert said["saved"]["frontiers"] == []
    table = dami("runs").out
    assert "expected, not measured" not in table
    assert len([line for line in table.splitlines() if line.startswith("root-")]) == 3


def test_the_built_in_pairs_own_frontier(dami: Dami, ledger_file: Path) -> None:
    ledger = Ledger.open()
    for seed in (1, 2):
        ledger.record(dataclasses.replace(make_record(seed), model="dami-builtin"))
    rows = ledger.rows()
    ledger.close()
    folder = Path(dami_agent.__file__).parent
    table = json.loads((folder / "checkpoints/builtin/frontier.json").read_text())
    at = {x: [r["tokens"] for r in table["tools"] if r["lambda"] == x] for x in (0.0, 0.5, 1.0)}
    rows_of = [{"lambda": x, "accuracy": 0, "tokens": sum(each) / len(each)} for x, each in at.items()]
    builtin = Frontier.from_dict({"rows": rows_of})
    ends = expected_tokens(builtin, 1.0)
    saved = sum(ends - expected_tokens(builtin, r.intensity or 0.0) - r.probe_tokens for r in rows)
    (run,) = dami("runs", "--json").json["runs"]
    assert run["saved_tokens_expected"] == pytest.approx(saved)
    out = dami("runs").out
    assert "saved: expected, not measured" in out
    assert "dami-builtin (frontier.json)" in out


def test_limits_and_nothing(dami: Dami, records: list[CallRecord], tmp_path: Path) -> None:
    assert [r["run"] for r in dami("runs", "--json", "--limit", "1").json["runs"]] == ["root-2-of-three"]
    assert dami("runs", "--json", "--since", "1m").json["runs"] == []
    assert "there is no ledger at" in dami("runs", "--ledger", str(tmp_path / "none")).err


# ---- explain --------------------------------------------------------------------------------------------------------


@pytest.fixture
def explained(ledger_file: Path) -> CallRecord:
    record = decided(
        make_record(5, call_id="abcdef01", node="model", step=3),
        bounds=(0.25, 0.75),
        rule="tools.search",
        considered=("nodes.plan: the node is model", "default: a rule matched"),
        charged_to="search",
        requested=0.5,
        bounded=0.43,
        snapped=0.5,
    )
    ledger = Ledger.open(prices=Prices(models={"*": Price(output=1e6)}, currency="EUR"))
    ledger.record(make_record(6, call_id="abcdef99"))
    ledger.record(dataclasses.replace(record, model="dami-builtin"))
    ledger.record(dataclasses.replace(decided(record, attempt=9), error="OutputInvalid: no JSON", reply=None))
    ledger.close()
    return record


def test_explain_says_rule_features_bounds_and_what_else(dami: Dami, explained: CallRecord) -> None:
    out = dami("explain", "abcdef01").out
    first, second = out.split("\n\n")
    decision = explained.decision
    assert decision is not None
    assert decision.estimate is not None
    for text in (
        "rule        tools.search",
        "λ in [0.25, 0.75]",
        f"surprise {decision.estimate.features['surprise']:.3g}",
        "entropy inf",
        "nodes.plan: the node is model",
        "default: a rule matched",
        "charged to  search",
        "requested   λ = 0.5",
        "bounded     λ = 0.43",
        "snapped     λ = 0.5, the nearest that was measured",
        "sampled     temperature 0.6",
        f"because     {decision.reason}",
        f"cost        {explained.output_tokens:.6g} EUR",
        "node model, step 3",
        "expected, not measured",
        "attempt",
    ):
        assert text in first, text
    assert "failed      OutputInvalid: no JSON" in second
    assert "attempt 10" in second
    assert len(dami("explain", "abcdef01", "--json").json) == 2


def test_explain_takes_how_an_id_begins_and_the_last_call(dami: Dami, explained: CallRecord) -> None:
    assert [r["call_id"] for r in dami("explain", "abcdef9", "--json").json] == ["abcdef99"]
    newest = dami("logs", "--json", "--limit", "1").json[0]["call_id"]
    assert {r["call_id"] for r in dami("explain", "--json").json} == {newest}
    ambiguous = dami("explain", "abc")
    assert ambiguous.status == 2
    assert "2 calls begin with abc: " in ambiguous.err
    assert dami("explain", "zzz").status == 2


def test_explain_of_a_call_that_failed_before_a_decision(dami: Dami, records: list[CallRecord]) -> None:
    out = dami("explain", records[4].step.run_context.call_id).out
    assert "it failed before a decision" in out
    assert "failed      ContextOverflow: long" in out


# ---- watch ----------------------------------------------------------------------------------------------------------


def write_soon(path: Path, seeds: range) -> threading.Thread:
    """A writer with a ledger of its own, as another process has."""

    def work() -> None:
        ledger = Ledger.open(path)
        for seed in seeds:
            time.sleep(0.02)
            ledger.record(make_record(seed, node="[bold]not markup"))
        ledger.close()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.parametrize("terminal", [True, False])
def test_watch_shows_calls_as_they_end(ledger_file: Path, terminal: bool) -> None:
    before = Ledger.open(ledger_file)
    before.record(make_record(99))
    before.close()
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=200, color_system=None)
    ledger, deadline = Ledger.open(ledger_file), time.monotonic() + 60
    expected = [make_record(seed).step.run_context.call_id for seed in range(5)]
    writers: list[threading.Thread] = []

    def stop(new: Sequence[CallRow]) -> bool:
        if not writers:  # only now is it certain that the watch has begun
            writers.append(write_soon(ledger_file, range(5)))
        return len(new) >= 5 or time.monotonic() > deadline

    new = follow(ledger, console, every=0.05, stop=stop)
    writers[0].join()
    ledger.close()
    assert [row.call_id for row in new] == expected
    text = out.getvalue()
    for call_id in expected:
        assert call_id[:8] in text
    assert "[bold]not markup" in text
    assert ("calls since the start" in text) == terminal


def test_watch_ends_when_told(dami: Dami, ledger_file: Path) -> None:
    start = time.monotonic()
    ended = dami("watch", "--for", "0.2", "--every", "0.05")
    assert ended.status == 0
    assert time.monotonic() - start < 30
    assert os.fspath(ledger_file) in ended.err
    assert not ledger_file.exists()


def test_the_live_table_stays_inside_its_window(ledger_file: Path) -> None:
    ledger = Ledger.open(ledger_file)
    for seed in range(30):
        ledger.record(make_record(seed, node="a-node-with-a-rather-long-name"))
    rows = ledger.rows()
    ledger.close()
    for width, height in ((80, 10), (100, 24), (200, 50)):
        out = io.StringIO()
        Console(file=out, width=width, height=height).print(frame(rows, rows, ConsoleDimensions(width, height)))
        lines = out.getvalue().splitlines()
        assert len(lines) <= height
        assert max(map(len, lines)) <= width
        assert rows[-1].call_id[:8] in out.getvalue()  # the newest, whatever there is no room for
        assert "30 calls since the start" in out.getvalue()


def test_runs_of_one_minute_are_told_apart(dami: Dami, ledger_file: Path) -> None:
    ids = ["01a2098f-188c-710e-8959-65ae9fb17846", "01a2098f-f9cd-7243-aecd-9784b3fc3f68"]
    ledger = Ledger.open(ledger_file)
    for seed, run in enumerate(ids):
        ledger.record(make_record(seed, run_id=run, root_run_id=run))
    ledger.close()
    shown = {line.split()[0] for line in dami("runs").out.splitlines() if line.startswith("01a2098f")}
    assert len(shown) == 2
    assert sorted(len(dami("logs", "--run", begin, "--json").json) for begin in shown) == [1, 1]
