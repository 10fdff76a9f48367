"""`dami tasks sample` of agent tasks: what is shown is the task, its tools, and the reference solution turn by turn."""

from __future__ import annotations

import json

import pytest

from dami_agent.cli.tasks import KINDS
from dami_agent.tasks import UNSEEN, AgentTask, Operation, PlannedCall, Split, Unseen, agent_tasks
from dami_agent.tasks.agent import Kind
from tests.cli.conftest import Dami


@pytest.mark.parametrize("split", ["train", "calibration", "test"])
@pytest.mark.parametrize("kind", KINDS)
def test_sampled_agent_tasks_are_the_tasks(dami: Dami, kind: Kind, split: Split) -> None:
    rows = dami("tasks", "sample", kind, "--count", "6", "--seed", "9", "--split", split, "--json").json
    expected = agent_tasks(split, 6, seed=9, kinds=(kind,))
    assert len(rows) == len(expected)
    for row, task in zip(rows, expected, strict=True):
        assert row == {
            "kind": kind,
            "name": task.name,
            "prompt": task.prompt,
            "tools": [json.loads(json.dumps(tool.spec.to_openai()["function"])) for tool in task.tools],
            "turns": [[call_data(call) for call in calls] for calls in task.rounds],
            "work": [step.line for step in task.work],
            "answers": list(task.answers),
            "reply": task.reply,
            "unseen": [],
        }


def call_data(call: PlannedCall) -> dict[str, object]:
    work = [step.line for step in call.work]
    return {"name": call.name, "arguments": dict(call.arguments), "result": call.result, "work": work}


@pytest.mark.parametrize("kind", KINDS)
def test_a_solution_is_shown_in_the_order_in_which_it_is_made(dami: Dami, kind: Kind) -> None:
    out = dami("tasks", "sample", kind, "--count", "12", "--seed", "4").out
    place = 0
    for task in agent_tasks("test", 12, seed=4, kinds=(kind,)):
        place = out.index(task.prompt.split(". ")[0][:80], place)
        wanted = [text for tool in task.tools for text in (f"{tool.spec.name}: ", tool.spec.description.split("\n")[0])]
        for turn, calls in enumerate(task.rounds, 1):
            wanted += [f"turn {turn} ", *(step.line for call in calls for step in call.work)]
            for call in calls:
                wanted += [f"{call.name}(", *(f"{name}=" for name in call.arguments), f") → {call.result}"]
        for text in (*wanted, "answer ", *(step.line for step in task.work), *task.answers):
            place = out.index(text, place)


def a_task() -> AgentTask:
    """One with all there is to show; its tools need not exist to be shown."""
    plan = (
        PlannedCall("get_price", {"item": "[b]lamp[/b]"}, "12"),
        PlannedCall("get_price", {"item": "chair"}, "7", together=True),
        PlannedCall("postage", {"weight": 19}, "5", (Operation(12, "+", 7),)),
    )
    return AgentTask("work", "made", "How much?", (), plan, ("10",), (Operation(5, "*", 2),))


def test_calls_made_together_share_a_line_and_work_stands_before(dami: Dami, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dami_agent.cli.tasks.agent_tasks", lambda *_, **__: [a_task(), a_task()])
    shown = [line.rstrip() for line in dami("tasks", "sample", "work").out.splitlines()]
    once = [
        "made    How much?",
        'turn 1  get_price(item="[b]lamp[/b]") → 12; get_price(item="chair") → 7',
        "turn 2  12 + 7 = 19",
        "        postage(weight=19) → 5",
        "answer  5 * 2 = 10",
        "        10",
    ]
    assert shown == [*once, "", *once]


@pytest.mark.parametrize("unseen", UNSEEN)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "novel"])
def test_sampled_agent_tasks_with_something_unseen(dami: Dami, kind: Kind, unseen: Unseen) -> None:
    rows = dami("tasks", "sample", kind, "--unseen", unseen, "--count", "3", "--json").json
    assert [row["prompt"] for row in rows] == [
        task.prompt for task in agent_tasks("test", 3, kinds=(kind,), unseen=unseen)
    ]
    assert all(row["unseen"] == [unseen] for row in rows)


@pytest.mark.parametrize("unseen", UNSEEN)
def test_novel_has_nothing_unseen_apart(dami: Dami, unseen: Unseen) -> None:
    ended = dami("tasks", "sample", "novel", "--unseen", unseen)
    assert (ended.status, ended.out) == (2, "")
    assert f"novel has no separate tasks with an unseen {unseen}" in ended.err
    assert "hint: leave out --unseen" in ended.err


@pytest.mark.parametrize("kind", KINDS)
def test_agent_tasks_have_no_levels(dami: Dami, kind: Kind) -> None:
    for level in ("3", "77"):
        ended = dami("tasks", "sample", kind, "--level", level)
        assert (ended.status, ended.out) == (2, "")
        assert f"{kind} has no levels" in ended.err
        assert "hint: leave out --level" in ended.err


def test_agent_tasks_refuse_what_questions_refuse(dami: Dami) -> None:
    for wrong in (["work", "--split", "dev"], ["route", "--unseen", "words"], ["novel", "--unseen", "words"]):
        ended = dami("tasks", "sample", *wrong)
        assert ended.status == 2
        assert "is not one of" in ended.err


def test_help_names_every_kind(dami: Dami) -> None:
    out = dami("tasks", "sample", "--help").out
    assert all(kind in out for kind in KINDS)
