"""No thought is begun that will not fit: λ by how long a thought gets, and by what caps and budgets leave."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from dami_agent.policy import BudgetTracker, ReasoningPolicy
from dami_agent.types import Candidate, Decision, Estimate, Intensity, Limits, Step, Usage
from tests.policy.support import FRONTIER, round_of, step, user

LENGTHS = {1.0: 240, 0.8: 180, 0.6: 90, 0.2: 30, 0.0: 0}
"""λ, the best first -> tokens that its thought needs."""


def ranked(_: Decision) -> Estimate:
    candidates = tuple(Candidate(intensity=Intensity(x), reasoning_tokens=n) for x, n in LENGTHS.items())
    return Estimate(estimator="test", intensity=candidates[0].intensity, candidates=candidates)


def policy(**said: Any) -> ReasoningPolicy:
    return ReasoningPolicy.from_dict({"default": {"intensity": "auto"}, **said}, frontier=FRONTIER)


def decided(rules: ReasoningPolicy, now: Step, budgets: BudgetTracker | None = None) -> Decision:
    return rules.decide(now, 0, ranked, budgets=budgets)


def spend(rules: ReasoningPolicy, now: Step, budgets: BudgetTracker, tokens: int) -> None:
    budgets.settle(rules, now, 0, Usage(tokens=tokens, reasoning_tokens=tokens))


def call(number: int, **more: Any) -> Step:
    return step(run_id="run", call_id=f"call-{number}", **more)


@pytest.mark.parametrize(
    ("cap", "intensity"), [(None, 1), (240, 1), (239, 0.8), (100, 0.6), (89, 0.2), (29, 0), (0, 0)]
)
def test_under_a_cap_the_best_thought_that_fits_is_begun(cap: int | None, intensity: float) -> None:
    decision = decided(policy(), step(limits=Limits(max_reasoning_tokens=cap)))
    assert decision.intensity == intensity
    assert ("a thought at 1 needs 240 tokens" in decision.reason) == (intensity != 1)


def test_a_cap_on_all_tokens_leaves_the_thought_what_the_answer_does_not_need() -> None:
    assert decided(policy(), step(limits=Limits(max_tokens=480))).intensity == 1
    assert decided(policy(), step(limits=Limits(max_tokens=478))).intensity == 0.8
    assert decided(policy(), step(limits=Limits(max_tokens=300, answer_reserve=20))).intensity == 1


def test_an_estimator_that_knows_no_lengths_is_taken_at_its_word() -> None:
    decision = policy().decide(
        step(limits=Limits(max_reasoning_tokens=10)), 0, lambda _: Estimate(estimator="test", intensity=Intensity(1))
    )
    assert decision.intensity == 1


def test_neither_preference_nor_rule_begins_a_thought_without_room() -> None:
    now = step(limits=Limits(max_reasoning_tokens=100))
    assert decided(policy(accuracy_over_cost=0.9), now).intensity == 0.6
    assert decided(policy(accuracy_over_cost=0.1), now).intensity == 0
    assert decided(policy(default={"intensity": [0.8, 1]}), now).intensity == 0.8, "a rule's lower bound stands"


def test_a_thought_gets_more_than_half_of_a_budget_where_it_needs_it() -> None:
    rules, budgets = policy(run={"max_reasoning_tokens": 300}), BudgetTracker()
    decision = decided(rules, call(1), budgets)
    assert (decision.intensity, decision.limits.max_reasoning_tokens) == (1, 240)


@pytest.mark.parametrize(("used", "intensity"), [(0, 1), (60, 1), (61, 0.8), (121, 0.6), (220, 0.2), (290, 0)])
def test_what_is_left_of_a_budget_decides(used: int, intensity: float) -> None:
    rules, budgets = policy(run={"max_reasoning_tokens": 300, "on_exhausted": "end"}), BudgetTracker()
    decided(rules, call(1), budgets)
    spend(rules, call(1), budgets, used)
    assert decided(rules, call(2), budgets).intensity == intensity


def test_a_tools_budget_decides_too() -> None:
    tools: dict[str, Any] = {"tools": {"look": {"run_max_reasoning_tokens": 200}}}
    now = step(user("go"), *round_of("look"), run_id="run", call_id="1")
    decision = decided(policy(**tools), now, BudgetTracker())
    assert (decision.intensity, decision.limits.max_reasoning_tokens) == (0.8, 180)


def test_a_budget_of_all_tokens_keeps_the_answers() -> None:
    rules, budgets = policy(run={"max_tokens": 600, "answer_reserve": 50}), BudgetTracker()
    decision = decided(rules, call(1), budgets)
    assert (decision.intensity, decision.limits.max_tokens) == (1, 480)
    rules = policy(run={"max_tokens": 500, "answer_reserve": 50})
    decision = decided(rules, call(1), BudgetTracker())
    assert (decision.intensity, decision.limits.max_tokens) == (0.8, 360)


@pytest.mark.parametrize(("used", "intensity"), [(40, 1), (150, 0.6)])
def test_branches_at_once_get_what_they_would_one_after_the_other(used: int, intensity: float) -> None:
    rules, budgets = policy(run={"max_reasoning_tokens": 300, "on_exhausted": "end"}), BudgetTracker()
    assert decided(rules, call(1), budgets).intensity == 1
    found: list[Decision] = []
    waiting = threading.Thread(target=lambda: found.append(decided(rules, call(2), budgets)))
    waiting.start()
    waiting.join(0.3)
    assert not found, "the second waits for what the first has set aside"
    spend(rules, call(1), budgets, used)
    waiting.join(10)
    assert found[0].intensity == intensity


def test_a_step_that_finds_the_budget_gone_meanwhile_keeps_what_it_had() -> None:
    rules, budgets = policy(run={"max_reasoning_tokens": 300, "on_exhausted": "error"}), BudgetTracker()
    decision = decided(rules, call(1), budgets)
    assert decision.intensity == 1
    spend(rules, call(1), budgets, 240)
    assert decided(rules, call(2), budgets).intensity == 0.2
    assert budgets.spent(rules, call(2).run_context).reasoning_tokens == 240
