"""Shared prefixes against exact ones: what is free, and the whole measurement at its smallest."""

from __future__ import annotations

import json

import pytest

from dami_agent.errors import UsageError
from dami_agent.evaluation.call_batches import PairSource
from dami_agent.evaluation.shared_prefix import PrefixPlan, is_free, shared_prefix
from dami_agent.evaluation.task_set import TaskSet


@pytest.mark.parametrize(
    ("difference", "low", "ratio", "free"),
    [
        (0.0, -0.01, 1.0, True),
        (-0.01, -0.0199, 1.1, True),
        (-0.011, -0.015, 1.0, False),
        (-0.005, -0.02, 1.0, False),
        (0.02, 0.0, 1.11, False),
    ],
)
def test_free_is_what_the_bounds_say(difference: float, low: float, ratio: float, free: bool) -> None:
    row = {"difference": difference, "difference_ci": [low, 0.03], "tokens_ratio": ratio}
    assert is_free(row) is free
    assert not is_free(row | {"difference_ci": None})


def test_lambda_one_is_left_out_and_nothing_else_would_be_measured() -> None:
    assert PrefixPlan(lambdas=(1, 0.5, 0.5, 0)).lambdas == (0.0, 0.5)
    with pytest.raises(UsageError, match="λ = 1"):
        PrefixPlan(lambdas=(1.0,))


def test_the_whole_measurement() -> None:
    plan = PrefixPlan(
        lambdas=(0, 0.5),
        questions=10,
        seeds=2,
        tasks=TaskSet(count=2, seeds=(0,), kinds=("work",)),
        agents=(0.5,),
        max_tokens=200,
    )
    told: list[str] = []
    found = json.loads(
        json.dumps(shared_prefix(plan, PairSource(), progress=lambda name, done, total: told.append(name)))
    )
    assert [row["lambda"] for row in found["rows"]] == [0.0, 0.5]
    assert [row["mode"] for row in found["agents"]] == ["λ=0.5", "dami"]
    assert (found["questions"], found["tasks"], found["intensity"]) == (10, 2, 1.0)
    assert found["free"] == all(is_free(row) for row in found["rows"])
    for row in found["rows"]:
        gained = row["shared"]["accuracy"] - row["exact"]["accuracy"]
        assert row["difference"] == pytest.approx(gained, abs=1e-3)
        assert row["tokens_ratio"] == pytest.approx(row["shared"]["tokens"] / row["exact"]["tokens"], abs=1e-2)
    assert {"λ=0.5, shared", "λ=0.5, exact", "agents, shared: dami"} <= set(told)
