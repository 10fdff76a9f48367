"""Agent benchmarks: what a step costs, the shuffled control, the gap, and one small real run of the built-in pair."""

import dataclasses
import json
import random
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dami_agent.errors import UsageError
from dami_agent.evaluation import agents, compare, shuffled
from dami_agent.evaluation.agents import DAMI, INSTRUCT, THINKING, ModeResult, StepRow, TaskRun
from dami_agent.evaluation.demo import Demo
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
    out = shuffled.shuffled(lambdas, seed)
    kept = [steps for steps, own in zip(out, lambdas, strict=True) if own]
    assert [len(steps) for steps in kept] == [len(own) for own in lambdas if own]
    assert Counter(v for steps in kept for v in steps) == Counter(v for own in lambdas for v in own)
    assert out == shuffled.shuffled(lambdas, seed)


def test_shuffled_really_moves_them() -> None:
    lambdas = [[i / 100, i / 100] for i in range(100)]
    out = shuffled.shuffled(lambdas, 1)
    assert sum(list(a) == b for a, b in zip(out, lambdas, strict=True)) < 5
    assert out != shuffled.shuffled(lambdas, 2)


def test_shuffled_lambdas_come_in_turn_and_round_again() -> None:
    estimator = shuffled.ShuffledEstimator((0.2, 1.0))
    prompt, decision = Prompt(token_ids=(1,), template="instruct"), record(None, "a").decision
    given = [estimator.estimate(prompt, decision, None) for _ in range(3)]  # type: ignore[arg-type]
    assert [(float(e.intensity), e.tokens) for e in given] == [(0.2, 0), (1.0, 0), (0.2, 0)]


def runs(solved: list[bool], tokens: list[int]) -> list[TaskRun]:
    step = StepRow(
        task=0, step=1, tool=None, digested=(), called=(), intensity=0.5, reason="", prompt_tokens=1,
        reasoning_tokens=0, answer_tokens=0, seconds=0.0,
    )  # fmt: skip
    return [
        TaskRun(task=i, solved=s, steps=[dataclasses.replace(step, task=i, answer_tokens=t)])
        for i, (s, t) in enumerate(zip(solved, tokens, strict=True))
    ]


def test_gap_and_token_ratio_are_the_plain_ratios_and_lie_in_their_intervals() -> None:
    rng = random.Random(8)
    for _ in range(2):
        thinking = [rng.random() < 0.9 for _ in range(80)]
        instruct = [s and rng.random() < 0.4 for s in thinking]
        dami = [s if rng.random() < 0.8 else i for s, i in zip(thinking, instruct, strict=True)]
        cost = [[rng.randint(1, 50 * k) for _ in range(80)] for k in (2, 1, 3)]
        found = compare.gap(*(runs(s, c) for s, c in zip((dami, instruct, thinking), cost, strict=True)))
        closed = (sum(dami) - sum(instruct)) / (sum(thinking) - sum(instruct))
        assert found["gap_closed"] == pytest.approx(closed, abs=1e-4)
        assert found["tokens_ratio"] == pytest.approx(sum(cost[0]) / sum(cost[2]), abs=1e-4)
        for name in ("gap_closed", "tokens_ratio"):
            low, high = found[f"{name}_ci"]
            assert low <= found[name] <= high
            assert high - low < 1


def test_no_gap_no_share() -> None:
    same = runs([True, False], [3, 4])
    assert compare.gap(same, same, same)["gap_closed"] is None


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
    data = json.loads(json.dumps(Demo(outcomes=real[0]).to_dict()))
    assert set(data) == {"steps", "totals"}
    assert list(data["totals"]) == ["dami", "instruct", "thinking"]
    for total in data["totals"].values():
        assert set(total) == {"solved", "tasks", "output_tokens", "seconds"}
        assert total["tasks"] == 2
    keys = {"task", "step", "tool", "lambda", "reason", "prompt_tokens", "reasoning_tokens", "answer_tokens", "seconds"}
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
