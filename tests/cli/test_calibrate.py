"""`dami calibrate` at its smallest, with the built-in pair: what it says, where it keeps it, and who goes by it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dami_agent import ChatDAMI
from dami_agent.ledger import Ledger
from dami_agent.policy import Frontier
from dami_agent.session import SessionKey, close_session
from tests.cli.conftest import Dami
from tests.ledger.records import make_record

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


def price(item: str) -> str:
    """Get the price of an item."""
    return "7"


def test_recorded_steps_are_held_to_what_thinking_agrees_on(dami: Dami, home: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.sqlite"
    with_text = Ledger.open(mine, keep_text=True)
    model = ChatDAMI(reasoning_intensity=0.0, ledger=with_text, max_tokens=60)
    for number in range(4):
        model.invoke(f"What is {number} + 4?")
    model.bind_tools([price]).invoke("What does a lamp cost?")
    with_text.close()
    few = ("--ledger", str(mine), "--votes", "3", "--lambdas", "0,1", "--max-tokens", "400")
    said = dami("calibrate", *few, "--json").json
    counts = said["majority"]
    assert (counts["votes"], counts["steps"], counts["changed"], counts["unasked"]) == (3, 5, 0, 0)
    assert said["questions"] == 5 - counts["without"] > 0
    assert said["source"].startswith("agreement with the majority of 3 replies of Thinking on ")
    assert "mine.sqlite, not with known answers" in said["source"]
    kept = json.loads((home / "dami-agent" / "frontiers" / f"{said['fingerprint']}.json").read_text())
    assert kept["source"] == said["source"]
    assert all(name.startswith("recorded ") for name in said["rows"][0]["cells"]["kind"])
    answers = {file: file.read_text() for file in (home / "dami-agent" / "calibrations").iterdir()}
    assert len(answers) == 2  # the votes, and the replies that are graded
    ended = dami("calibrate", *few, "-o", str(tmp_path / "frontier.json"))
    assert {file: file.read_text() for file in answers} == answers  # nothing was decoded again
    assert f"accuracy is {said['source']}" in ended.out
    assert f"{counts['without']} of 5 steps without a majority are left out" in ended.out
    assert len(Ledger.open(mine).rows()) == 5  # what is measured is no call of the user's


def test_a_ledger_that_is_of_no_use_is_refused_before_anything_is_decoded(
    dami: Dami, home: Path, tmp_path: Path
) -> None:
    for name, keep_text in (("bare", False), ("strange", True)):
        ledger = Ledger.open(tmp_path / name, keep_text=keep_text)
        ledger.record(make_record(1))
        ledger.close()
    (tmp_path / "text").write_text("no database, and longer than the header of one, so that it is read as such" * 9)
    for name, words in (
        ("gone", "there is no ledger at"),
        ("bare", "none of the 1 calls on record has a text"),
        ("strange", "no step on record was decoded by this pair"),
        ("text", "cannot"),
    ):
        ended = dami("calibrate", "--ledger", str(tmp_path / name))
        assert ended.status != 0
        assert words in ended.err
        assert "Traceback" not in ended.err
    assert not (home / "dami-agent" / "calibrations").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--ledger", "x", "--questions", "x.jsonl"), "--ledger brings recorded steps"),
        (("--ledger", "x", "--tasks", "builtin"), "--ledger brings recorded steps"),
        (("--ledger", "x", "--temperature", "0"), "all of Thinking's replies to a step are the same"),
        (("--votes", "5"), "--votes is of --ledger"),
        (("one",), "a pair needs both checkpoints"),
        (("--revision", "main"), "--revision is of checkpoints on the hub"),
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
