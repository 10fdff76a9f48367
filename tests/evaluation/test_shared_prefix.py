"""Shared prefixes against exact ones: what is free, and the whole measurement at its smallest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dami_agent.errors import UsageError
from dami_agent.evaluation.call_batches import BatchRunner, PairSource, QuestionBatch
from dami_agent.evaluation.outcomes import packed, read_sweep
from dami_agent.evaluation.shared_prefix import PrefixPlan, is_free, is_free_of, noted, shared_prefix
from dami_agent.evaluation.sweep import held_out
from dami_agent.evaluation.task_set import TaskSet
from dami_agent.policy import Frontier
from dami_agent.types import Intensity


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


def test_what_agents_lose_counts_too_and_the_frontier_says_it() -> None:
    assert is_free_of({"solved": -0.01, "tokens": 1.1})
    assert not is_free_of({"solved": -0.02, "tokens": 1.0})
    assert not is_free_of({"solved": 0.0, "tokens": 1.2})
    measured = {"intensity": 1.0, "free": True, "rows": [], "agents": [], "questions": 9, "tasks": 3, "seeds": 1}
    measured["fingerprint"] = "abc"
    rows = [{"lambda": value, "accuracy": 0.5, "tokens": 10} for value in (0, 1)]
    frontier = noted({"rows": rows, "fingerprint": "abc", "pair": "mine"}, measured)
    assert Frontier.from_dict(frontier).prefix_for("auto") == 1
    assert Frontier.from_dict(noted({"rows": rows}, measured | {"free": False})).prefix_for("auto") is None
    with pytest.raises(UsageError, match="another pair"):
        noted({"rows": rows, "fingerprint": "other"}, measured)


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
    assert found["free"] == (all(map(is_free, found["rows"])) and all(map(is_free_of, found["agents"])))
    for row in found["rows"]:
        gained = row["shared"]["accuracy"] - row["exact"]["accuracy"]
        assert row["difference"] == pytest.approx(gained, abs=1e-3)
        assert row["tokens_ratio"] == pytest.approx(row["shared"]["tokens"] / row["exact"]["tokens"], abs=1e-2)
    assert {"λ=0.5, shared", "λ=0.5, exact", "agents, shared: dami"} <= set(told)


def test_replies_of_a_sweep_are_the_exact_side(tmp_path: Path) -> None:
    asked = list(held_out(10, 2))
    with BatchRunner(PairSource()) as runner:
        fingerprint = runner.session.engine.info.fingerprint
        batches = [
            QuestionBatch(name="", asked=asked, intensity=Intensity(value), temperature=0.7, max_tokens=200)
            for value in (0, 0.5)
        ]
        outcomes = packed(dict(zip((Intensity(0), Intensity(0.5)), runner.run(batches), strict=True)))
    said = {"questions": 10, "seeds": 2, "temperature": 0.7, "max_tokens": 200, "switch_point": 0.0}
    rows = [{"lambda": value, "template": template} for value, template in ((0.0, "instruct"), (0.5, "thinking"))]
    file = tmp_path / "sweep.json"
    file.write_text(json.dumps({**said, "fingerprint": fingerprint, "rows": rows, "outcomes": outcomes}))
    sweep = read_sweep(file)

    told: list[str] = []
    plan = PrefixPlan.like(sweep, lambdas=(0, 0.5))
    reused = shared_prefix(plan, PairSource(), progress=lambda name, done, total: told.append(name))
    asked_both = shared_prefix(PrefixPlan(lambdas=(0, 0.5), questions=10, seeds=2, max_tokens=200), PairSource())
    assert reused == asked_both
    assert set(told) == {"λ=0, shared", "λ=0.5, shared"}

    with pytest.raises(UsageError, match=r"λ=0\.2, 0\.4"):
        PrefixPlan.like(sweep, lambdas=(0, 0.2, 0.4))
    with pytest.raises(UsageError, match="does not keep"):
        PrefixPlan.like(dict(sweep, outcomes=[]), lambdas=(0,))
    with pytest.raises(UsageError, match="another pair"):
        shared_prefix(PrefixPlan.like(dict(sweep, fingerprint="other"), lambdas=(0,)), PairSource())


@pytest.mark.parametrize(
    ("text", "said"), [("{", "cannot read"), ("[]", "no JSON object"), ('{"rows": []}', "questions")]
)
def test_what_is_no_sweep_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "odd.json"
    file.write_text(text)
    with pytest.raises(UsageError, match=said):
        read_sweep(file)
