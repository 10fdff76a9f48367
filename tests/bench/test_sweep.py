"""The sweep: its rows against plain counting, the switch point's rule, and one small real run of the built-in pair."""

import json
from collections import Counter

import pytest

from dami_agent.bench import engine, sweep, tools
from dami_agent.bench.engine import Answer
from dami_agent.bench.sweep import Plan
from dami_agent.chat_model.room import Room
from dami_agent.errors import InvalidIntensity, UsageError
from dami_agent.policy import Frontier
from dami_agent.tasks import Question
from dami_agent.types import Decision, Generation, Intensity, Prompt, Reply, Sampling, TokenEvent, ToolCall

PLAN = Plan(questions=20, seeds=2, lambdas=(0, 1), max_tokens=40, switch_questions=4, tool_dialogues=2)


def answer(content: str, tokens: int, *, thought: str = "", finish: str = "stop", error: str | None = None) -> Answer:
    events = tuple(TokenEvent(token_id=1, part="answer") for _ in range(tokens))
    return Answer(
        reply=Reply(content=content, reasoning=thought),
        generation=Generation(events=events, finish_reason=finish, intensity=Intensity(1), sampling=Sampling()),  # type: ignore[arg-type]
        decision=Decision(intensity=Intensity(1), template="thinking", reason=""),
        prompt=Prompt(token_ids=(1,), template="thinking"),
        error=error,
    )


def test_a_row_counts_what_it_says() -> None:
    asked = [
        (0, Question("chain", 1, "a", 7)),
        (0, Question("story", 1, "b", 8)),
        (1, Question("chain", 5, "c", 9)),
        (1, Question("story", 5, "d", 10)),
    ]
    found = [
        answer("The answer is 7.", 4, thought="well"),
        answer("The answer is 9.", 6, thought=" \n"),
        answer("9", 20, thought="x", finish="length"),
        answer("", 10, error="RunError: no"),
    ]
    row = sweep.summary(Intensity(1), asked, found)
    assert (row["lambda"], row["accuracy"], row["tokens"]) == (1.0, 0.5, 10.0)
    assert row["think_ratio"] == 0.5  # a blank thought is none
    assert row["finished"] == 0.5  # neither the capped nor the failed one
    assert row["by_level"] == {"1": 0.5, "5": 0.5}
    assert row["tokens_by_level"] == {"1": 5.0, "5": 15.0}
    assert row["by_family"] == {"chain": 1.0, "story": 0.0}
    assert row["by_seed"] == {"0": 0.5, "1": 0.5}
    assert row["errors"] == 1
    assert 0.3 < row["accuracy_ci"] < 0.5


def test_seeds_have_different_questions_of_the_test_split_and_balanced_kinds() -> None:
    asked = list(sweep.held_out(Plan(questions=2100, seeds=3)))
    assert len({question.prompt for _, question in asked}) == 2100
    assert Counter(seed for seed, _ in asked) == {0: 700, 1: 700, 2: 700}
    assert {question.split for _, question in asked} == {"test"}
    kinds = Counter((seed, question.family, question.level) for seed, question in asked)
    assert max(kinds.values()) - min(kinds.values()) <= 10  # easy questions repeat, and repeats are left out


def rows(*gains: tuple[float, float, float]) -> list[dict[str, float]]:
    return [{"lambda": at, "gain": gain, "gain_ci": noise} for at, gain, noise in gains]


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (rows((0.1, 0.0, 0.0), (0.5, 0.1, 0.05), (1.0, 0.3, 0.05)), 0.0),
        (rows((0.1, -0.2, 0.1), (0.5, 0.1, 0.05), (1.0, 0.3, 0.05)), 0.1),
        (rows((0.1, 0.1, 0.1), (0.5, -0.2, 0.05), (1.0, 0.3, 0.05)), 0.5),  # worse once: not above it
        (rows((0.1, -0.04, 0.05), (0.5, 0.2, 0.05)), 0.0),  # within the noise
    ],
)
def test_the_switch_point_is_the_smallest_lambda_above_which_thinkings_template_holds(
    measured: list[dict[str, float]], expected: float
) -> None:
    assert sweep.switch_point(measured) == expected


def test_bad_plans_are_refused() -> None:
    with pytest.raises(InvalidIntensity):
        Plan(lambdas=(0, 1.5))
    with pytest.raises(UsageError):
        Plan(lambdas=())
    with pytest.raises(UsageError):
        Plan(questions=2, seeds=3)
    assert Plan(lambdas=(1, 0, 0.5, 0)).lambdas == (0, 0.5, 1)


def test_a_call_is_exact_only_as_a_whole() -> None:
    task = next(t for t in tools.dialogues("one unseen tool", 20) if t.plan[0].arguments)
    planned = task.plan[0]
    whole = ToolCall(id="a", name=planned.name, arguments=planned.arguments)

    def judged(*calls: ToolCall) -> tuple[bool, bool]:
        found = Answer(
            reply=Reply(tool_calls=calls),
            generation=None,
            decision=answer("", 0).decision,
            prompt=answer("", 0).prompt,
        )
        return tools.exact(task, found), tools.named(task, found)

    assert judged(whole) == (True, True)
    assert judged(ToolCall(id="a", name=planned.name, arguments={**planned.arguments, "more": 1})) == (False, True)
    assert judged(ToolCall(id="a", name="other", arguments=planned.arguments)) == (False, False)
    assert judged(whole, whole) == (False, True)
    assert judged() == (False, False)


def test_tool_dialogues_are_held_out_and_bind_what_they_say() -> None:
    for setting, bound in zip(tools.SETTINGS, (1, 3, 3), strict=True):
        for task in tools.dialogues(setting, 12):
            assert len(task.tools) == bound
            assert len(task.plan) == 1
            assert task.tool(task.plan[0].name) is not None
    assert all(task.split == "test" for task in tools.dialogues("one of three demo tools", 12))


# ---- the built-in pair, for real -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def room() -> Room:
    return engine.open_room(batch=32)


@pytest.fixture(scope="module")
def measured(room: Room) -> dict[str, object]:
    return sweep.sweep(room, PLAN)


def test_a_real_sweep_has_the_documented_shape_and_the_policy_reads_it(measured: dict[str, object]) -> None:
    data = json.loads(json.dumps(measured))
    assert {"rows", "questions", "seeds", "switch_point", "pair", "temperature", "tools"} <= set(data)
    assert (data["questions"], data["seeds"], data["temperature"]) == (20, 2, 0.7)
    needed = {"lambda", "accuracy", "accuracy_ci", "tokens", "think_ratio", "finished", "by_level", "tokens_by_level"}
    for row in data["rows"]:
        assert needed <= set(row)
        assert row["errors"] == 0
        assert 0 < row["tokens"] <= 40
    assert data["rows"][0]["template"] == "instruct"
    frontier = Frontier.from_dict(data)
    assert [float(row.intensity) for row in frontier.rows] == [0.0, 1.0]
    assert {row["setting"] for row in data["tools"]} == set(tools.SETTINGS)


def test_equal_plans_give_equal_sweeps(room: Room, measured: dict[str, object]) -> None:
    smaller = {key: measured[key] for key in ("rows", "switch_point", "switch")}
    asked = list(sweep.held_out(PLAN))
    switch, templates = sweep.measure_switch(room, PLAN, sweep._silent)
    again = [sweep.measure_row(room, PLAN, asked, Intensity(value), switch, sweep._silent)[0] for value in PLAN.lambdas]
    assert {"rows": again, "switch_point": switch, "switch": templates} == smaller


def test_progress_is_told_to_the_end(room: Room) -> None:
    told: list[tuple[str, int, int]] = []
    asked = list(sweep.held_out(PLAN))[:3]
    sweep.measure_row(room, PLAN, asked, Intensity(0), 0.0, lambda *event: told.append(event))
    assert told == [("λ=0", 1, 3), ("λ=0", 2, 3), ("λ=0", 3, 3)]
