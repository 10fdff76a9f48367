"""The policy arm of ``dami bench``: its figures from runs made up, its file, and one small real run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from builtin_pair.acceptance import agent_tables
from dami_agent.cli.bench import _policy
from dami_agent.errors import InvalidPolicy
from dami_agent.evaluation import agents, compare, policy_arm
from dami_agent.evaluation.agents import THINKING, ModeResult, StepRow, TaskRun
from dami_agent.evaluation.policy_arm import (
    SHIPPED,
    against_auto,
    against_thinking,
    describe_against_auto,
    policy_mode,
)
from dami_agent.evaluation.task_set import TaskSet
from dami_agent.policy import ReasoningPolicy
from dami_agent.tasks import AgentTask, agent_tasks
from dami_agent.tasks.catalogue import CATALOGUE
from dami_agent.tasks.records import NOUNS

MODE = policy_mode({"name": "p"})
TOOLS = ("answer", "get_price", "boss_of")


def row(reasoning: int, answer: int, charged_to: str) -> StepRow:
    return StepRow(
        task=0, step=1, tool=None, digested=(), called=(), intensity=0.5, reason="", prompt_tokens=1,
        reasoning_tokens=reasoning, answer_tokens=answer, seconds=0.0, charged_to=charged_to,
    )  # fmt: skip


def outcome(mode: agents.Mode, solved: list[bool], steps: list[list[StepRow]]) -> ModeResult:
    runs = [TaskRun(task=i, solved=s, steps=own) for i, (s, own) in enumerate(zip(solved, steps, strict=True))]
    return ModeResult(mode=mode, runs=tuple(runs), seconds=1.0)


def drawn(rng: Random, most: int, chance: float, tasks: int = 60) -> tuple[list[bool], list[list[StepRow]]]:
    steps = [
        [row(rng.randint(0, most), rng.randint(1, 9), rng.choice(TOOLS)) for _ in range(rng.randint(1, 4))]
        for _ in range(tasks)
    ]
    return [rng.random() < chance for _ in range(tasks)], steps


@pytest.mark.parametrize("seed", range(3))
def test_figures_are_the_plain_sums_and_lie_in_their_intervals(seed: int) -> None:
    rng = Random(seed)
    own, other = drawn(rng, 30, 0.8), drawn(rng, 90, 0.7)
    found = against_thinking(outcome(MODE, *own), outcome(THINKING, *other), seed=seed)

    def total(steps: list[list[StepRow]], tool: str | None = None) -> int:
        return sum(s.reasoning_tokens for run in steps for s in run if tool in (None, s.charged_to))

    saved = 1 - total(own[1]) / total(other[1])
    difference = (sum(own[0]) - sum(other[0])) / 60
    assert found["reasoning_saved"] == pytest.approx(saved, abs=1e-4)
    assert found["solved_difference"] == pytest.approx(difference, abs=1e-4)
    assert found["reasoning_tokens"] == {"policy": total(own[1]), "thinking": total(other[1])}
    assert found["by_tool"] == {t: {"policy": total(own[1], t), "thinking": total(other[1], t)} for t in TOOLS}
    assert found["saves_enough"] == (saved >= 0.5)
    assert found["success_not_below"] == (difference >= 0)
    for name in ("reasoning_saved", "tokens_saved", "solved_difference"):
        low, high = found[f"{name}_ci"]
        assert low < found[name] < high


def test_the_interval_is_paired() -> None:
    """Two arms that do the same on every task differ by nothing, however unlike the tasks are."""
    solved, steps = drawn(Random(5), 500, 0.5)
    found = against_thinking(outcome(MODE, solved, steps), outcome(THINKING, solved, steps))
    assert found["solved_difference_ci"] == found["reasoning_saved_ci"] == [0, 0]
    assert (found["saves_enough"], found["success_not_below"]) == (False, True)
    worse = [False, *solved[1:]]
    solved[0] = True
    assert not against_thinking(outcome(MODE, worse, steps), outcome(THINKING, solved, steps))["success_not_below"]


def test_where_thinking_wrote_no_thought_nothing_is_claimed() -> None:
    steps = [[row(0, 4, "answer")]]
    found = against_thinking(outcome(MODE, [True], steps), outcome(THINKING, [True], steps))
    assert found["reasoning_saved"] is None
    assert found["reasoning_saved_ci"] is None
    assert not found["saves_enough"]


def steps_of(*lambdas: float, **changes: Any) -> list[StepRow]:
    return [dataclasses.replace(row(10, 10, "answer"), intensity=value, **changes) for value in lambdas]


def test_steps_that_rules_and_budgets_changed_are_counted_against_auto() -> None:
    auto = [steps_of(0.5, 0.5, 0.0), steps_of(1.0), steps_of(0.5, 0.5, 0.5)]
    own = [steps_of(0.5, 0.0, 0.0, rule="r"), [*steps_of(1.0, capped=True), *steps_of(0.0)], steps_of(0.0, capped=True)]
    found = against_auto(outcome(MODE, [True] * 3, own), outcome(agents.DAMI, [True] * 3, auto))
    counts = {name: found[name] for name in ("steps", "ruled", "lambda_changed", "capped", "changed")}
    assert counts == {"steps": 6, "ruled": 3, "lambda_changed": 2, "capped": 2, "changed": 3}
    assert (found["tokens_saved"], found["reasoning_saved"]) == (round(1 / 7, 4), round(1 / 7, 4))
    told = describe_against_auto(found)
    assert (
        "changed λ or a cap in 3 of 6 steps (λ in 2, a cap that bound in 2); tokens against `auto`: −14 % (95" in told
    )


def test_budgets_that_changed_nothing_claim_nothing() -> None:
    steps = [steps_of(0.5, 0.0, rule="r"), steps_of(1.0)]
    found = against_auto(outcome(MODE, [True] * 2, steps), outcome(agents.DAMI, [True] * 2, steps))
    assert (found["changed"], found["tokens_saved"]) == (0, 0)
    told = describe_against_auto(found)
    assert "changed neither λ nor a cap in any of the 3 steps (rules decided 2 of them)" in told
    assert "saves is what `auto` saves" in told


@pytest.mark.slow
def test_what_a_cap_does_stands_in_the_row_of_a_real_step() -> None:
    tasks = agent_tasks("test", 1, seed=4)
    capped, free = (
        agents.run_mode(tasks, policy_mode({"name": "p", "default": {"intensity": 1} | cap}), model={"max_tokens": 96})
        for cap in ({"max_reasoning_tokens": 3}, {})
    )
    assert all(step.capped for run in capped.runs for step in run.steps)
    assert not any(step.capped for run in free.runs for step in run.steps)


def test_the_published_table_shows_the_arm() -> None:
    rng = Random(2)
    arms = {"dami": (MODE, 30), "thinking": (THINKING, 90), "policy": (MODE, 20)}
    runs = {name: outcome(mode, *drawn(rng, most, 0.8)) for name, (mode, most) in arms.items()}
    found = against_thinking(runs["policy"], runs["thinking"])
    found["against_auto"] = against_auto(runs["policy"], runs["dami"])
    told = compare.difference(runs["policy"].runs, runs["thinking"].runs)
    modes = {
        name: arm.totals() | {"solved_ci": 1.0, "against_thinking": told, "empty": 0, "errors": {}}
        for name, arm in runs.items()
    }
    text = agent_tables.agents({"modes": modes, "tasks": 60, "seeds": [2], "policy": found})
    assert f" {describe_against_auto(found['against_auto'])} Of all 180 runs" in text
    (line,) = [each for each in text.splitlines() if "budgets per tool**" in each]
    assert line.endswith(f"| {runs['policy'].output_tokens:,} | {told['tokens']:.0%} |")
    assert len({each.count("|") for each in text.splitlines() if each.startswith("|")}) == 1


def test_the_shipped_file_has_a_line_for_every_tool_and_a_budget_for_every_tool_that_thinks() -> None:
    policy = ReasoningPolicy.from_file(SHIPPED)
    assert set(policy.tools) == set(NOUNS)
    for name, tool in policy.tools.items():
        assert tool.intensity is not None, name  # type: ignore[union-attr]
        if tool.intensity != 0:  # type: ignore[union-attr]
            assert tool.max_reasoning_tokens <= tool.run_max_reasoning_tokens, name  # type: ignore[union-attr, operator]
    assert policy.run.max_tokens
    assert Path(policy_arm.__file__).parent == SHIPPED.parent  # inside the package: the wheel has it


def test_a_bad_file_is_refused_before_anything_runs(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("tools:\n  get_price: {intensty: 0}\n")
    with pytest.raises(InvalidPolicy, match=r"mine\.yaml:2: tools\.get_price\.intensty"):
        policy_mode(path)


def test_a_real_run_keeps_to_the_file() -> None:
    tight = {"tools": {name: {"intensity": 1, "run_max_reasoning_tokens": 20} for name in CATALOGUE}}
    tasks = agent_tasks("test", 2, seed=4)
    mode = policy_mode({**tight, "default": {"intensity": [0, 0]}})
    found = agents.run_mode(tasks, mode, concurrency=2, model={"max_tokens": 96})
    assert [run.error for run in found.runs] == [None, None]
    for run in found.runs:
        charged: dict[str, list[StepRow]] = {}
        for step in run.steps:
            charged.setdefault(step.charged_to, []).append(step)
        assert {step.intensity for step in charged.pop("answer")} == {0}
        assert charged
        for steps in charged.values():
            assert sum(step.reasoning_tokens for step in steps) <= 20


def test_tasks_with_something_unseen_are_asked_where_they_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[AgentTask] = []
    run_mode = agents.run_mode

    def spy(tasks: Sequence[AgentTask], *rest: Any, **more: Any) -> agents.ModeResult:
        asked.extend(tasks)
        return run_mode(tasks, *rest, **more)

    monkeypatch.setattr(agents, "run_mode", spy)
    result = compare.compare(TaskSet(count=2, seeds=(4,), kinds=("route",), unseen="template"), controls=False)
    assert result["unseen"] == "template"
    compared = asked
    assert {task.unseen for task in compared} == {("template",)}


def test_the_arm_runs_beside_the_others_on_the_same_tasks() -> None:
    given = {"name": "mine", "default": {"intensity": 0}}
    result = compare.compare(TaskSet(count=1, seeds=(4,), kinds=("route",)), controls=False, policy=given)
    assert {"dami", "instruct", "thinking", "policy"} == set(result["modes"])
    assert result["policy"]["name"] == "mine"
    assert result["modes"]["policy"]["reasoning_tokens"] == 0
    assert result["modes"]["policy"]["output_tokens"] == result["modes"]["instruct"]["output_tokens"]  # λ=0 both
    spent = {name: result["modes"][name]["reasoning_tokens"] for name in ("policy", "thinking")}
    assert result["policy"]["reasoning_tokens"] == spent
    assert result["policy"]["against_auto"]["steps"] == result["modes"]["policy"]["calls"]
    assert "policy mine: 100% (95 %: 100% to 100%) of always-Thinking's reasoning tokens saved (0 of" in _policy(
        result["policy"]
    )
