"""Requests in people's own words count as solved only where all that is expected was done, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builtin_pair.acceptance import freeform
from dami_agent.errors import CheckpointError

CASE = freeform.Case(
    id="x",
    kind="one_call",
    messages=({"role": "user", "content": "?"},),
    tools=(),
    results={},
    calls=({"name": "find", "arguments": {"who": "Ana", "year": 3}},),
    answer="12",
)
CALL: tuple[str, dict[str, Any]] = ("find", {"who": "ana", "year": 3})


@pytest.mark.parametrize(
    ("calls", "reply", "solved"),
    [
        ([CALL], "It is 12.", True),
        ([CALL, CALL], "12", True),
        ([("find", {"who": "the Ana.", "year": 3, "more": None})], "12", True),
        ([], "It is 12.", False),
        ([("find", {"who": "Ben", "year": 3})], "12", False),
        ([CALL, ("find", {"who": "Ben", "year": 3})], "12", False),
        ([CALL, ("other", {})], "12", False),
        ([CALL], "12, no, 13", False),
        ([CALL], "", False),
        ([CALL], " \n", False),
    ],
)
def test_all_calls_and_no_other_and_the_answer(calls: list[Any], reply: str, solved: bool) -> None:
    assert CASE.solved(calls, reply) is solved


@pytest.mark.parametrize(
    ("reply", "answer", "right"),
    [
        ("1,250 in all", "1250", True),
        ("3.5", "5", False),
        ("It costs 14.50.", "50", False),
        ("It costs 14.50.", "14.5", True),
        ("Not Ana. It is Ben.", "Ana", False),
        ("Not Ana. It is Ben.", "ben", True),
        ("the Red Lion", "red lion", True),
        ("Benjamin", "Ben", False),
    ],
)
def test_what_a_reply_ends_with(reply: str, answer: str, right: bool) -> None:
    assert freeform.ends_with(reply, answer) is right


@pytest.mark.parametrize(
    ("reply", "solved"),
    [
        ("I have no tool for that, sorry.", True),
        ("The answer is 42.", False),
        ("The answer is blue.", False),
        ("It is 42.", False),
        ("", False),
    ],
)
def test_where_no_tool_fits_nothing_may_be_claimed(reply: str, solved: bool) -> None:
    assert replace(CASE, kind="no_tool_fits", calls=(), answer=None).solved([], reply) is solved


def test_a_run_that_fails_is_not_solved_and_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    unanswerable = replace(CASE, kind="no_tool_fits", calls=(), answer=None)
    found = freeform.run(unanswerable, 0.0, model={"max_tokens": 3, "context_length": 8})
    assert found.error is not None
    assert not found.solved
    assert freeform.report([found]) | {"by_kind": {}} == {
        "cases": 1,
        "solved": 0,
        "solved_ci": pytest.approx(0.4, abs=0.4),
        "tokens": 0,
        "empty": 0,
        "errors": 1,
        "by_kind": {},
    }


def test_a_pair_that_is_not_there_ends_the_measurement(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        freeform.run(CASE, 0.0, model={"instruct": str(tmp_path / "a"), "thinking": str(tmp_path / "b")})
