"""Equal policies have one fingerprint, and share accounts where they share a tracker, and nowhere else."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.runnables import RunnableLambda

from dami_agent.errors import InvalidPolicy
from dami_agent.policy import BudgetTracker, Price, ReasoningPolicy, Rule, RunBudget, ToolSettings, When, budget_tracker
from dami_agent.policy.registry import read_policy
from dami_agent.testing import FakeReply, fake_chat_model
from dami_agent.types import RunContext, Usage
from tests.policy.support import never, requested, step

RUN = RunContext(root_run_id="run")

spec = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["a", "b"]),
        "default": st.sampled_from([{"intensity": 0}, {"intensity": 0.5}, {"effort": "low", "max_tokens": 3}]),
        "run": st.fixed_dictionaries({}, optional={"max_tokens": st.integers(1, 3), "per": st.just("thread")}),
        "tools": st.dictionaries(st.sampled_from("xyz"), st.just({"intensity": [0, 0.5]})),
        "rules": st.lists(st.sampled_from([{"intensity": 0}, {"intensity": 1}]), max_size=2),
    },
)


def turned(value: Any, random: Random) -> Any:
    """The same with the keys of all dicts in another order."""
    if isinstance(value, dict):
        keys = random.sample(list(value), len(value))
        return {key: turned(value[key], random) for key in keys}
    return [turned(each, random) for each in value] if isinstance(value, list) else value


def read(value: Any) -> ReasoningPolicy:
    policy = read_policy(value)
    assert policy is not None
    return policy


@settings(deadline=None)
@given(spec, spec, st.randoms(use_true_random=False))
def test_equal_dicts_have_one_fingerprint_and_others_have_others(one: Any, other: Any, random: Random) -> None:
    first = read(one)
    assert read(turned(one, random)).fingerprint == first.fingerprint
    assert read(json.loads(json.dumps(one))).fingerprint == first.fingerprint
    assert pickle.loads(pickle.dumps(first)).fingerprint == first.fingerprint
    assert (read(other).fingerprint == first.fingerprint) == (read(other) == first)


def test_numbers_and_truths_are_not_the_same() -> None:
    """Python's dicts say that 1 == True == 1.0; a rule on metadata must not be taken for another."""
    found = [read({"rules": [{"when": {"metadata": {"k": value}}}]}) for value in (1, True, "1")]
    assert len({policy.fingerprint for policy in found}) == 3


def test_models_in_a_dict_say_what_plain_values_say() -> None:
    given_ = {"tools": {"s": ToolSettings(intensity=(0, 0.5))}, "run": RunBudget(max_cost=1, price=Price(output=2))}
    plain = {"tools": {"s": {"intensity": [0, 0.5]}}, "run": {"max_cost": 1, "price": Price(output=2)}}
    assert read_policy(given_) is not None
    assert read_policy(given_) == read_policy(plain)
    assert read_policy({"rules": [Rule(name="r", when=When(node="n"))]}) == read_policy(
        {"rules": [{"name": "r", "when": {"node": ["n"]}}]}
    )


@pytest.mark.parametrize("value", [{"rules": [{"when": {"metadata": {"k": object()}}}]}, {"run": {"max_tokens": {1}}}])
def test_what_cannot_be_told_apart_is_refused(value: Any) -> None:
    with pytest.raises(InvalidPolicy, match="plain values"):
        read_policy(value)


def test_branches_that_read_it_first_at_the_same_time_share_one_account() -> None:
    budgets, barrier = BudgetTracker(), threading.Barrier(8)

    def charge(_: int) -> None:
        barrier.wait()
        budgets.charge(read({"run": {"max_tokens": 77}}), RUN, Usage(tokens=1), "answer")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(charge, range(8)))
    assert budgets.spent(read({"run": {"max_tokens": 77}}), RUN).tokens == 8


def test_equal_policies_share_accounts_only_in_one_tracker() -> None:
    one, other = read({"run": {"max_tokens": 77}}), read({"run": {"max_tokens": 77}})
    first, second = BudgetTracker(), BudgetTracker()
    first.charge(one, RUN, Usage(tokens=5), "answer")
    assert first.spent(other, RUN).tokens == 5
    assert second.spent(other, RUN).tokens == second.spent(one, RUN).tokens == 0
    assert first.spent(read({"run": {"max_tokens": 78}}), RUN).tokens == 0


def test_models_share_accounts_only_if_they_are_given_one_tracker() -> None:
    policy, reply, budgets = {"run": {"max_tokens": 9_000}}, [FakeReply("Seven.")] * 2, BudgetTracker()
    alone, one, other = (
        fake_chat_model(reply, policy=policy, **m) for m in ({}, {"budgets": budgets}, {"budgets": budgets})
    )

    def chain(_: Any) -> None:
        for model in (alone, one, other, other.bind(seed=3)):
            model.invoke("Count.")

    RunnableLambda(chain).invoke("go")
    (root,) = {row.root_run_id for row in other.ledger.rows()}
    rows = [sum(row.output_tokens for row in model.ledger.rows()) for model in (alone, one, other)]
    run_context = RunContext(root_run_id=root)
    assert alone.policy is not None
    assert alone.budgets.spent(alone.policy, run_context).tokens == rows[0]
    assert budgets.spent(alone.policy, run_context).tokens == sum(rows[1:])


def test_a_policy_is_a_frozen_value() -> None:
    policy = ReasoningPolicy(run={"max_tokens": 77}, tools={"search": {"run_max_reasoning_tokens": 5}})
    before = repr(policy), pickle.dumps(policy)
    budgets = BudgetTracker()
    decided = policy.decide(step(root_run_id="run", intensity_request=requested(0)), 0, never, budgets=budgets)
    assert (repr(policy), pickle.dumps(policy)) == before
    assert decided == policy.decide(step(root_run_id="run", intensity_request=requested(0)), 0, never)
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.name = "other"  # type: ignore[misc]


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("run: {max_tokens: 5}")
    first = read(path)
    monkeypatch.chdir(tmp_path)
    assert read("p.yaml").fingerprint == read(path).fingerprint
    path.write_text("run: {max_tokens: 6}")
    os.utime(path, ns=(1, 1))
    second = read(path)
    assert second != first
    assert second.run.max_tokens == 6  # type: ignore[union-attr]


def test_presets_policies_and_nothing() -> None:
    own = ReasoningPolicy()
    assert read_policy(own) is own
    assert read_policy(None) is None
    assert read("frugal") == read("frugal")
    with pytest.raises(InvalidPolicy, match="did you mean 'frugal'"):
        read_policy("frugl")
    with pytest.raises(InvalidPolicy, match="give a ReasoningPolicy"):
        read_policy(3)


def test_the_policy_that_was_unused_longest_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget_tracker, "MOST_POLICIES", 2)
    budgets = BudgetTracker()
    one, two, three = (read({"run": {"max_tokens": n}}) for n in (1, 2, 3))
    for policy in (one, two, one, three):
        budgets.charge(policy, RUN, Usage(tokens=1), "answer")
    assert budgets.spent(one, RUN).tokens == 2
    assert budgets.spent(two, RUN).tokens == 0
