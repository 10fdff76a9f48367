from __future__ import annotations

import json
import random
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from dami_agent.ledger import Ledger
from tests.cli.conftest import Dami
from tests.ledger.records import make_record


@pytest.fixture
def calls(ledger_file: Path) -> list[str]:
    """Thirty calls, one a minute until now; their ids, oldest first."""
    ledger = Ledger.open()
    now, base = time.time(), random.randrange(10**6)
    records = [
        make_record(
            base + i,
            error="EngineClosed: it was closed" if i == 7 else None,
            started_at=now - 60 * (30 - i) + 30,
            node="even" if i % 2 == 0 else "odd",
            run_id=f"run-{i % 3}",
            root_run_id=None,
        )
        for i in range(30)
    ]
    for record in records:
        ledger.record(record)
    ledger.close()
    return [r.step.run_context.call_id for r in records]


def test_json_is_an_array_of_all_calls(dami: Dami, calls: list[str]) -> None:
    rows = dami("logs", "--json").json
    assert [r["call_id"] for r in rows] == calls
    assert rows[7]["error_type"] == "EngineClosed"
    assert datetime.fromisoformat(rows[0]["started_at"]).tzinfo == timezone.utc
    assert [r["call_id"] for r in dami("logs", "--json", "--limit", "3").json] == calls[-3:]


def test_a_call_that_failed_before_its_decision_says_why_without_a_hint(
    dami: Dami, ledger_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "240")
    failed = make_record(7, error="ContextOverflow: too long\n  hint: ask for less", started_at=time.time())
    ledger = Ledger.open()
    ledger.record(replace(failed, decision=None))
    ledger.close()
    shown = dami("logs").out
    assert "too long" in shown
    assert "hint" not in shown
    assert "\\n" not in shown


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (["--node", "odd"], slice(1, None, 2)),
        (["--run", "run-2"], slice(2, None, 3)),
        (["--since", "5m"], slice(25, None)),
        (["--since", "0.1h"], slice(24, None)),
        (["--since", "2020-01-31"], slice(None)),
        (["--since", "99999999999d"], slice(None)),
        (["--node", "odd", "--limit", "2"], slice(27, None, 2)),
        (["--limit", "0"], slice(None)),
    ],
)
def test_filters(dami: Dami, calls: list[str], options: list[str], kept: slice) -> None:
    assert [r["call_id"] for r in dami("logs", "--json", *options).json] == calls[kept]


def test_tool_filter(dami: Dami, calls: list[str]) -> None:
    everything, found = dami("logs", "--json").json, dami("logs", "--json", "--tool", "read_file").json
    assert found == [r for r in everything if "read_file" in r["tools_digested"] + r["tools_called"]]


def test_table_shows_the_newest_twenty(dami: Dami, calls: list[str]) -> None:
    out = dami("logs").out
    assert out.count("estimated 0.43, snapped to 0.5") == 20
    assert "λ" in out
    assert "EngineClosed" in dami("logs", "--limit", "30").out


def test_short_is_one_line_a_call(dami: Dami, calls: list[str]) -> None:
    lines = dami("logs", "--short", "--limit", "5").out.splitlines()
    assert len(lines) == 5
    assert all("λ=" in line and "tokens" in line for line in lines)


def test_usage_adds_up(dami: Dami, calls: list[str]) -> None:
    rows, totals = dami("logs", "--json").json, dami("logs", "--usage", "--json").json
    assert totals["calls"] == 30
    assert totals["failed"] == 1
    assert totals["runs"] == 3
    assert totals["output_tokens"] == sum(r["output_tokens"] for r in rows)
    parts = ("probe_tokens", "reasoning_tokens", "answer_tokens")
    assert totals["output_tokens"] == sum(totals[p] for p in parts)
    assert f"{totals['output_tokens']:,}" in dami("logs", "--usage").out


def test_nothing_on_record(dami: Dami, ledger_file: Path) -> None:
    assert dami("logs", "--json").json == []
    ended = dami("logs")
    assert (ended.status, ended.out) == (0, "")
    assert "there is no ledger at" in ended.err
    assert json.loads(dami("logs", "--usage", "--json").out)["mean_intensity"] is None
    assert not ledger_file.exists()


def test_what_cannot_be_read(dami: Dami, ledger_file: Path) -> None:
    ledger_file.write_bytes(b"no database at all" * 100)
    ended = dami("logs")
    assert ended.status == 1
    assert ended.err.startswith("error: cannot read the ledger")
    assert "Traceback" not in ended.err
    assert dami("logs", "--ledger", "off", "--json").json == []


def test_a_date_that_is_none(dami: Dami) -> None:
    ended = dami("logs", "--since", "yesterday-ish")
    assert ended.status == 2
    assert "yesterday-ish" in ended.err
