"""Decisions: who wins, what is asked of the estimator, and what the reason says."""

from __future__ import annotations

import warnings

import pytest

from dami_agent.policy import (
    BudgetTracker,
    Frontier,
    FrontierRow,
    GreedyThinkingWarning,
    IntensityWarning,
    ReasoningPolicy,
)
from dami_agent.types import Decision, Estimate, Intensity, IntensityRequest, Limits, Message, Sampling, Step

ROWS = ((0, 0.5, 10), (0.3, 0.4, 50), (0.7, 0.8, 60), (1, 0.9, 100))
FRONTIER = Frontier(
    rows=tuple(FrontierRow(intensity=Intensity(x), accuracy=a, tokens=t, accuracy_ci=0.01) for x, a, t in ROWS)
)
POLICY = ReasoningPolicy(frontier=FRONTIER)


def step(
    request: IntensityRequest = IntensityRequest(), limits: Limits = Limits(), sampling: Sampling = Sampling()
) -> Step:
    return Step(
        messages=(Message(role="user", content="hi"),),
        intensity_request=request,
        limits=limits,
        sampling=sampling,
    )


def never(_: Decision) -> Estimate:
    raise AssertionError("the estimator must not be asked")


def saying(value: float):
    seen: list[Decision] = []

    def estimate(base: Decision) -> Estimate:
        seen.append(base)
        return Estimate(estimator="test", intensity=Intensity(value))

    return estimate, seen


def test_a_number_runs_as_given_and_asks_nobody() -> None:
    decision = POLICY.decide(step(IntensityRequest(intensity=Intensity(0.65), origin="call")), 0, never)
    assert decision.intensity == 0.65  # not snapped
    assert decision.reason == "reasoning_intensity=0.65 (call)"
    assert decision.template == "thinking"


def test_a_number_in_the_valley_runs_but_warns() -> None:
    with pytest.warns(IntensityWarning, match="valley"):
        decision = POLICY.decide(step(IntensityRequest(intensity=Intensity(0.3))), 0, never)
    assert decision.intensity == 0.3
    assert "valley" in decision.reason


def test_an_effort_goes_through_the_frontier() -> None:
    decision = POLICY.decide(step(IntensityRequest(effort="high", origin="bind")), 0, never)
    assert decision.intensity == FRONTIER.for_effort("high")
    assert "reasoning_effort=high (bind)" in decision.reason


def test_an_estimate_snaps_to_the_grid_and_is_kept() -> None:
    estimate, seen = saying(0.4)
    decision = POLICY.decide(step(), 0, estimate)
    assert decision.intensity == 0.7
    assert decision.estimate is not None
    assert decision.estimate.intensity == 0.4
    assert "snapped from 0.40" in decision.reason
    assert seen[0].intensity == 0
    assert seen[0].template == "instruct"


def test_what_is_asked_beats_the_policy_default() -> None:
    policy = ReasoningPolicy(frontier=FRONTIER, default=IntensityRequest(intensity=Intensity(1), origin="policy"))
    assert policy.decide(step(), 0, never).intensity == 1
    assert policy.decide(step(IntensityRequest(effort="none")), 0, never).intensity == 0
    estimate, seen = saying(0)
    assert policy.decide(step(IntensityRequest(intensity="auto")), 0, estimate).intensity == 0
    assert len(seen) == 1


@pytest.mark.parametrize(("max_tokens", "reserve"), [(None, 512), (100, 50), (1, 0), (10_000, 512)])
def test_the_answer_keeps_its_room(max_tokens: int | None, reserve: int) -> None:
    limits = Limits(max_tokens=max_tokens)
    decision = POLICY.decide(step(IntensityRequest(intensity=Intensity(1)), limits), 0, never)
    assert decision.limits.answer_reserve == reserve
    own = Limits(max_tokens=max_tokens, answer_reserve=7)
    assert POLICY.decide(step(IntensityRequest(intensity=Intensity(1)), own), 0, never).limits.answer_reserve == 7


def test_greedy_thinking_warns_once_per_policy() -> None:
    policy, budgets = ReasoningPolicy(frontier=FRONTIER), BudgetTracker()
    greedy = Sampling(temperature=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policy.decide(step(IntensityRequest(intensity=Intensity(0)), sampling=greedy), 0, never, budgets=budgets)
    with pytest.warns(GreedyThinkingWarning, match="loop"):
        policy.decide(step(IntensityRequest(intensity=Intensity(1)), sampling=greedy), 0, never, budgets=budgets)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policy.decide(step(IntensityRequest(intensity=Intensity(1)), sampling=greedy), 0, never, budgets=budgets)
