"""Agent benchmarks: what a step costs, the controls, differences with intervals, a small run of the built-in pair."""

import dataclasses
import json
import random
import sys
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import ToolMessage

from dami_agent.errors import UsageError
from dami_agent.evaluation import agents, assigned, compare
from dami_agent.evaluation.agent_runner import AgentRunner
from dami_agent.evaluation.agents import DAMI, INSTRUCT, THINKING, Mode, ModeResult, StepRow, TaskRun
from dami_agent.evaluation.demo import Demo
from dami_agent.evaluation.runner import stream_seed
from dami_agent.evaluation.task_set import TaskSet
from dami_agent.ledger import Ledger
from dami_agent.tasks import agent_tasks
from dami_agent.types import (
    CallRecord,
    Decision,
    Estimate,
    Generation,
    Intensity,
    Message,
    Prompt,
    Reply,
    Sampling,
    Step,
    TokenEvent,
    ToolCall,
)


def generation(parts: str, intensity: float) -> Generation:
    """One token for each letter: r(easoning), c(ontrol), a(nswer)."""
    names = {"r": "reasoning", "c": "control", "a": "answer"}
    events = tuple(TokenEvent(token_id=5, part=names[p]) for p in parts)  # type: ignore[arg-type]
    return Generation(events=events, finish_reason="stop", intensity=Intensity(intensity), sampling=Sampling())


def record(probe: str | None, answer: str, *, continued: bool = False, reused: bool = False) -> CallRecord:
    prompt = Prompt(token_ids=(1, 2, 3), template="instruct", reply_ids=(5,) if continued else ())
    written = generation(answer, 0.0 if continued or reused else 0.7)
    probed = written if reused else generation(probe, 0.0) if probe is not None else None
    estimate = Estimate(
        estimator="confidence",
        intensity=written.intensity,
        probe=probed,
        probe_prompt=prompt,
        tokens=probed.output_tokens if probed else 0,
    )
    call = ToolCall(id="a", name="get_price", arguments={})
    messages = (
        Message(role="user", content="?"),
        Message(role="assistant", tool_calls=(call,)),
        Message(role="tool", content="3", tool_call_id="a"),
    )
    return CallRecord(
        step=Step(messages=messages),
        decision=Decision(intensity=written.intensity, template="instruct", reason="why", estimate=estimate),
        generation=written,
        reply=Reply(content="x"),
        model="m",
        started_at=0.0,
        seconds=1.5,
        prompt=prompt,
    )


def test_a_probe_thrown_away_is_counted_and_one_that_was_used_is_counted_once() -> None:
    thrown = agents.step_row(record("aaaa", "rrcaa"), 0, 1)
    assert (thrown.reasoning_tokens, thrown.answer_tokens, thrown.output_tokens) == (
        4 + 2,
        3,
        9,
    )  # a marker is not thought
    assert agents.step_row(record("aaaa", "aaaaaa", continued=True), 0, 1).output_tokens == 6
    assert agents.step_row(record(None, "aaa", reused=True), 0, 1).output_tokens == 3
    assert agents.step_row(record(None, "raa"), 0, 1).output_tokens == 3
    assert (thrown.tool, thrown.digested, thrown.called) == ("get_price", ("get_price",), ())


def test_a_failed_call_keeps_its_cost_and_its_error() -> None:
    failed = dataclasses.replace(record("aa", "rr"), reply=None, error="RunError: gone")
    row = agents.step_row(failed, 3, 2)
    assert (row.task, row.step, row.output_tokens, row.error) == (3, 2, 4, "RunError: gone")


@given(st.lists(st.lists(st.sampled_from([0.0, 0.3, 0.8, 1.0]), max_size=6), max_size=20), st.integers(0, 99))
def test_shuffled_keeps_the_lambdas_and_every_task_its_number_of_steps(lambdas: list[list[float]], seed: int) -> None:
    out = assigned.shuffled(lambdas, seed)
    kept = [steps for steps, own in zip(out, lambdas, strict=True) if own]
    assert [len(steps) for steps in kept] == [len(own) for own in lambdas if own]
    assert Counter(v for steps in kept for v in steps) == Counter(v for own in lambdas for v in own)
    assert out == assigned.shuffled(lambdas, seed)


def test_shuffled_really_moves_them() -> None:
    lambdas = [[i / 100, i / 100] for i in range(100)]
    out = assigned.shuffled(lambdas, 1)
    assert sum(list(a) == b for a, b in zip(out, lambdas, strict=True)) < 5
    assert out != assigned.shuffled(lambdas, 2)


def test_assigned_lambdas_come_in_turn_and_the_last_again() -> None:
    estimator = assigned.AssignedEstimator((0.2, 1.0))
    prompt, decision = Prompt(token_ids=(1,), template="instruct"), record(None, "a").decision
    given = [estimator.estimate(prompt, decision, None) for _ in range(3)]  # type: ignore[arg-type]
    assert [(float(e.intensity), e.tokens) for e in given] == [(0.2, 0), (1.0, 0), (1.0, 0)]


def runs(solved: list[bool], tokens: list[int]) -> list[TaskRun]:
    step = StepRow(
        task=0, step=1, tool=None, digested=(), called=(), intensity=0.5, reason="", prompt_tokens=1,
        reasoning_tokens=0, answer_tokens=0, seconds=0.0,
    )  # fmt: skip
    return [
        TaskRun(task=i, solved=s, steps=[dataclasses.replace(step, task=i, answer_tokens=t)])
        for i, (s, t) in enumerate(zip(solved, tokens, strict=True))
    ]


@given(st.lists(st.lists(st.sampled_from([0.0, 0.3, 1.0]), max_size=6), min_size=1, max_size=20), st.integers(0, 99))
def test_redrawn_gives_every_task_as_many_lambdas_of_the_same_pool(lambdas: list[list[float]], seed: int) -> None:
    out = assigned.redrawn(lambdas, seed, 7)
    assert [len(steps) for steps in out] == [7] * len(lambdas)
    assert {value for steps in out for value in steps} <= ({value for own in lambdas for value in own} or {0.0})
    assert out == assigned.redrawn(lambdas, seed, 7)


def test_redrawn_keeps_the_shares_of_the_histogram() -> None:
    out = assigned.redrawn([[0.0, 0.0, 0.0, 1.0]] * 1000, 3, 4)
    assert sum(value for steps in out for value in steps) / 4000 == pytest.approx(0.25, abs=0.03)


def test_the_router_knows_only_the_two_ends() -> None:
    prompt, decision = Prompt(token_ids=(1,), template="instruct"), record(None, "a").decision
    for asked, wanted in ((0.0, 0.0), (0.1, 1.0), (0.6, 1.0), (1.0, 1.0)):
        router = assigned.TwoWayRouter(assigned.AssignedEstimator((asked,)))
        assert float(router.estimate(prompt, decision, None).intensity) == wanted  # type: ignore[arg-type]


def test_differences_are_the_plain_ones_and_lie_in_their_intervals() -> None:
    rng = random.Random(8)
    for _ in range(2):
        thinking = [rng.random() < 0.9 for _ in range(80)]
        dami = [s if rng.random() < 0.8 else rng.random() < 0.5 for s in thinking]
        cost = [[rng.randint(1, 50 * k) for _ in range(80)] for k in (2, 3)]
        found = compare.difference(runs(dami, cost[0]), runs(thinking, cost[1]))
        assert found["solved"] == pytest.approx((sum(dami) - sum(thinking)) / 80, abs=1e-4)
        assert found["tokens"] == pytest.approx(sum(cost[0]) / sum(cost[1]), abs=1e-4)
        for name in ("solved", "tokens"):
            low, high = found[f"{name}_ci"]
            assert low <= found[name] <= high
            assert 0 < high - low < 1


def test_no_tokens_no_ratio() -> None:
    nothing = runs([True, False], [0, 0])
    assert compare.difference(nothing, nothing)["tokens"] is None


def test_a_cap_brings_thinking_to_the_tokens_that_it_is_given() -> None:
    made = runs([True] * 3, [5, 5, 5])
    for run, thought in zip(made, (10, 40, 100), strict=True):
        run.steps[0] = dataclasses.replace(run.steps[0], reasoning_tokens=thought)
    thinking = ModeResult(mode=THINKING, runs=tuple(made), seconds=1.0)
    for tokens, cap in ((165, 100), (164, 99), (105, 40), (104, 39), (45, 10), (15, 1), (3, 1)):
        assert compare.cap_for(thinking, tokens) == cap


def test_tasks_of_all_seeds_are_numbered_through_and_shared_out_evenly() -> None:
    tasks = TaskSet(count=8, seeds=(0, 1, 2), kinds=("route",))
    assert [len(tasks.of(seed)) for seed in tasks.seeds] == [3, 3, 2]
    assert [tasks.first(seed) for seed in tasks.seeds] == [0, 3, 6]
    assert [task.prompt for task in tasks.all] == [task.prompt for seed in tasks.seeds for task in tasks.of(seed)]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langchain.agents", None)
    with pytest.raises(UsageError, match=r"\[agents\]") as caught:
        agents.run_mode([], DAMI)
    assert 'pip install "dami-agent[agents]"' in str(caught.value)


# ---- the built-in pair, for real -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[ModeResult, ...], Ledger]:
    ledger = Ledger.open(tmp_path_factory.mktemp("ledger") / "calls.db")
    tasks = agent_tasks("test", 2, seed=4)
    outcomes = [
        agents.run_mode(tasks, mode, concurrency=2, ledger=ledger, model={"max_tokens": 96})
        for mode in (DAMI, INSTRUCT, THINKING)
    ]
    return tuple(outcomes), ledger


def test_the_demo_object_has_exactly_the_documented_shape(real: tuple[tuple[ModeResult, ...], Ledger]) -> None:
    tasks = tuple(agent_tasks("test", 2, seed=4))
    data = json.loads(json.dumps(Demo(tasks=tasks, outcomes=real[0]).to_dict()))
    assert set(data) == {"steps", "totals"}
    assert list(data["totals"]) == ["dami", "instruct", "thinking"]
    for total in data["totals"].values():
        assert set(total) == {"solved", "tasks", "output_tokens", "seconds"}
        assert total["tasks"] == 2
    keys = {
        "task",
        "step",
        "tool",
        "depth",
        "lambda",
        "reason",
        "prompt_tokens",
        "reasoning_tokens",
        "answer_tokens",
        "seconds",
    }
    assert {step["task"] for step in data["steps"]} == {1, 2}
    for step in data["steps"]:
        assert set(step) == keys
        assert 0 <= step["lambda"] <= 1
        assert step["reason"]
    spent = sum(step["reasoning_tokens"] + step["answer_tokens"] for step in data["steps"])
    assert spent == data["totals"]["dami"]["output_tokens"] > 0


def test_totals_are_what_the_ledger_says_probes_included(real: tuple[tuple[ModeResult, ...], Ledger]) -> None:
    outcomes, ledger = real
    rows = ledger.rows()
    assert len(rows) == sum(len(run.steps) for outcome in outcomes for run in outcome.runs)
    assert sum(row.output_tokens for row in rows) == sum(outcome.output_tokens for outcome in outcomes)
    assert all(row.output_tokens == row.probe_tokens + row.reasoning_tokens + row.answer_tokens for row in rows)
    for outcome, wanted in ((outcomes[1], 0.0), (outcomes[2], 1.0)):
        assert {step.intensity for run in outcome.runs for step in run.steps} == {wanted}
    assert "estimate" in " ".join(step.reason for run in outcomes[0].runs for step in run.steps)


def test_equal_seeds_give_equal_runs(real: tuple[tuple[ModeResult, ...], Ledger]) -> None:
    again = agents.run_mode(agent_tasks("test", 2, seed=4), INSTRUCT, concurrency=2, model={"max_tokens": 96})
    assert [(r.answer, r.solved, r.output_tokens) for r in again.runs] == [
        (r.answer, r.solved, r.output_tokens) for r in real[0][1].runs
    ]


def test_a_run_that_raises_is_unsolved_with_its_error() -> None:
    outcome = agents.run_mode(agent_tasks("test", 1), INSTRUCT, model={"context_length": 8, "max_tokens": 4})
    assert outcome.solved == 0
    assert "ContextOverflow" in (outcome.runs[0].error or "")


def test_seeds_run_one_after_the_other_and_find_what_was_assigned_to_them() -> None:
    tasks = TaskSet(count=2, seeds=(3, 4), kinds=("route",))
    lambdas = ((0.0,), (0.2,))
    mode = agents.Mode(name="given", intensity="auto", estimator=compare.Assign(lambdas))
    with AgentRunner(tasks, concurrency=2, model={"max_tokens": 24}) as runner:
        (found,) = runner.run([mode]).values()
    assert [run.task for run in found.runs] == [0, 1]
    assert [{step.intensity for step in run.steps} for run in found.runs] == [{0.0}, {0.2}]
    assert [step.depth for step in found.runs[0].steps][:1] == [runner.asked[0].depths[0]]


@pytest.mark.parametrize(
    ("outcomes", "begun", "answer"),
    [
        ([("12", None, False)], 1, "12"),
        ([("", None, False), ("12", None, False)], 2, "12"),
        ([("", "RunError: x", False), ("12", None, False)], 2, "12"),
        ([("12", None, True), ("13", None, False)], 2, "13"),
        ([("", None, False), ("", None, False), ("", None, False), ("12", None, False)], 3, ""),
    ],
)
def test_a_run_is_begun_anew_after_what_can_be_seen_to_be_wrong(
    outcomes: list[tuple[str, str | None, bool]], begun: int, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task,) = agent_tasks("test", 1, seed=3)
    seeds: list[int] = []

    async def attempt(task: Any, run: TaskRun, mode: Mode, seed: int, *_: Any) -> list[Any]:
        run.answer, run.error, failed = outcomes[len(seeds)]
        seeds.append(seed)
        return [ToolMessage("Error: wrong arguments" if failed else "7", tool_call_id="1", name="x")]

    monkeypatch.setattr(agents, "_attempt", attempt)
    (run,) = agents.run_mode([task], Mode(name="retries", intensity=0.0, tries=3)).runs
    assert (len(seeds), run.answer) == (begun, answer)
    assert len(set(seeds)) == len(seeds)
    assert seeds[0] == stream_seed("agents", 0, task.prompt)  # the first is every mode's


def test_two_processes_solve_what_one_does() -> None:
    tasks = TaskSet(count=4, seeds=(5, 6), kinds=("route",))
    modes = [INSTRUCT, DAMI]
    with AgentRunner(tasks) as runner:
        one = runner.run(modes)
    with AgentRunner(tasks, workers=2) as runner:
        two = runner.run(modes)
    for mode in modes:
        pairs = list(zip(one[mode.name].runs, two[mode.name].runs, strict=True))
        assert [run.task for run, _ in pairs] == [0, 1, 2, 3]
        assert [(run.answer, run.output_tokens) for run, _ in pairs] == [(o.answer, o.output_tokens) for _, o in pairs]
