"""`dami calibrate` at its smallest, with the built-in pair: what it says, where it keeps it, and who goes by it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dami_agent import ChatDAMI
from dami_agent.policy import Frontier
from dami_agent.session import SessionKey, close_session
from tests.cli.conftest import Dami

FEW = ("--lambdas", "0,1", "--max-tokens", "24")


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "mine.jsonl"
    lines = [{"question": f"What is {a} + {b}?", "answer": a + b} for a in range(2, 6) for b in range(3, 6)]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data"


def test_a_model_goes_by_what_was_found(dami: Dami, questions: Path, home: Path) -> None:
    said = dami("calibrate", "--questions", str(questions), *FEW, "--json").json
    assert (said["questions"], said["of"], said["asked"]) == (12, 12, "mine.jsonl")
    assert [row["lambda"] for row in said["rows"]] == [0, 1]
    file = home / "dami-agent" / "frontiers" / f"{said['fingerprint']}.json"
    assert said["file"] == str(file)
    assert json.loads(file.read_text())["rows"] == said["rows"]
    assert (said["heads"], said["without_heads"]) == (None, "fewer than 100 prompts of a kind were asked")
    close_session(SessionKey())
    assert ChatDAMI().pipeline().policy.frontier == Frontier.from_file(file)
    close_session(SessionKey())  # the next test's frontier is the pair's own again


def test_for_people_with_a_picture(dami: Dami, questions: Path, home: Path, tmp_path: Path) -> None:
    file, picture = tmp_path / "own" / "frontier.json", tmp_path / "picture.svg"
    ended = dami("calibrate", "--questions", str(questions), *FEW, "-o", str(file), "--plot", str(picture))
    assert ended.status == 0, ended.err
    for words in ("of Thinking's accuracy", "12 of 12 prompts asked", "no heads were trained: fewer than 100 prompts"):
        assert words in ended.out
    assert f"kept in {file}" in ended.out
    assert "every model of this pair" not in ended.out
    assert Frontier.from_file(file).grid[-1] == 1
    assert not (home / "dami-agent" / "frontiers").exists()
    assert "λ=1" in picture.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("one",), "name both checkpoints"),
        (("--questions", "x.jsonl", "--count", "9"), "--questions brings your own"),
        (("--questions", "gone.jsonl"), "cannot read gone.jsonl"),
        (("--tasks", "arithmetic"), "reasoning-gym:gsm_symbolic"),
        (("--tasks", "reasoning-gym:"), "reasoning-gym:gsm_symbolic"),
        (("--budget", "soon"), "90s, 60m or 2h"),
        (("--budget", "0m"), "90s, 60m or 2h"),
        (("--lambdas", "0,2"), "in [0, 1]"),
        (("-o", "/"), "cannot write /"),
        (("--plot", "picture.txt"), "cannot draw"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_asked(
    dami: Dami, home: Path, arguments: tuple[str, ...], words: str
) -> None:
    ended = dami("calibrate", *arguments)
    assert ended.status == 2
    assert words in ended.err
    assert not (home / "dami-agent").exists()
