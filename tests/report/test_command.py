"""``dami report`` from a real ledger."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from dami_agent.cli import main
from dami_agent.cli.savings import BASELINE
from dami_agent.ledger import Ledger
from tests.ledger.records import make_record


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["dami", "report", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def data_in(path: Path) -> Any:
    (text,) = re.findall(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)
    return json.loads(text)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "some.sqlite"
    opened = Ledger.open(path)
    for i in range(30):
        opened.record(make_record(i, root_run_id=f"run-{i % 3}"))
    opened.close()
    return path


def test_a_page_of_a_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger: Path) -> None:
    page = tmp_path / "page.html"
    assert run(monkeypatch, "-o", str(page), "--ledger", str(ledger)) == 0
    data = data_in(page)
    assert data["count"] == 30
    assert data["ledger"] == "some.sqlite"
    assert str(tmp_path) not in page.read_text(encoding="utf-8")
    assert data["columns"]["saved"] == {"all": None}  # by a model that nobody has measured
    assert data["frontier"]["rows"][-1]["lambda"] == 1


def test_one_run_and_another_frontier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger: Path) -> None:
    page, frontier = tmp_path / "page.html", tmp_path / "mine.json"
    frontier.write_text(json.dumps({"pair": "mine", "rows": [{"lambda": 1, "accuracy": 1, "tokens": 5}]}))
    options = ("-o", str(page), "--ledger", str(ledger), "--frontier", str(frontier), "--run", "run-1")
    assert run(monkeypatch, *options) == 0
    data = data_in(page)
    assert data["count"] == 10
    assert data["scope"] == "run run-1"
    assert data["columns"]["run"] == {"all": "run-1"}
    assert data["frontier"]["pair"] == "mine"
    assert data["saved"]["baseline"] == BASELINE


def test_the_page_is_report_html_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "--ledger", str(ledger), "--since", "1h") == 0
    assert data_in(tmp_path / "report.html")["count"] == 0


def test_what_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--since", "yesterday-ish") == 2
    assert run(monkeypatch, "-o", str(tmp_path / "no" / "page.html"), "--ledger", str(tmp_path / "l.sqlite")) == 1
    assert "cannot write the report" in capsys.readouterr().err
    assert run(monkeypatch, "--frontier", str(tmp_path / "none.json")) == 2
    assert not (tmp_path / "l.sqlite").exists()
