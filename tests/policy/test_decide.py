"""From rules, bounds, the knob, challenges and budgets to one λ, and the words for it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dami_agent.policy import BudgetTracker, ReasoningPolicy, Usage
from dami_agent.types import (
    Decision,
    Estimate,
    Generation,
    Intensity,
    IntensityRequest,
    InvalidToolCall,
    Limits,
    Prompt,
    Reply,
    Sampling,
    Step,
    TokenEvent,
)
from tests.policy.support import FRONTIER, never, requested, round_of, said, saying, step, user

CHALLENGE = (user("1+1?"), said("3"), user("Are you sure?"))


def policy(**given: Any) -> ReasoningPolicy:
    return ReasoningPolicy(frontier=FRONTIER, **given)


def rule(**given: Any) -> dict[str, Any]:
    return {"rules": [{"name": "it", **given}]}


@pytest.mark.parametrize(
    ("asked", "given", "default", "intensity"),
    [
        (0.5, {"intensity": 0.2}, {"intensity": 1}, 0.5),  # the caller's number beats all
        ("low", {"intensity": 1}, {}, 0.2),  # and so does the caller's effort
        ("auto", {"intensity": 0.5}, {"intensity": 1}, 0.5),  # auto leaves it to the rule
        ("auto", {"effort": "low"}, {"intensity": 1}, 0.2),
        ("auto", {"max_tokens": 9}, {"intensity": 1}, 0.6),  # a rule without a word on λ: the estimator
        (None, {"max_tokens": 9}, {"intensity": 1}, 1),  # nobody asked: the default
        (None, {"intensity": "auto"}, {"intensity": 1}, 0.6),
        (None, {"intensity": 0.5, "effort": "low"}, {}, 0.5),  # a number beats an effort
        (0.5, {"intensity": [0, 0.3]}, {}, 0.3),  # bounds come after explicit numbers
        ("high", {"intensity": ["none", "low"]}, {}, 0.2),
        (None, {"intensity": [0, 0.3]}, {"intensity": 1}, 0.3),  # the rule bounds, the default asks
        (None, {"intensity": [0, 0.3]}, {}, 0.2),  # an estimate snaps inside the bounds
        (None, {"intensity": [0.3, 0.45]}, {}, 0.45),  # where the grid has nothing it is clamped
        (0.1, {"max_tokens": 9}, {"intensity": [0.2, 1]}, 0.2),  # the default's bounds hold where a rule has none
        (0.1, {"intensity": 0.5}, {"intensity": [0.2, 1]}, 0.1),  # a rule about λ replaces the default's
    ],
)
@pytest.mark.filterwarnings("ignore:λ=0")
def test_who_decides(asked: Any, given: dict[str, Any], default: dict[str, Any], intensity: float) -> None:
    now = step() if asked is None else step(intensity_request=requested(asked))
    decision = policy(default=default, **rule(**given)).decide(now, 0, saying(0.5))
    assert decision.intensity == intensity
    assert decision.rule == "it"
    assert "rule it" in decision.reason
    if decision.requested is not None and decision.requested != decision.intensity:
        assert f": {intensity:g}" in decision.reason


bounds = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(lambda b: (min(b), max(b)))


@settings(deadline=None, max_examples=60)
@given(bounds, st.sampled_from(["low", "max", "auto", None]) | st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
@pytest.mark.filterwarnings("ignore:λ=")
def test_bounds_always_hold_and_the_decision_tells_them(low_high: Any, asked: Any, says: float, knob: float) -> None:
    now = step() if asked is None else step(*CHALLENGE, intensity_request=requested(asked))
    decision = policy(accuracy_over_cost=knob, **rule(intensity=low_high)).decide(now, 0, saying(says))
    low, high = low_high
    assert low <= decision.intensity <= high
    told = decision.bounds or (0, 1)
    assert told[1] == high
    assert told[0] >= low  # a challenge may raise it


def test_no_estimate_where_it_cannot_matter() -> None:
    assert policy(**rule(intensity=[0.6, 0.6])).decide(step(), 0, never).intensity == 0.6
    assert policy(accuracy_over_cost=0).decide(step(), 0, never).intensity == 0
    assert policy(accuracy_over_cost=1).decide(step(), 0, never).intensity == 1
    assert policy(accuracy_over_cost=1, **rule(intensity=[0, 0.7])).decide(step(), 0, never).intensity == 0.6


def test_an_effort_beats_auto() -> None:
    assert (
        policy().decide(step(intensity_request=IntensityRequest(intensity="auto", effort="low")), 0, never).intensity
        == 0.2
    )


def test_the_knob_moves_estimates_and_nothing_else() -> None:
    levels = [policy(accuracy_over_cost=a / 10).decide(step(), 0, saying(0.6)).intensity for a in range(11)]
    assert levels == sorted(levels)
    assert (levels[0], levels[5], levels[10]) == (0, 0.6, 1)
    assert policy(accuracy_over_cost=1).decide(step(intensity_request=requested(0.6)), 0, never).intensity == 0.6
    assert policy(accuracy_over_cost=0.6).decide(step(), 0, saying(0.6)).reason == (
        "test estimate 0.60, accuracy_over_cost=0.6: 0.8"
    )


def test_a_challenge_raises_what_nobody_fixed_where_it_is_switched_on() -> None:
    decision = policy(challenge=True).decide(step(*CHALLENGE), 0, saying(0))
    assert (decision.intensity, decision.bounds) == (FRONTIER.for_effort("high"), (0.8, 1))
    assert "challenges" in decision.reason
    assert policy(challenge=True).decide(step(*CHALLENGE), 0, saying(1)).intensity == 1  # never lowers
    assert policy(challenge=True).decide(step(*CHALLENGE, intensity_request=requested(0.2)), 0, never).intensity == 0.2
    assert policy().decide(step(*CHALLENGE), 0, saying(0)).intensity == 0
    assert policy(challenge=True, **rule(intensity=[0, 0.6])).decide(step(*CHALLENGE), 0, never).intensity == 0.6


def test_caps_only_tighten_and_fall_back_to_the_default() -> None:
    own = policy(
        default={"max_reasoning_tokens": 100, "max_tokens": 900, "timeout": 9},
        **rule(max_reasoning_tokens=50, answer_intensity=0.2, estimator="other", intensity=1),
    )
    limits = Limits(max_tokens=700, max_reasoning_tokens=200, timeout=20)
    decision = own.decide(step(limits=limits), 0, never)
    got = decision.limits
    assert (got.max_tokens, got.max_reasoning_tokens, got.timeout) == (700, 50, 9)
    assert (decision.answer_intensity, decision.estimator) == (0.2, "other")
    assert own.estimators == {"other"}
    tighter = Limits(max_tokens=5, max_reasoning_tokens=3, timeout=1)
    got = own.decide(step(limits=tighter), 0, never).limits
    assert dataclasses.replace(got, answer_reserve=0) == dataclasses.replace(tighter, max_tokens_by="caller")


def run_out(own: ReasoningPolicy, now: Step, tokens: int) -> Decision:
    budgets = BudgetTracker()
    own.decide(now, 0, never, budgets=budgets)
    budgets.settle(own, now, 0, Usage(tokens=tokens))
    return own.decide(dataclasses.replace(now), 1, never, budgets=budgets)


def test_a_draining_budget_lowers_the_ceiling_then_ends() -> None:
    now = step(intensity_request=requested(1.0), root_run_id="r")
    run = {"max_tokens": 1000, "answer_reserve": 50}
    assert policy(run=run).decide(now, 0, never).intensity == 1
    low = run_out(policy(run=run), now, 750)
    assert (low.intensity, low.bounds) == (0.2, (0, 0.2))  # 0.34 on the way down the grid
    assert "budget" in low.reason
    done = run_out(policy(run=run), now, 920)
    assert (done.intensity, done.tools_disabled, done.limits.max_tokens) == (0, True, 80)
    assert "used up" in done.reason
    assert run_out(policy(run=run | {"on_exhausted": "end"}), now, 750).intensity == 1
    assert policy(run=run).account(step(thread_id="t").run_context) != policy(run=run | {"per": "thread"}).account(
        step(thread_id="t").run_context
    )


def test_a_probe_thrown_away_is_paid_from_the_step() -> None:
    def estimate(base: Decision) -> Estimate:
        return dataclasses.replace(saying(1)(base), tokens=30)

    own = policy(run={"max_tokens": 200, "answer_reserve": 20})
    assert own.decide(step(root_run_id="r"), 0, estimate).limits.max_tokens == 90 - 30
    assert policy().decide(step(limits=Limits(max_tokens=90)), 0, estimate).limits.max_tokens == 90


def probing(tokens: int, thought: int, says: float) -> Any:
    """An estimator whose probe at λ=0 wrote this much."""
    events = [TokenEvent(token_id=1, part="reasoning")] * thought
    events += [TokenEvent(token_id=1, part="answer")] * (tokens - thought)
    probe = Generation(
        events=tuple(events), finish_reason="length", intensity=Intensity(0), sampling=Sampling(), prompt_tokens=1
    )
    prompt = Prompt(token_ids=(1,), template="instruct")
    return lambda base: dataclasses.replace(saying(says)(base), probe=probe, probe_prompt=prompt, tokens=tokens)


def test_a_probes_thought_counts_and_a_probe_that_took_all_is_the_answer() -> None:
    run = {"max_tokens": 120, "max_reasoning_tokens": 20, "on_exhausted": "error"}
    thrown = policy(run=run).decide(step(root_run_id="r"), 0, probing(30, 5, says=1)).limits
    assert (thrown.max_tokens, thrown.max_reasoning_tokens) == (90, 15)
    kept = policy(run=run).decide(step(root_run_id="r"), 0, probing(30, 5, says=0)).limits
    assert (kept.max_tokens, kept.max_reasoning_tokens) == (120, 20)
    whole = policy(run=run).decide(step(root_run_id="r"), 0, probing(120, 5, says=1))
    assert (whole.intensity, whole.template, whole.limits.max_tokens) == (0, "instruct", 120)
    short = policy(run=run).decide(step(root_run_id="r"), 0, probing(31, 5, says=1))
    assert (short.intensity, short.limits.max_tokens) == (0, 120)  # 60 are the answer's: a thought of 29 would be left
    assert "ends with the probe" in whole.reason


def test_attempts_climb_the_grid_and_stop_at_the_top() -> None:
    own = policy(escalation={"max_attempts": 4})
    first = own.decide(step(intensity_request=requested(0.2)), 0, never)
    second = own.decide(step(intensity_request=requested(0.2)), 1, never, first, "it was garbled")
    assert (second.intensity, second.attempt) == (0.6, 1)
    assert second.reason == "attempt 1 after λ=0.2: it was garbled"
    assert own.may_retry(second)
    assert not own.may_retry(own.decide(step(intensity_request=requested(1.0)), 0, never))  # nothing above
    assert not own.may_retry(dataclasses.replace(second, attempt=3))
    assert not policy().may_retry(first)
    ruled = policy(escalation={"max_attempts": 2}, **rule(when={"attempt": [1, None]}, intensity=1))
    assert ruled.decide(step(), 1, never, first).intensity == 1


def test_tool_errors_in_a_row_deepen_the_step_that_reads_them() -> None:
    own = policy(escalation={"max_attempts": 3})
    bad = round_of("a", failed=True)
    levels = [own.decide(step(user("x"), *bad * n), 0, saying(0)).intensity for n in range(4)]
    assert levels == [0, 0.2, 0.6, 0.6]  # at most max_attempts - 1 steps up
    assert "2 tool errors in a row: 0.6" in own.decide(step(user("x"), *bad, *bad), 0, saying(0)).reason
    assert policy().decide(step(user("x"), *bad), 0, saying(0)).intensity == 0


def test_what_is_rejected() -> None:
    broken = Reply(invalid_tool_calls=(InvalidToolCall(id="1", name="a", text="{", error="no JSON"),))
    assert "no JSON" in policy().rejects(step(), broken)
    assert not policy(escalation={"on": ["verifier"]}).rejects(step(), broken)
    judged = policy(verifier=lambda _, reply: reply.content == "7")
    assert [bool(judged.rejects(step(), Reply(content=c))) for c in "78"] == [False, True]


def test_an_empty_frontier_is_filled_in_and_accounts_are_shared() -> None:
    own = ReasoningPolicy(run={"max_tokens": 100})
    on_pair = own.with_frontier(FRONTIER)
    assert (on_pair.frontier, on_pair.with_frontier(own.frontier)) == (FRONTIER, on_pair)
    now = step(root_run_id="r")
    budgets = BudgetTracker()
    on_pair.decide(now, 0, saying(0), budgets=budgets)
    budgets.settle(on_pair, now, 0, Usage(tokens=7))
    assert budgets.spent(own, now.run_context).tokens == 7
    assert FRONTIER.fingerprint != own.frontier.fingerprint == ""
