from __future__ import annotations

import subprocess
import sys

import pytest

import dami_agent
from dami_agent.tasks import FAMILIES, UNSEEN, Unseen, questions
from dami_agent.tasks.questions import NAMED
from tests.cli.conftest import Dami


def test_version(dami: Dami) -> None:
    assert dami("--version").out.strip() == dami_agent.__version__


def test_help_lists_the_commands(dami: Dami) -> None:
    out = dami("--help").out
    ledger = ("logs", "runs", "explain", "watch", "replay")
    for command in ("demo", "chat", *ledger, "doctor", "sweep", "bench", "pair", "tasks"):
        assert command in out


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys, dami_agent.cli.app\n"
        "print([m for m in ('torch', 'transformers', 'langchain_core', 'sqlalchemy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


@pytest.mark.parametrize("command", ["doctor", "calibrate"])
def test_one_checkpoint_alone_is_a_wrong_command(dami: Dami, command: str) -> None:
    ended = dami(command, "somewhere")
    assert ended.status == 2
    assert "a pair needs both checkpoints" in ended.err


def test_unknown_command(dami: Dami) -> None:
    assert dami("nonsense").status == 2


def test_sampled_tasks_are_the_tasks(dami: Dami) -> None:
    rows = dami("tasks", "sample", "story", "--level", "2", "--count", "4", "--seed", "9", "--json").json
    assert [r["prompt"] for r in rows] == [
        q.prompt for q in questions("test", 4, seed=9, families=("story",), levels=(2,))
    ]
    assert all(r["work"][-1].endswith(f"= {r['answer']}") for r in rows)
    for family in FAMILIES:
        table = dami("tasks", "sample", family, "--level", "3").out
        assert len([line for line in table.splitlines() if line.startswith("    3  ")]) == 5


def test_tasks_that_are_none(dami: Dami) -> None:
    for wrong in (["poems"], ["chain", "--level", "77"], ["chain", "--split", "dev"], ["story", "--unseen", "words"]):
        ended = dami("tasks", "sample", *wrong)
        assert ended.status == 2
        assert "is not one of" in ended.err
    ended = dami("tasks", "sample", "list", "--unseen", "name")
    assert ended.status == 2
    assert "list has no names" in ended.err


@pytest.mark.parametrize("kind", UNSEEN)
@pytest.mark.parametrize("family", FAMILIES)
def test_sampled_tasks_with_something_unseen(dami: Dami, family: str, kind: Unseen) -> None:
    if kind == "name" and family not in NAMED:
        return
    arguments = (family, "--level", "3", "--unseen", kind, "--count", "3", "--json")
    rows = dami("tasks", "sample", *arguments).json
    expected = questions("test", 3, families=(family,), levels=(3,), unseen=kind)
    assert [row["prompt"] for row in rows] == [question.prompt for question in expected]
    assert all(row["unseen"] == [kind] for row in rows)


def test_pair(dami: Dami) -> None:
    found = dami("pair", "--json").json
    assert found["name"]
    assert len(found["fingerprint"]) >= 12
    card = dami("pair").out
    assert card.startswith("# The built-in pair")
    assert "<!--" not in card
