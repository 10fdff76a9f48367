"""Calibration: rules replayed against a plain loop, the choice, and that items come from the calibration split."""

import math
import random
from dataclasses import replace

import pytest

from dami_agent.evaluation import confidence_rule, runner
from dami_agent.evaluation.confidence_rule import Observation
from dami_agent.tasks import agent_tasks, split_of
from dami_agent.types import Limits, Reply, Sampling, ToolCall

GRID = (0.0, 0.5, 1.0)


def observations(count: int, seed: int) -> list[Observation]:
    """Items whose Instruct reply is right more often the surer both models are."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        length = rng.randint(1, 8)
        own = tuple(-rng.expovariate(3) for _ in range(length))
        scored = tuple(value - rng.expovariate(6) for value in own)
        sure = math.exp(min((a + b) / 2 for a, b in zip(own, scored, strict=True)))
        right = (rng.random() < sure, rng.random() < 0.8, rng.random() < 0.95)
        found.append(
            Observation(
                kind="question", own=own, scored=scored, probe_tokens=length, right=right, tokens=(length, 30, 60)
            )
        )
    return found


def slow_replay(observed: list[Observation], weight: float, accept: float) -> tuple[float, float]:
    """The estimator's docstring, item by item."""
    right = tokens = 0.0
    for o in observed:
        mixed = [(1 - weight) * a + weight * b for a, b in zip(o.own, o.scored, strict=True)]
        c = math.exp(min(mixed))
        value = 0.0 if c >= accept else 1 - c
        distances = [abs(value - g) for g in GRID]
        at = max(i for i, d in enumerate(distances) if d == min(distances))
        right += o.right[at]
        tokens += o.tokens[at] + (o.probe_tokens if at else 0)
    return right / len(observed), tokens / len(observed)


@pytest.mark.parametrize("weight", confidence_rule.WEIGHTS)
def test_replay_is_the_rule_item_by_item(weight: float) -> None:
    observed = observations(200, seed=int(weight * 100))
    for accept in (0.3, 0.8, 0.99):
        found = confidence_rule.replay(observed, confidence_rule.minimum(weight), accept, GRID)
        accuracy, tokens = slow_replay(observed, weight, accept)
        assert found["accuracy"] == pytest.approx(accuracy, abs=1e-4)
        assert found["tokens"] == pytest.approx(tokens, abs=1e-2)


def test_the_choice_is_the_cheapest_that_loses_nothing() -> None:
    rows = [
        {"accuracy": 0.90, "tokens": 60.0},
        {"accuracy": 0.898, "tokens": 30.0},
        {"accuracy": 0.89, "tokens": 10.0},
    ]
    assert confidence_rule.choose(rows, 0.895)["tokens"] == 30.0
    assert confidence_rule.choose(rows, 0.95)["accuracy"] == 0.90


def test_a_report_finds_the_signal_and_its_shuffle_loses_it() -> None:
    result = confidence_rule.report(observations(1500, seed=9), GRID)
    assert result["auc"]["min, w=0.5"]["all"] > 0.62
    assert result["default"]["accuracy"] > result["shuffled"]["accuracy"] + 0.02
    assert result["default"]["mean_lambda"] == result["shuffled"]["mean_lambda"]
    assert result["chosen"]["tokens"] < 60
    assert result["oracle"]["accuracy"] >= result["fixed"][-1]["accuracy"]


def test_items_are_of_the_calibration_split_and_judge_their_own_solution() -> None:
    sampling = Sampling(temperature=0.7)
    asked = confidence_rule.question_items(8, sampling)
    assert len(asked) == 8
    for item in asked + confidence_rule.step_items(30, sampling):
        assert split_of(item.step.messages[0].content) == "calibration"
        assert not item.right(Reply(content="I do not know."))
    steps = confidence_rule.step_items(30, sampling)
    assert len(steps) == 30
    assert {item.kind for item in steps} == {"call", "reply"}
    for item in (i for i in steps if i.kind == "call"):
        assert not item.right(Reply(tool_calls=(ToolCall(id="a", name="nothing", arguments={}),)))


def test_a_step_shows_what_the_plan_has_done_and_takes_what_it_does_next() -> None:
    tasks = {task.prompt: task for task in agent_tasks("calibration", 60, seed=1)}
    together = 0
    for item in confidence_rule.step_items(60, Sampling(temperature=0.7)):
        task = tasks[item.step.messages[0].content]
        made = [message for message in item.step.messages if message.role == "assistant"]
        results = [message for message in item.step.messages if message.role == "tool"]
        done = [call for turn in task.rounds[: len(made)] for call in turn]
        assert [call.name for message in made for call in message.tool_calls] == [call.name for call in done]
        assert [message.content for message in results] == [call.result for call in done]
        if len(made) == len(task.rounds):
            assert item.right(Reply(content=task.reply))
            continue
        turn = [ToolCall(id=str(i), name=c.name, arguments=c.arguments) for i, c in enumerate(task.rounds[len(made)])]
        assert item.right(Reply(tool_calls=tuple(turn)))
        assert item.right(Reply(tool_calls=tuple(turn[:1])))
        assert not item.right(Reply(tool_calls=(*turn, ToolCall(id="x", name="nothing", arguments={}))))
        together += len(turn) > 1
    assert together


def test_observing_the_built_in_pair_gives_one_log_probability_a_probe_token() -> None:
    session = runner.open_batch_session(batch=32)
    items = confidence_rule.question_items(3, Sampling(temperature=0.7)) + confidence_rule.step_items(3, Sampling())
    items = [replace(item, step=replace(item.step, limits=Limits(max_tokens=48))) for item in items]
    observed = confidence_rule.observe(session, items, (0.0, 1.0), workers=4)
    assert [o.kind for o in observed] == [item.kind for item in items]
    assert len(observed) == 6
    for o in observed:
        assert len(o.own) == len(o.scored) == o.probe_tokens <= 32
        assert all(value <= 0 for value in (*o.own, *o.scored))
        assert len(o.right) == len(o.tokens) == 2
