"""Accuracy against budget: which budgets are made of what auto thinks, and what the points hold."""

from __future__ import annotations

import dataclasses
import json

import pytest

from dami_agent.evaluation import budget_curve as curve
from dami_agent.evaluation.agents import DAMI, Mode, ModeResult, StepRow, TaskRun, run_mode
from dami_agent.evaluation.task_set import TaskSet
from dami_agent.policy.registry import read_policy

STEP = StepRow(
    task=0, step=1, tool=None, digested=(), called=(), intensity=0.5, reason="", prompt_tokens=1,
    reasoning_tokens=9, answer_tokens=1, seconds=0.0,
)  # fmt: skip


def free(*runs: dict[str, int]) -> ModeResult:
    """Runs whose steps thought so many tokens for each tool."""
    made = [
        TaskRun(
            task=number,
            steps=[dataclasses.replace(STEP, charged_to=name, thought_tokens=tokens) for name, tokens in run.items()],
        )
        for number, run in enumerate(runs)
    ]
    return ModeResult(mode=DAMI, runs=tuple(made), seconds=1.0)


def test_a_runs_budget_is_a_share_of_what_a_run_thinks() -> None:
    result = free({"a": 100, "answer": 20}, {"a": 40}, {})
    assert curve.budget("run", 0.5, result) == {"run": {"max_reasoning_tokens": 27}}  # of 160 / 3
    assert curve.budget("run", 0.001, result) == {"run": {"max_reasoning_tokens": 1}}


def test_a_tools_budget_is_a_share_of_what_it_thinks_where_it_is_used() -> None:
    result = free({"a": 100, "answer": 20}, {"a": 40, "b": 10}, {})
    assert curve.budget("tool", 0.5, result) == {
        "tools": {"a": {"run_max_reasoning_tokens": 35}, "b": {"run_max_reasoning_tokens": 5}}
    }


@pytest.mark.parametrize("scope", curve.SCOPES)
@pytest.mark.parametrize("share", curve.SHARES)
def test_every_budget_is_a_policy(scope: curve.Scope, share: float) -> None:
    result = free({"get_price": 100, "answer": 20}, {"boss_of": 40})
    for arm in curve.ARMS:
        made = curve.make_mode(arm, scope, share, result)
        assert made.intensity == arm.intensity
        if arm.intensity is None:
            assert made.policy is not None
            assert made.policy == read_policy(made.policy)
            assert (made.policy.run.max_reasoning_tokens is not None) == (scope == "run")
        else:
            assert isinstance(made.caps, curve.Forced)
            assert (made.caps.whole is not None) == (scope == "run")
            assert set(made.caps.tools) == ({"get_price", "boss_of"} if scope == "tool" else set())


def test_there_are_enough_points_from_generous_to_starving() -> None:
    assert len(curve.SHARES) >= 6
    assert max(curve.SHARES) > 1 > min(curve.SHARES)
    assert curve.HALF in curve.SHARES


def test_what_half_the_tokens_cost_is_read_between_the_budgets_around_the_half() -> None:
    def point(scope: str, used: float, solved: int) -> dict[str, object]:
        return {"scope": scope, "arms": {"auto": {"thought_per_task": used, "solved": solved}}}

    found = {
        "tasks": 200,
        "auto": {"thought_per_task": 100.0, "solved": 180},
        "points": [point("run", 40, 150), point("run", 60, 170), point("run", 5, 90), point("tool", 80, 170)],
    }
    assert curve.lost_at_half(found, "run") == pytest.approx(-10)  # 160 at half of the tokens
    assert curve.lost_at_half(found, "tool") is None


def test_thoughts_keep_to_a_starving_budget_in_a_real_run() -> None:
    tasks = TaskSet(count=2, seeds=(4,), kinds=("work",))
    found = curve.budget_curve(tasks, shares=(0.5,), scopes=("run",), model={"max_tokens": 96})
    (point,) = json.loads(json.dumps(found))["points"]
    assert set(point["arms"]) == {"auto", "thinking", "lambda=0.5"}
    assert (point["scope"], point["share"]) == ("run", 0.5)
    for arm in point["arms"].values():
        assert arm["thought_per_task"] <= max(point["budget"], 1)


def test_a_forced_thought_ends_where_the_budget_does_and_lambda_stays() -> None:
    tasks = TaskSet(count=3, seeds=(4,), kinds=("hard",)).all
    seen: list[StepRow] = []
    for caps in (curve.Forced(20, {}), curve.Forced(0, {}), curve.Forced(None, {"boss_of": 5, "price_list": 7})):
        mode = Mode(name="forced", intensity=1.0, caps=caps)
        found = run_mode(tasks, mode, seed=4, model={"max_tokens": 160})
        for run in found.runs:
            seen += run.steps
            assert {step.intensity for step in run.steps} == {1.0}
            if caps.whole is not None:
                assert sum(step.thought_tokens for step in run.steps) <= caps.whole
            for tool, most in caps.tools.items():
                assert sum(step.thought_tokens for step in run.steps if tool in step.digested) <= most
    assert any(step.thought_tokens for step in seen)
    assert any(step.capped for step in seen)


def test_the_strictest_of_the_budgets_that_pay_for_a_step_closes_its_thought() -> None:
    digested = {"lookup": 30, "sum": 10}
    steps = [dataclasses.replace(STEP, digested=(tool,), thought_tokens=spent) for tool, spent in digested.items()]
    run = TaskRun(task=0, steps=steps)
    forced = curve.Forced(100, {"lookup": 35, "sum": 50, "other": 1})
    assert forced(run, []) == 60
    assert forced(run, ["sum"]) == 40
    assert forced(run, ["sum", "lookup"]) == 5
    assert forced(run, ["unknown"]) == 60
    assert curve.Forced(None, {})(run, ["lookup"]) is None
    assert curve.Forced(10, {})(run, []) == 0
