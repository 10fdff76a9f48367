"""No thought is begun that will not fit: λ by how long a thought gets, and by what caps and budgets leave."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from dami_agent.errors import BudgetExhausted
from dami_agent.policy import BudgetTracker, ReasoningPolicy
from dami_agent.policy.budgets import Budgets
from dami_agent.policy.resolve import EstimateFn
from dami_agent.policy.rules import RunBudget
from dami_agent.types import Candidate, Decision, Estimate, Intensity, Limits, Step, Usage
from tests.policy.support import FRONTIER, round_of, step, user

LENGTHS = {1.0: 240, 0.8: 180, 0.6: 90, 0.2: 30, 0.0: 0}
"""λ, the best first -> tokens that its thought needs."""


def ranked(_: Decision) -> Estimate:
    candidates = tuple(Candidate(intensity=Intensity(x), reasoning_tokens=n) for x, n in LENGTHS.items())
    return Estimate(estimator="test", intensity=candidates[0].intensity, candidates=candidates)


def looked_at(lengths: Mapping[float, int], *, best: float | None = None, probe: int = 0) -> EstimateFn:
    """An estimator that looked at these λs, the best first, and spent a probe's tokens on that."""
    candidates = tuple(Candidate(intensity=Intensity(x), reasoning_tokens=n) for x, n in lengths.items())
    first = candidates[0].intensity if best is None else Intensity(best)
    return lambda _: Estimate(estimator="test", intensity=first, candidates=candidates, tokens=probe)


def policy(**said: Any) -> ReasoningPolicy:
    return ReasoningPolicy.from_dict({"default": {"intensity": "auto"}, **said}, frontier=FRONTIER)


def decided(
    rules: ReasoningPolicy, now: Step, budgets: BudgetTracker | None = None, estimate: EstimateFn = ranked, **more: Any
) -> Decision:
    return rules.decide(now, 0, estimate, budgets=budgets, **more)


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
    assert ("a thought at 1 takes about 240 tokens" in decision.reason) == (intensity != 1)


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


def test_what_is_expected_decides_and_what_is_seldom_exceeded_is_asked_for() -> None:
    def longer(_: Decision) -> Estimate:
        thoughts = ((1.0, 100, 180), (0.0, 0, 0))
        candidates = tuple(
            Candidate(intensity=Intensity(x), reasoning_tokens=n, most_reasoning_tokens=most) for x, n, most in thoughts
        )
        return Estimate(estimator="test", intensity=Intensity(1), candidates=candidates)

    rules = policy(run={"max_reasoning_tokens": 300, "on_exhausted": "end"})
    for spent, cap in ((0, 180), (100, 180), (150, 150), (200, 100)):
        budgets = BudgetTracker()
        decided(rules, call(1), budgets, longer)
        spend(rules, call(1), budgets, spent)
        decision = decided(rules, call(2), budgets, longer)
        assert (decision.intensity, decision.limits.max_reasoning_tokens) == (1, cap)
    budgets = BudgetTracker()
    decided(rules, call(1), budgets, longer)
    spend(rules, call(1), budgets, 201)
    assert decided(rules, call(2), budgets, longer).intensity == 0


def test_only_what_does_not_fit_is_replaced() -> None:
    """The estimator's λ stands although the first of its candidates is another."""
    decision = decided(policy(), step(), estimate=looked_at({0.0: 0, 0.2: 30, 1.0: 240}, best=1))
    assert decision.intensity == 1
    assert "room" not in decision.reason


def test_snapping_leads_to_no_thought_without_room() -> None:
    now = step(limits=Limits(max_reasoning_tokens=100))
    lengths = {0.5: 80, 0.2: 30, 0.0: 0, 0.6: 180, 1.0: 240}
    assert decided(policy(), now, estimate=looked_at(lengths)).intensity == 0.2, "0.6 is the nearest of the grid"


def test_the_preference_is_bounded_where_the_best_one_fits_too() -> None:
    now = step(limits=Limits(max_reasoning_tokens=100))
    lengths = {0.2: 30, 0.6: 90, 1.0: 240, 0.0: 0}
    decision = decided(policy(accuracy_over_cost=0.9), now, estimate=looked_at(lengths))
    assert decision.intensity == 0.6
    assert "room for a thought" in decision.reason


def test_where_nothing_fits_no_thought_is_begun() -> None:
    now = step(limits=Limits(max_reasoning_tokens=10))
    assert decided(policy(), now, estimate=looked_at({1.0: 240, 0.6: 90})).intensity == 0


def test_tool_errors_and_retries_go_no_deeper_than_there_is_room() -> None:
    on = {"escalation": {"max_attempts": 3, "on": ["tool_error", "verifier"]}}
    limits = Limits(max_reasoning_tokens=100)
    failed = step(user("go"), *round_of("look", failed=True), limits=limits)
    lengths = {0.6: 90, 1.0: 240, 0.8: 180, 0.2: 30, 0.0: 0}
    assert decided(policy(**on), step(limits=limits), estimate=looked_at(lengths)).intensity == 0.6
    first = decided(policy(**on), failed, estimate=looked_at(lengths))
    assert first.intensity == 0.6
    second = policy(**on).decide(failed, 1, looked_at(lengths), first, "wrong")
    assert second.intensity == 0.6


def test_a_template_without_thoughts_needs_no_room() -> None:
    frontier = dataclasses.replace(FRONTIER, switch_point=0.6)
    rules = ReasoningPolicy.from_dict({"default": {"intensity": "auto"}}, frontier=frontier)
    now = step(limits=Limits(max_reasoning_tokens=50))
    assert decided(rules, now, estimate=looked_at({0.6: 90, 0.0: 0})).intensity == 0.6


def test_a_discarded_probe_takes_its_tokens_from_the_room() -> None:
    now = step(limits=Limits(max_tokens=520, answer_reserve=260))
    assert decided(policy(), now, estimate=looked_at({1.0: 240, 0.6: 90, 0.0: 0}, probe=20)).intensity == 1
    assert decided(policy(), now, estimate=looked_at({1.0: 240, 0.6: 90, 0.0: 0}, probe=21)).intensity == 0.6


def test_zero_waits_for_nobody() -> None:
    rules, budgets = policy(run={"max_reasoning_tokens": 300, "on_exhausted": "end"}), BudgetTracker()
    decided(rules, call(1), budgets)
    begun = time.monotonic()
    decision = decided(rules, call(2), budgets, looked_at({0.5: 200, 1.0: 280}, best=0))
    assert decision.intensity == 0
    assert time.monotonic() - begun < 0.5


class Waiting:
    """Calls in threads of their own, each of which lives until the end, as its number says who it is."""

    def __init__(self) -> None:
        self._end = threading.Event()
        self.threads: list[threading.Thread] = []

    def __call__(self, work: Callable[[], Any]) -> list[Any]:
        """Begin some work; the list fills with its result."""
        found: list[Any] = []

        def run() -> None:
            try:
                found.append(work())
            except BaseException as error:
                found.append(error)
            self._end.wait(30)

        self.threads.append(threading.Thread(target=run, daemon=True))
        self.threads[-1].start()
        return found

    def end(self) -> None:
        self._end.set()
        for thread in self.threads:
            thread.join()


@pytest.fixture
def aside() -> Iterator[Waiting]:
    waiting = Waiting()
    yield waiting
    waiting.end()


def soon(condition: Callable[[], bool]) -> None:
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < 20
        time.sleep(0.01)


def test_what_a_waiting_call_has_set_aside_goes_to_nobody(aside: Waiting) -> None:
    """A hard budget is not overspent by a call that waits to widen, gives up, and uses what it had."""
    rules, budgets = policy(run={"max_tokens": 1000, "on_exhausted": "error"}), BudgetTracker()
    first = aside(lambda: budgets.reserve(rules, call(1), 0, Limits(max_tokens=600), "answer"))
    soon(lambda: bool(first))
    second = call(2, limits=Limits(max_tokens=800, timeout=1.0))
    waiting = aside(lambda: decided(rules, second, budgets, looked_at({1.0: 390, 0.6: 90, 0.0: 0})))
    third = aside(lambda: budgets.reserve(rules, call(3, limits=Limits(timeout=2.0)), 0, Limits(timeout=2.0), "answer"))
    soon(lambda: bool(waiting) and bool(third))
    assert waiting[0].limits.max_tokens <= 400
    granted = 0 if isinstance(third[0], BudgetExhausted) else third[0].limits.max_tokens
    assert 600 + waiting[0].limits.max_tokens + granted <= 1000


def test_two_calls_that_would_widen_do_not_wait_for_each_other(aside: Waiting) -> None:
    rules, budgets = policy(run={"max_reasoning_tokens": 400, "on_exhausted": "end"}), BudgetTracker()
    both = threading.Barrier(2)

    def estimated(base: Decision) -> Estimate:
        both.wait(10)  # both have set something aside by now
        return looked_at({1.0: 390, 0.2: 30, 0.0: 0})(base)

    found = [aside(lambda number=number: decided(rules, call(number), budgets, estimated)) for number in (1, 2)]  # type: ignore[misc]
    begun = time.monotonic()
    soon(lambda: any(found))
    assert time.monotonic() - begun < 5, "the one that finds the other waiting takes what there is"
    first = 1 if found[0] else 2
    assert found[first - 1][0].intensity == 0.2
    spend(rules, call(first), budgets, 5)
    soon(lambda: all(found))
    assert found[2 - first][0].intensity == 1, "the other waited for it to end"


@pytest.mark.parametrize("mode", ["end", "taper"])
def test_a_budget_that_is_spent_meanwhile_says_so(aside: Waiting, mode: str) -> None:
    rules = policy(run={"max_tokens": 1000, "answer_reserve": 50, "on_exhausted": mode})
    budgets = BudgetTracker()
    first = aside(lambda: budgets.reserve(rules, call(1), 0, Limits(), "answer"))
    soon(lambda: bool(first))
    now = call(2, tools=("look",))
    waiting = aside(lambda: decided(rules, now, budgets, looked_at({1.0: 350, 0.6: 90, 0.0: 0})))
    time.sleep(0.3)
    assert not waiting
    budgets.settle(rules, call(1), 0, Usage(tokens=920))
    soon(lambda: bool(waiting))
    assert waiting[0].intensity == 0
    assert waiting[0].tools_disabled
    assert "used up" in waiting[0].reason


@pytest.mark.parametrize("need", [140, 240])  # the second is widened
def test_waiting_and_estimating_come_off_the_timeout_once(need: int) -> None:
    def slow(base: Decision) -> Estimate:
        time.sleep(0.5)
        return dataclasses.replace(looked_at({1.0: need, 0.0: 0})(base), seconds=0.5)

    rules = policy(run={"max_reasoning_tokens": 300, "on_exhausted": "end"})
    decision = decided(rules, call(1, limits=Limits(timeout=8.0)), BudgetTracker(), slow)
    assert decision.intensity == 1
    assert decision.limits.timeout == pytest.approx(7.5, abs=0.3)
    rules = policy(run={"max_reasoning_tokens": 300, "max_seconds": 10, "on_exhausted": "end"})
    decision = decided(rules, call(1), BudgetTracker(), slow)
    assert decision.limits.timeout == pytest.approx(8.5, abs=0.3)  # a tenth is the final answer's


def test_time_that_ends_while_it_is_counted_loses_no_reservation() -> None:
    clock = iter(itertools.chain([0.0, 0.0, 0.0, 9.9], itertools.count(9.95, 0.02)))
    budgets = Budgets(RunBudget(max_seconds=10, max_tokens=1000), clock=lambda: next(clock))
    budgets.reserve("a", "k", Limits(), "answer")
    for _ in range(5):
        with contextlib.suppress(BudgetExhausted):
            budgets.reserve("a", "k", Limits(), "answer", need=600)
    budgets.settle("a", "k", None)
    assert budgets.spent("a").tokens > 0


def test_a_step_that_finds_the_budget_gone_meanwhile_keeps_what_it_had() -> None:
    rules, budgets = policy(run={"max_reasoning_tokens": 300, "on_exhausted": "error"}), BudgetTracker()
    decision = decided(rules, call(1), budgets)
    assert decision.intensity == 1
    spend(rules, call(1), budgets, 240)
    assert decided(rules, call(2), budgets).intensity == 0.2
    assert budgets.spent(rules, call(2).run_context).reasoning_tokens == 240
