"""What names a policy names one policy: equal dicts whatever their order, files until they change, at once too."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dami_agent.chat_model import policies
from dami_agent.chat_model.policies import read_policy
from dami_agent.errors import InvalidPolicy
from dami_agent.policy import Price, ReasoningPolicy, Rule, RunBudget, ToolSettings, When


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "_kept", type(policies._kept)())


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


@settings(deadline=None)
@given(spec, spec, st.randoms(use_true_random=False))
def test_equal_dicts_are_one_policy_and_others_are_others(one: Any, other: Any, random: Random) -> None:
    first = read_policy(one)
    assert read_policy(turned(one, random)) is first
    assert read_policy(json.loads(json.dumps(one))) is first
    assert (read_policy(other) is first) == (other == one)


def test_numbers_and_truths_are_not_the_same() -> None:
    """Python's dicts say that 1 == True == 1.0; a rule on metadata must not be taken for another."""
    found = [read_policy({"rules": [{"when": {"metadata": {"k": value}}}]}) for value in (1, True, "1")]
    assert len({id(policy) for policy in found}) == 3


def test_models_in_a_dict_say_what_plain_values_say() -> None:
    given_ = {"tools": {"s": ToolSettings(intensity=(0, 0.5))}, "run": RunBudget(max_money=1, price=Price(output=2))}
    plain = {"tools": {"s": {"intensity": [0, 0.5]}}, "run": {"max_money": 1, "price": Price(output=2)}}
    assert read_policy(given_) is not None
    assert read_policy(given_) == read_policy(plain)
    assert read_policy({"rules": [Rule(name="r", when=When(node="n"))]}) == read_policy(
        {"rules": [{"name": "r", "when": {"node": ["n"]}}]}
    )


@pytest.mark.parametrize("value", [{"rules": [{"when": {"metadata": {"k": object()}}}]}, {"run": {"max_tokens": {1}}}])
def test_what_cannot_be_told_apart_is_refused(value: Any) -> None:
    with pytest.raises(InvalidPolicy, match="plain values"):
        read_policy(value)


def test_branches_that_read_it_first_at_the_same_time_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ReasoningPolicy] = []
    barrier = threading.Barrier(8)
    build = ReasoningPolicy.from_dict

    def slow(data: Any) -> ReasoningPolicy:
        threading.Event().wait(0.02)
        made.append(build(data))
        return made[-1]

    def read(_: int) -> Any:
        barrier.wait()
        return read_policy({"run": {"max_tokens": 77}})

    monkeypatch.setattr(ReasoningPolicy, "from_dict", slow)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, range(8)))
    assert len(made) == 1
    assert all(policy is made[0] for policy in found)


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("run: {max_tokens: 5}")
    first = read_policy(path)
    monkeypatch.chdir(tmp_path)
    assert read_policy("p.yaml") is first
    path.write_text("run: {max_tokens: 6}")
    os.utime(path, ns=(1, 1))
    second = read_policy(path)
    assert second is not first
    assert second is not None
    assert second.run.max_tokens == 6  # type: ignore[union-attr]


def test_presets_policies_and_nothing() -> None:
    own = ReasoningPolicy()
    assert read_policy(own) is own
    assert read_policy(None) is None
    assert read_policy("frugal") is read_policy("frugal")
    with pytest.raises(InvalidPolicy, match="did you mean 'frugal'"):
        read_policy("frugl")
    with pytest.raises(InvalidPolicy, match="give a ReasoningPolicy"):
        read_policy(3)


def test_the_longest_unused_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "_MOST", 2)
    one, two = ({"run": {"max_tokens": n}} for n in (1, 2))
    first, second = read_policy(one), read_policy(two)
    assert read_policy(one) is first
    read_policy({"run": {"max_tokens": 3}})
    assert read_policy(one) is first
    assert read_policy(two) is not second
