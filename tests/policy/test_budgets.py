"""Budgets of runs: never overspent, whatever runs beside each other; charges add up; the final answer has its room."""

from __future__ import annotations

import dataclasses
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dami_agent.errors import BudgetExhausted
from dami_agent.policy import BudgetTracker, Price, ReasoningPolicy, RunBudget, Usage, caps
from dami_agent.policy.accounts import MOST_ACCOUNTS, Accounts, Reservation, Spent, _Archive
from dami_agent.policy.budgets import Budgets
from dami_agent.types import (
    Decision,
    Estimate,
    Generation,
    Intensity,
    IntensityRequest,
    Limits,
    Prompt,
    Sampling,
    TokenEvent,
)
from tests.policy.random_policies import TOOLS, policies
from tests.policy.support import round_of, step, user


def made(tokens: int, thought: int, value: float, prompt: int = 7) -> Generation:
    events = [TokenEvent(token_id=1, part="reasoning")] * thought
    events += [TokenEvent(token_id=2, part="answer")] * (tokens - thought)
    return Generation(
        events=tuple(events),
        finish_reason="stop",
        intensity=Intensity(value),
        sampling=Sampling(),
        prompt_tokens=prompt,
    )


class Worker:
    """A branch of an agent: takes steps and uses of each as much as it pleases, at most what was decided."""

    def __init__(self, policy: ReasoningPolicy, budgets: BudgetTracker, seed: int) -> None:
        self.policy, self.budgets, self.random = policy, budgets, Random(seed)
        self.used: list[tuple[str, Usage]] = []
        self.refused = 0

    def probe(self, base: Decision) -> Estimate:
        most = min(32, base.limits.max_tokens or 32)
        tokens = self.random.choice([most, self.random.randint(1, most)])
        thought = min(tokens, self.random.choice([0, 0, base.limits.max_reasoning_tokens or 0]))
        return Estimate(
            estimator="test",
            intensity=Intensity(self.random.choice([0, 0.7, 0.8, 1])),
            probe=made(tokens, thought, 0),
            probe_prompt=Prompt(token_ids=(1,), template="instruct"),
            tokens=tokens,
        )

    def one(self, place: int) -> None:
        names = self.random.choices(TOOLS, k=self.random.randint(0, 3))
        messages = (user("go"), *round_of(*names)) if names else (user("go"),)
        own = Limits(max_tokens=self.random.choice([None, None, None, 5, 50]))
        intensity_request = IntensityRequest(intensity=self.random.choice([None, None, None, Intensity(0.9), "auto"]))
        now = step(
            *messages,
            intensity_request=intensity_request,
            limits=own,
            node=self.random.choice(["n", "m"]),
            root_run_id="run",
        )
        now = step(
            *messages,
            intensity_request=intensity_request,
            limits=own,
            root_run_id="run",
            call_id=f"{id(self)}-{place}",
            node=now.run_context.node,
        )
        previous = None
        for attempt in range(self.policy.attempts):
            try:
                previous = decision = self.policy.decide(now, attempt, self.probe, previous, budgets=self.budgets)
            except BudgetExhausted:
                self.refused += 1
                return
            usage = self.decode(decision)
            if self.random.random() < 0.2:
                threading.Event().wait(0.0002)
            self.budgets.settle(self.policy, now, attempt, usage)
            self.budgets.settle(self.policy, now, attempt, usage)  # twice is once
            self.used.append((decision.charged_to, usage))
            if not self.policy.may_retry(decision):
                return

    def decode(self, decision: Decision) -> Usage:
        """As a pipeline counts: a probe that became the answer or was carried on is not counted twice."""
        limits, estimate = decision.limits, decision.estimate
        most = limits.max_tokens if limits.max_tokens is not None else 2000
        thought = min(most, limits.max_reasoning_tokens if limits.max_reasoning_tokens is not None else 2000)
        kept = estimate is not None and (decision.intensity, decision.template) == (0, "instruct")
        least = estimate.tokens if kept and estimate is not None else 1
        tokens = self.random.choice([most, most, self.random.randint(min(least, most), most)])
        thinks = self.random.choice([min(thought, tokens), 0]) if decision.template == "thinking" else 0
        probe = estimate.probe if estimate is not None else None
        if probe is not None and kept:
            own = sum(e.part == "reasoning" for e in probe.events)
            return Usage(tokens=max(tokens, probe.output_tokens), reasoning_tokens=own)
        thrown = probe.events if probe is not None else ()
        return Usage(tokens=tokens + len(thrown), reasoning_tokens=thinks + sum(e.part == "reasoning" for e in thrown))


@settings(max_examples=60, deadline=None)
@given(policies, st.integers(1, 5), st.integers(0, 2**31))
def test_no_random_branching_run_overspends(policy: ReasoningPolicy, branches: int, seed: int) -> None:
    budgets = BudgetTracker()
    workers = [Worker(policy, budgets, seed + n) for n in range(branches)]
    with ThreadPoolExecutor(branches) as pool:
        for done in [pool.submit(lambda w=w: [w.one(n) for n in range(6)]) for w in workers]:
            done.result()
    used = [entry for worker in workers for entry in worker.used]
    if not policy.budgeted:
        return
    run, spent = policy.run, budgets.spent(policy, step(root_run_id="run").run_context)
    tokens = sum(usage.tokens for _, usage in used)
    reasoning = sum(usage.reasoning_tokens for _, usage in used)
    assert (spent.tokens, spent.reasoning_tokens, spent.steps) == (tokens, reasoning, len(used))
    assert tokens <= (run.max_tokens if run.max_tokens is not None else tokens)
    assert reasoning <= (run.max_reasoning_tokens if run.max_reasoning_tokens is not None else reasoning)
    assert sum(spent.by_tool.values()) == reasoning  # charges add up
    for tool, its in policy.tools.items():
        assert spent.by_tool.get(tool, 0) == sum(u.reasoning_tokens for name, u in used if name == tool)
        if its.run_max_reasoning_tokens is not None:
            assert spent.by_tool.get(tool, 0) <= its.run_max_reasoning_tokens


@settings(deadline=None)
@given(st.integers(1, 2000), st.integers(1, 200), st.sampled_from(["taper", "end"]), st.randoms(use_true_random=False))
def test_the_step_that_finds_the_budget_drained_has_the_answers_room(
    whole: int, reserve: int, on_exhausted: str, random: Random
) -> None:
    budgets = Budgets(RunBudget(max_tokens=whole, answer_reserve=reserve, on_exhausted=on_exhausted))
    ceilings = []
    for place in range(200):
        grant = budgets.reserve("run", place, Limits(), "answer")
        most = grant.limits.max_tokens
        assert most is not None
        ceilings.append(grant.ceiling)
        if grant.tools_disabled:
            assert most >= max(1, min(reserve, whole // 2))
            assert (grant.ceiling, grant.limits.max_reasoning_tokens) == (0, 0)
            assert most == whole - budgets.spent("run").tokens  # nobody comes after it: all that is left
            break
        budgets.settle("run", place, Usage(tokens=random.choice([most, random.randint(1, most)])))
    else:
        raise AssertionError("never drained")
    assert ceilings == sorted(ceilings, reverse=True)  # λ's ceiling only sinks
    assert on_exhausted == "taper" or set(ceilings) <= {1.0, 0.0}  # as asked, or no thought at all


calls = st.lists(
    st.tuples(st.none() | st.integers(0, 5), st.none() | st.integers(1, 80), st.floats(0, 1)), min_size=1, max_size=40
)
"""What happens one after another: a call ends (which of those that run, and how much of its cap it used), or begins."""


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 600), st.integers(1, 90), st.sampled_from(["taper", "end"]), calls)
def test_no_reply_is_cut_below_an_answers_room_and_no_thought_below_its_own(
    whole: int, answer_reserve: int, on_exhausted: str, happens: list[tuple[int | None, int | None, float]]
) -> None:
    budgets = Budgets(RunBudget(max_tokens=whole, answer_reserve=answer_reserve, on_exhausted=on_exhausted))
    reserve = max(1, min(answer_reserve, whole // 2))
    running: list[tuple[int, int]] = []
    spent, answered = 0, False
    for place, (ends, own, used) in enumerate(happens):
        if ends is not None and running:
            key, cap = running.pop(ends % len(running))
            spent += round(used * cap)
            budgets.settle("run", key, Usage(tokens=round(used * cap)))
            continue
        free = whole - spent - sum(cap for _, cap in running)
        need = reserve if own is None else min(own, reserve)
        try:
            grant = budgets.reserve("run", place, Limits(max_tokens=own), "answer")
        except BudgetExhausted:
            assert free < need
            assert answered  # until an answer without tools was given, there is room for one
            continue
        cap = grant.limits.max_tokens
        assert cap is not None
        running.append((place, cap))
        assert need <= cap <= free
        answered |= grant.tools_disabled
        if grant.limits.max_reasoning_tokens == 0:
            assert grant.ceiling == 0
        elif own is None or cap < own:
            assert cap - grant.answer_reserve >= grant.answer_reserve == reserve
        if not grant.tools_disabled:
            assert free - cap >= reserve  # the final answer's


def test_what_runs_beside_each_other_is_set_aside() -> None:
    budgets = Budgets(RunBudget(max_tokens=100, answer_reserve=10, on_exhausted="end"))
    grants = [budgets.reserve("run", branch, Limits(), "answer") for branch in range(4)]
    caps = [grant.limits.max_tokens for grant in grants]
    assert caps == [45, 23, 20, 12]  # half of what is not the final answer's; a thought and an answer; then the rest
    assert [grant.limits.max_reasoning_tokens for grant in grants] == [None, None, None, 0]
    assert [grant.tools_disabled for grant in grants] == [False] * 3 + [True]
    with pytest.raises(BudgetExhausted, match=r"(?s)no tokens left, the rest is set aside.*raise run\.max_tokens"):
        budgets.reserve("run", 6, Limits(), "answer")
    budgets.settle("run", 0, Usage(tokens=1))
    assert budgets.reserve("run", "next", Limits(), "answer").limits.max_tokens
    budgets.settle("run", 1, None)  # nobody knows what it used: all of it
    assert budgets.spent("run").tokens == 1 + 23
    assert budgets.spent("other").tokens == 0


def test_an_error_budget_gives_all_and_then_fails() -> None:
    budgets = Budgets(RunBudget(max_tokens=100, on_exhausted="error"))
    assert budgets.reserve("run", 0, Limits(max_tokens=70), "answer").limits.max_tokens == 70
    assert budgets.reserve("run", 1, Limits(max_tokens=70), "answer").limits.max_tokens == 30
    with pytest.raises(BudgetExhausted, match="no tokens left"):
        budgets.reserve("run", 2, Limits(), "answer")


def test_a_tool_that_used_up_its_share_is_answered_without_thought() -> None:
    budgets = Budgets(tools={"search": 50})
    first = budgets.reserve("run", 0, Limits(max_reasoning_tokens=40), "search")
    assert (first.limits.max_reasoning_tokens, first.ceiling) == (40, 1)
    budgets.settle("run", 0, Usage(tokens=50, reasoning_tokens=20))
    assert budgets.reserve("run", 1, Limits(max_reasoning_tokens=26), "search").limits.max_reasoning_tokens == 26
    third = budgets.reserve("run", 2, Limits(), "search")  # four are left: a thought of four helps nobody
    assert (third.limits.max_reasoning_tokens, third.ceiling, third.tools_disabled) == (0, 0, False)
    assert budgets.reserve("run", 3, Limits(), "sum").limits.max_reasoning_tokens is None


def test_seconds_count_once_for_calls_that_run_together_and_bound_the_deadline() -> None:
    now = [100.0]
    budgets = Budgets(RunBudget(max_seconds=10, on_exhausted="end"), clock=lambda: now[0])
    budgets.reserve("run", 0, Limits(), "answer")
    now[0] += 2
    assert budgets.reserve("run", 1, Limits(timeout=60), "answer").limits.timeout == 7  # a second is kept
    now[0] += 1
    budgets.settle("run", 0, Usage())
    now[0] += 1
    budgets.settle("run", 1, Usage())
    now[0] += 50  # nothing runs: nothing counts
    assert budgets.spent("run").seconds == 4
    budgets.reserve("run", 2, Limits(), "answer")
    now[0] += 5.5
    last = budgets.reserve("run", 3, Limits(), "answer")
    assert (last.tools_disabled, last.limits.timeout) == (True, 0.5)
    now[0] += 1
    with pytest.raises(BudgetExhausted, match="seconds"):
        budgets.reserve("run", 4, Limits(), "answer")


def test_cost_bounds_tokens() -> None:
    price = Price(prompt=10, output=100)
    budgets = Budgets(RunBudget(max_cost=0.01, price=price, on_exhausted="error"))  # 100 output tokens
    assert budgets.reserve("run", 0, Limits(max_tokens=60), "answer").limits.max_tokens == 60
    assert budgets.reserve("run", 1, Limits(), "answer").limits.max_tokens == 40
    budgets.settle("run", 0, Usage(tokens=20, prompt_tokens=100))
    assert budgets.spent("run").cost == pytest.approx(20 * 1e-4 + 100 * 1e-5)


def test_what_was_used_before_counts_like_a_step_that_was_settled() -> None:
    used = Usage(tokens=30, reasoning_tokens=20, prompt_tokens=9)
    run = RunBudget(max_tokens=100, max_reasoning_tokens=50, price=Price(prompt=2.0, output=5.0))
    stepped, charged = Budgets(run), Budgets(run)
    stepped.reserve("a", 1, Limits(), "earlier")
    stepped.settle("a", 1, used)
    charged.charge("a", used, "earlier")
    spent = charged.spent("a")
    assert (spent.tokens, spent.reasoning_tokens, spent.by_tool, spent.steps) == (30, 20, {"earlier": 20}, 1)
    assert spent.cost == stepped.spent("a").cost == pytest.approx((30 * 5 + 9 * 2) / 1e6)
    assert charged.reserve("a", 2, Limits(), "x") == stepped.reserve("a", 2, Limits(), "x")
    assert charged.spent("b").tokens == 0


def test_a_threads_budget_is_not_fresh_after_ten_thousand_other_threads() -> None:
    budgets = Budgets(RunBudget(max_tokens=150, per="thread", on_exhausted="error"), {"search": 90})
    budgets.charge("thread a", Usage(tokens=150, reasoning_tokens=70), "search")
    budgets.charge("thread \ud800", Usage(tokens=20), "answer")
    for other in range(MOST_ACCOUNTS + 50):
        budgets.charge(f"thread {other}", Usage(tokens=1), "answer")
    assert budgets.accounts_in_memory == MOST_ACCOUNTS  # memory is bounded all the same
    with pytest.raises(BudgetExhausted):
        budgets.reserve("thread a", 0, Limits(), "answer")
    spent = budgets.spent("thread a")
    assert (spent.tokens, spent.reasoning_tokens, spent.by_tool, spent.steps) == (150, 70, {"search": 70}, 1)
    assert budgets.reserve("thread \ud800", 0, Limits(), "answer").limits.max_tokens == 130
    assert budgets.reserve("thread new", 0, Limits(), "answer").limits.max_tokens == 150


def test_an_account_with_an_open_call_stays_in_memory_and_one_that_cannot_be_put_away_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    accounts = Accounts(most=2)
    accounts.open("open").open["call"] = Reservation(
        tokens=1, reasoning_tokens=0, seconds=0, cost=0, charged_to="answer"
    )
    for name in "abc":
        accounts.open(name).spent = Spent(tokens=5, steps=1)
    assert "open" in accounts.in_memory
    assert [getattr(accounts.find(name), "spent").tokens for name in "abc"] == [5, 5, 5]  # noqa: B009
    monkeypatch.setattr(_Archive, "put", lambda *_: (_ for _ in ()).throw(sqlite3.OperationalError("disk is full")))
    for name in "def":
        accounts.open(name).spent = Spent(tokens=6, steps=1)
    assert [getattr(accounts.find(name), "spent").tokens for name in "abcdef"] == [5, 5, 5, 6, 6, 6]  # noqa: B009


def test_of_single_runs_only_the_last_million_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dami_agent.policy.accounts.MOST_RUNS", 500)
    archive = _Archive()
    archive.put("thread old", Spent(tokens=7, steps=1))
    for n in range(2_000):
        archive.put(f"run {n}", Spent(tokens=n, steps=1))
    assert archive.get("run 3") is None
    assert archive.get("run 1999") == Spent(tokens=1999, steps=1)
    assert archive.get("thread old") == Spent(tokens=7, steps=1)


def test_an_estimate_that_only_read_leaves_less_time() -> None:
    estimate = Estimate(estimator="preference", intensity=Intensity(1), scored_tokens=900, seconds=5.0)
    decision = Decision(
        intensity=Intensity(1),
        template="thinking",
        reason="",
        limits=Limits(max_tokens=50, timeout=6.0),
        estimate=estimate,
    )
    charged = caps.charge_probe(decision)
    assert charged.limits.timeout == pytest.approx(1.0)
    assert charged.limits.max_tokens == 50
    late = dataclasses.replace(decision, estimate=dataclasses.replace(estimate, seconds=60.0))
    assert 0 < (caps.charge_probe(late).limits.timeout or 0) < 0.01
