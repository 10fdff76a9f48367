"""A reply that a plan asks for and budgets refuse leaves nothing behind: what was set aside for it is others' again."""

from __future__ import annotations

import time
from typing import Any

import pytest

from dami_agent.errors import BudgetExhausted
from dami_agent.policy import BudgetTracker, ReasoningPolicy
from dami_agent.types import Decision, Estimate, Intensity, Usage
from tests.policy.support import FRONTIER, step, user

PLANS = (
    {"cascade": {"check": "agreement", "intensities": [0, 1]}},
    {"self_consistency": {"samples": 3, "accept": None}},
)


def never(base: Decision) -> Estimate:
    return Estimate(estimator="test", intensity=Intensity(0.8))


@pytest.mark.parametrize("plan", PLANS)
def test_a_refused_reply_frees_its_share_and_counts_as_no_step(plan: dict[str, Any]) -> None:
    policy = ReasoningPolicy(frontier=FRONTIER, run={"max_tokens": 100}, **plan)
    budgets, first, other = BudgetTracker(), *(step(user("go"), root_run_id="run", call_id=each) for each in "ab")
    previous = policy.decide(first, 0, never, budgets=budgets)
    assert previous.plan
    budgets.settle(policy, first, 0, Usage(tokens=60))
    with pytest.raises(BudgetExhausted):
        policy.decide(first, 1, never, previous, "why", redraw="self_consistency" in plan, budgets=budgets)
    before = budgets.spent(policy, first.run_context)
    begun = time.monotonic()
    decision = policy.decide(other, 0, never, budgets=budgets)
    assert time.monotonic() - begun < 5, "it waits a minute for what is set aside"
    alone = BudgetTracker()
    alone.charge(policy, first.run_context, Usage(tokens=before.tokens), "answer")
    assert decision.limits == policy.decide(other, 0, never, budgets=alone).limits
    assert (before.tokens, before.steps) == (60, 1)
