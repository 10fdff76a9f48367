"""``dami report`` from a real ledger."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import stat
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from dami_agent.cli import main
from dami_agent.ledger import Ledger
from dami_agent.ledger.savings import BASELINE
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


@pytest.fixture
def with_text(tmp_path: Path) -> Path:
    path = tmp_path / "texts.sqlite"
    opened = Ledger.open(path, keep_text=True)
    opened.record(make_record(1))
    opened.close()
    return path


def test_texts_are_left_out_unless_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], with_text: Path
) -> None:
    page = tmp_path / "page.html"
    assert run(monkeypatch, "-o", str(page), "--ledger", str(with_text)) == 0
    assert "SECRET" not in page.read_text(encoding="utf-8")
    assert data_in(page)["text"] == "left out"
    assert "prompts" not in capsys.readouterr().err
    assert run(monkeypatch, "-o", str(page), "--ledger", str(with_text), "--text") == 0
    assert "SECRET QUESTION" in page.read_text(encoding="utf-8")
    assert data_in(page)["text"] == "included"
    assert "with prompts and answers" in capsys.readouterr().err


def test_texts_that_nobody_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger: Path) -> None:
    assert run(monkeypatch, "-o", str(tmp_path / "page.html"), "--ledger", str(ledger), "--text") == 0
    assert data_in(tmp_path / "page.html")["text"] == "not kept"


def test_a_pipe_is_written_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    assert run(monkeypatch, "-o", str(pipe), "--ledger", str(ledger)) == 0
    reader.join(30)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert read[0].startswith(b"<!doctype html>")


def test_a_link_is_followed_and_a_device_stays_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger: Path
) -> None:
    target, link = tmp_path / "target.html", tmp_path / "link.html"
    link.symlink_to(target)
    for _ in range(2):  # dangling, then not
        assert run(monkeypatch, "-o", str(link), "--ledger", str(ledger)) == 0
        assert link.is_symlink()
        assert data_in(target)["count"] == 30
    before = os.stat("/dev/null")
    assert run(monkeypatch, "-o", "/dev/null", "--ledger", str(ledger)) == 0
    assert os.stat("/dev/null").st_ino == before.st_ino
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".html", ".html", ".sqlite"]


def test_the_page_on_stdout(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], ledger: Path
) -> None:
    assert run(monkeypatch, "-o", "-", "--ledger", str(ledger)) == 0
    out, err = capfdbinary.readouterr()
    assert out.startswith(b"<!doctype html>")
    assert b"stdout: 30 calls" in err


def test_damaged_rows_are_left_out_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ledger: Path
) -> None:
    with sqlite3.connect(ledger) as connection:
        connection.execute("update calls set metadata = '{' where id in (3, 4)")
    connection.close()
    assert run(monkeypatch, "-o", str(tmp_path / "page.html"), "--ledger", str(ledger)) == 0
    data = data_in(tmp_path / "page.html")
    assert (data["count"], data["skipped"]) == (28, 2)
    assert "2 damaged rows were skipped" in capsys.readouterr().err


def test_what_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--since", "yesterday-ish") == 2
    assert run(monkeypatch, "-o", str(tmp_path / "no" / "page.html"), "--ledger", str(tmp_path / "l.sqlite")) == 1
    assert "cannot write the report" in capsys.readouterr().err
    assert run(monkeypatch, "--frontier", str(tmp_path / "none.json")) == 2
    assert not (tmp_path / "l.sqlite").exists()
