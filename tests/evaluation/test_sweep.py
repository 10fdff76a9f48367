"""The sweep: its rows against plain counting, the switch point's rule, and one small real run of the built-in pair."""

import dataclasses
import json
from collections import Counter
from typing import Any

import pytest

from dami_agent.errors import InvalidIntensity, UsageError
from dami_agent.evaluation import outcomes, sweep, tool_calls
from dami_agent.evaluation.call_batches import BatchRunner, PairSource, QuestionBatch, outcome
from dami_agent.evaluation.runner import Answer
from dami_agent.evaluation.sweep import SweepConfig
from dami_agent.policy import Frontier
from dami_agent.tasks import FAMILIES, LEVELS, single_calls
from dami_agent.tasks.single import SETTINGS
from dami_agent.types import (
    Decision,
    Generation,
    Intensity,
    Prompt,
    Reply,
    Sampling,
    TokenEvent,
    TokenLogprob,
    ToolCall,
)

SOURCE = PairSource(batch=32)
PLAN = SweepConfig(
    questions=20,
    seeds=2,
    lambdas=(0, 1),
    max_tokens=40,
    switch_questions=4,
    control_questions=4,
    tool_dialogues=2,
)


def answer(
    content: str,
    tokens: int,
    *,
    thought: str = "",
    finish: str = "stop",
    error: str | None = None,
    logprobs: tuple[float, ...] = (),
) -> Answer:
    kept = [TokenLogprob(token_id=1, logprob=value) for value in logprobs] or [None] * tokens
    events = tuple(TokenEvent(token_id=1, part="answer", logprob=value) for value in kept)
    return Answer(
        reply=Reply(content=content, reasoning=thought),
        generation=Generation(events=events, finish_reason=finish, intensity=Intensity(1), sampling=Sampling()),  # type: ignore[arg-type]
        decision=Decision(intensity=Intensity(1), template="thinking", reason=""),
        prompt=Prompt(token_ids=(1,), template="thinking"),
        error=error,
    )


def test_an_outcome_keeps_what_is_counted() -> None:
    good = outcome(answer("The answer is 7.", 4, thought="well"), right=True)
    assert (good.right, good.tokens, good.thought, good.finished, good.failed) == (True, 4, True, True, False)
    assert not outcome(answer("9", 6, thought=" \n"), right=False).thought  # a blank thought is none
    assert not outcome(answer("9", 20, finish="length"), right=True).finished
    cut = answer("9", 20, thought="well")
    assert cut.generation is not None
    cut = dataclasses.replace(cut, generation=dataclasses.replace(cut.generation, thought_closed_by="cap"))
    assert not outcome(cut, right=True).finished
    failed = outcome(answer("7", 10, error="RunError: no"), right=True)
    assert (failed.right, failed.finished, failed.failed) == (False, False, True)
    assert good.logprob is None
    assert outcome(answer("7", 2, logprobs=(-1.0, -2.0)), right=True).logprob == -1.5


def test_seeds_have_different_questions_of_the_test_split_and_balanced_kinds() -> None:
    asked = list(sweep.held_out(2100, 3))
    assert len({question.prompt for _, question in asked}) == 2100
    assert Counter(seed for seed, _ in asked) == {0: 700, 1: 700, 2: 700}
    assert {question.split for _, question in asked} == {"test"}
    kinds = Counter((seed, question.family, question.level) for seed, question in asked)
    assert len(kinds) == 3 * len(FAMILIES) * len(LEVELS)
    assert set(kinds.values()) == {28}


def rows(*gains: tuple[float, float, float | None]) -> list[dict[str, float | None]]:
    return [{"lambda": at, "gain": gain, "gain_ci": noise} for at, gain, noise in gains]


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (rows((0.1, 0.0, 0.0), (0.5, 0.1, 0.05), (1.0, 0.3, 0.05)), 0.0),
        (rows((0.1, -0.2, 0.1), (0.5, 0.1, 0.05), (1.0, 0.3, 0.05)), 0.1),
        (rows((0.1, 0.1, 0.1), (0.5, -0.2, 0.05), (1.0, 0.3, 0.05)), 0.5),  # worse once: not above it
        (rows((0.1, -0.04, 0.05), (0.5, 0.2, 0.05)), 0.0),  # within the noise
        (rows((1.0, -1.0, None)), 0.0),  # one question: nothing is known of the noise
    ],
)
def test_the_switch_point_is_the_smallest_lambda_above_which_thinkings_template_holds(
    measured: list[dict[str, float | None]], expected: float
) -> None:
    assert sweep.switch_point(measured) == expected


def test_bad_plans_are_refused() -> None:
    with pytest.raises(InvalidIntensity):
        SweepConfig(lambdas=(0, 1.5))
    with pytest.raises(UsageError):
        SweepConfig(lambdas=())
    with pytest.raises(UsageError):
        SweepConfig(questions=2, seeds=3)
    assert SweepConfig(lambdas=(1, 0, 0.5, 0)).lambdas == (0, 0.5, 1)
    assert SweepConfig(lambdas=(0.5,)).lambdas == (0, 0.5, 1)  # the ends are measured always


def test_a_call_is_exact_only_as_a_whole() -> None:
    task = next(t for t in single_calls("one unseen tool", "test", 20) if t.plan[0].arguments)
    planned = task.plan[0]
    whole = ToolCall(id="a", name=planned.name, arguments=planned.arguments)

    def judged(*calls: ToolCall) -> tuple[bool, bool]:
        found = Answer(
            reply=Reply(tool_calls=calls),
            generation=None,
            decision=answer("", 0).decision,
            prompt=answer("", 0).prompt,
        )
        return tool_calls.exact(task, found), tool_calls.named(task, found)

    assert judged(whole) == (True, True)
    assert judged(ToolCall(id="a", name=planned.name, arguments={**planned.arguments, "more": 1})) == (False, True)
    assert judged(ToolCall(id="a", name="other", arguments=planned.arguments)) == (False, False)
    assert judged(whole, whole) == (False, True)
    assert judged() == (False, False)


# ---- the built-in pair, for real -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    return sweep.sweep(PLAN, SOURCE)


def test_a_real_sweep_has_the_documented_shape_and_the_policy_reads_it(measured: dict[str, Any]) -> None:
    data = json.loads(json.dumps(measured, allow_nan=False))
    assert (data["questions"], data["seeds"], data["temperature"]) == (20, 2, 0.7)
    needed = {"lambda", "accuracy", "accuracy_ci", "tokens", "think_ratio", "finished", "by_level", "tokens_by_level"}
    for row in data["rows"]:
        assert needed <= set(row)
        assert row["errors"] == 0
        assert 0 < row["tokens"] <= 40
    assert data["rows"][0]["template"] == "instruct"
    frontier = Frontier.from_dict(data)
    assert [float(row.intensity) for row in frontier.rows] == [0.0, 1.0]
    assert {row["setting"] for row in data["tools"]} == set(SETTINGS)
    assert (data["controls"]["questions"], data["controls"]["tries"]) == (4, len(frontier.grid))
    for row, kept in zip(data["rows"], outcomes.unpacked(data).values(), strict=True):
        assert row["accuracy"] == pytest.approx(sum(outcome.right for outcome in kept) / 20)
        assert row["tokens"] == pytest.approx(sum(outcome.tokens for outcome in kept) / 20)
    assert not {"bars", "criteria", "unseen", "suites"} & set(data)
    assert len(data["switch"]) == 1


def test_equal_plans_give_equal_sweeps(measured: dict[str, Any]) -> None:
    assert sweep.sweep(PLAN, SOURCE) == measured


def test_what_is_left_out_is_not_measured() -> None:
    small = SweepConfig(questions=5, seeds=1, lambdas=(0, 1), max_tokens=8, switch_questions=0)
    small = dataclasses.replace(small, control_questions=0, tool_dialogues=0)
    data = sweep.sweep(small, SOURCE)
    assert (data["switch"], data["tools"], data["controls"]) == ([], [], None)


def few(count: int, value: float) -> QuestionBatch:
    asked = list(sweep.held_out(PLAN.questions, PLAN.seeds))[:count]
    return QuestionBatch(name=f"λ={value:g}", asked=asked, intensity=Intensity(value), temperature=0.7, max_tokens=16)


def test_progress_is_told_to_the_end() -> None:
    told: list[tuple[str, int, int]] = []
    with BatchRunner(SOURCE, tell=lambda *event: told.append(event)) as runner:
        runner.run([few(2, 0), few(1, 0), few(1, 1)])
    assert told == [("λ=0", 1, 3), ("λ=0", 2, 3), ("λ=0", 3, 3), ("λ=1", 1, 1)]


@pytest.mark.slow
def test_two_processes_give_what_one_gives() -> None:
    batches = [few(5, 0), few(6, 0.5), few(4, 1)]
    with BatchRunner(SOURCE) as runner:
        alone = runner.run(batches)
    told: list[tuple[str, int, int]] = []
    with BatchRunner(SOURCE, 2, lambda *event: told.append(event)) as runner:
        assert runner.run(batches) == alone
    assert sorted(told) == [("λ=0", 5, 5), ("λ=0.5", 6, 6), ("λ=1", 4, 4)]


def test_another_stream_gives_another_answer() -> None:
    batch = dataclasses.replace(few(8, 0.5), max_tokens=120)
    with BatchRunner(SOURCE) as runner:
        one, same, other = runner.run([batch, batch, dataclasses.replace(batch, stream=("try", 1), logprobs=True)])
    assert one == same
    assert [o.tokens for o in one] != [o.tokens for o in other]
    assert all(o.logprob is not None and o.logprob < 0 for o in other)
    assert all(o.logprob is None for o in one)
