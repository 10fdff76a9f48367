"""Policies of strangers: whatever stands in a file or dict, one error of ours comes out, and soon."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dami_agent.errors import DamiError, InvalidPolicy
from dami_agent.policy import BudgetTracker, Frontier, ReasoningPolicy, RunBudget
from dami_agent.policy.registry import read_policy
from dami_agent.policy.rules import PolicyFile, Rule, Settings, ToolSettings, When
from tests.policy.support import FRONTIER, saying, step, user

SOON = 0.1
"""Processor seconds of this thread within which a bomb is to be refused; asserted with a margin, for slow machines."""
MARGIN = 5

KEYS = sorted(
    {name for model in (PolicyFile, Rule, Settings, ToolSettings, When, RunBudget) for name in model.model_fields}
    | {"output", "cached", "device_second", "intensty", "", "a" * 300, "<<", "on", "\x1b[31m", "~"}
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**30), 2**63, 0, 1, 5])
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["auto", "high", "low", "taper", "thread", "error", "(", "^(a+)+$", "(?=a)", "a{999999999}"])
)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=16,
)
policies = st.dictionaries(st.sampled_from(sorted(PolicyFile.model_fields)), trees, max_size=5)

YAML_PIECES = st.sampled_from(
    [
        *KEYS,
        "&a ",
        "*a",
        "<<: ",
        "- ",
        "\n",
        "\n  ",
        ": ",
        "[",
        "]",
        "{",
        "}",
        "!!python/name:os.system ",
        "!!binary ",
        "010",
        "? ",
        "|\n",
        ">\n ",
        "'",
        '"',
        "%YAML 1.1\n---\n",
        "...",
        "\t",
        "\x00",
        "\ud800",
        "\ufeff",
        "1:30",
        ".nan",
        "#",
    ]
)
TOML_PIECES = st.sampled_from(
    [
        *KEYS,
        "[",
        "]",
        "[[",
        "]]",
        "\n",
        " = ",
        ".",
        ",",
        "{",
        "}",
        "'''",
        '"""',
        "'",
        '"',
        "0x",
        "1e999",
        "nan",
        "-inf",
        "010",
        "2026-01-01",
        "\\u0000",
        "\x00",
        "\ud800",
        "#",
    ]
)


def loaded(make: Any, *given: Any) -> ReasoningPolicy | None:
    """The policy, or None where it was refused with an error of ours that says what to do."""
    with suppress(InvalidPolicy):
        policy = make(*given)
        assert isinstance(policy, ReasoningPolicy)
        return policy
    with pytest.raises(InvalidPolicy) as refused:  # the second time too
        make(*given)
    assert refused.value.hint
    assert len(str(refused.value)) < 20_000
    return None


def used(policy: ReasoningPolicy | None) -> None:
    """Whatever was accepted must be able to decide."""
    if policy is None:
        return
    budgets = BudgetTracker()
    now = step(user("are you sure?"), tools=("a",), tags=("t",), metadata={"name": 1}, call_id="c", root_run_id="r")
    try:
        decision = policy.with_frontier(FRONTIER).decide(now, 0, saying(0.4), budgets=budgets)
    except DamiError:
        return
    assert 0 <= decision.intensity <= 1
    budgets.settle(policy, now, 0, None)
    assert repr(policy)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=policies)
@example(data={"run": {"max_tokens": 10**400}})
@example(data={"run": {"max_cost": 10**400, "price": {"output": 10**400}}})
@example(data={"default": {"intensity": 10**5000}})
@example(data={"default": {"timeout": 10**400}})
@example(data={"rules": [{"when": {"metadata": {"x": math.nan}}}]})
@example(data={"tools": {"a": {"intensity": [0, [0]]}}})
@example(data={"default": {"effort": ["high"]}})
def test_any_structure_is_a_policy_or_an_invalid_one(data: dict[str, Any]) -> None:
    used(loaded(ReasoningPolicy.from_dict, data))
    used(loaded(read_policy, data))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(YAML_PIECES | st.text(max_size=3), max_size=30))
def test_any_text_is_yaml_of_a_policy_or_an_invalid_one(tmp_path: Path, pieces: list[str]) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes("".join(pieces).encode("utf-8", "surrogatepass"))
    used(loaded(ReasoningPolicy.from_file, path))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(TOML_PIECES | st.text(max_size=3), max_size=30))
def test_any_text_is_toml_of_a_policy_or_an_invalid_one(tmp_path: Path, pieces: list[str]) -> None:
    path = tmp_path / "p.toml"
    path.write_bytes("".join(pieces).encode("utf-8", "surrogatepass"))
    used(loaded(ReasoningPolicy.from_file, path))


def doubling(levels: int, merge: str = "") -> str:
    """Each level holds the one before it nine times."""
    lines = ["metadata:", "- &l0 {x: lol}"]
    for n in range(1, levels):
        nine = ", ".join([f"*l{n - 1}"] * 9)
        lines.append(f"- &l{n} {{<<: [{nine}], y{n}: {n}}}" if merge else f"- &l{n} [{nine}]")
    return "\n".join(lines) + "\n"


BOMBS = {
    "laughs.yaml": doubling(12),
    "merges.yaml": doubling(12, "<<"),
    "cycle.yaml": "rules: &a\n- *a\n",
    "self.yaml": "tools: &a {x: *a}\n",
    "brackets.yaml": "[" * 100_000,
    "braces.yaml": "{a: " * 50_000,
    "dashes.yaml": "- " * 5_000 + "x",
    "keys.yaml": "? " * 5_000 + "x",
    "digits.yaml": "run: {max_tokens: " + "9" * 200_000 + "}",
    "long.yaml": "name: " + "x" * 500_000,
    "many.yaml": "[" + "1," * 100_000 + "]",
    "nul.yaml": "name: \x00",
    "nan.yaml": "run: {max_seconds: .nan}",
    "inf.yaml": "run: {max_cost: .inf, price: {output: 1}}",
    "twice.yaml": "run: {max_tokens: 5, max_tokens: 500000}",
    "twicein.yaml": "run:\n  max_tokens: 5\ntools: {}\nrun:\n  max_tokens: 500000\n",
    "list.yaml": "? [a, b]\n: 1\n",
    "code.yaml": "name: !!python/object/apply:os.system ['true']\n",
    "pattern.yaml": "rules: [{when: {pattern: '(a{1000}){1000}'}}]",
    "unknown.yaml": "\n".join(f"k{n}: {n}" for n in range(20_000)),
    "brackets.toml": "a = " + "[" * 50_000,
    "dots.toml": "a" + ".a" * 50_000 + " = 1",
    "digits.toml": "[run]\nmax_tokens = " + "9" * 200_000,
    "long.toml": "name = '" + "x" * 500_000 + "'",
    "nan.toml": "[run]\nmax_seconds = nan",
    "octal.toml": "[run]\nmax_tokens = 010",
    "twice.toml": "[run]\nmax_tokens = 1\nmax_tokens = 2",
    "lines.toml": "[tools.a]\n" + "".join(f"k{n} = {n}\n" for n in range(5_000)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_end_in_our_error_soon(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(BOMBS[name], encoding="utf-8")
    started = time.thread_time()
    with pytest.raises(InvalidPolicy) as refused:
        ReasoningPolicy.from_file(tmp_path / name)
    assert time.thread_time() - started < SOON * MARGIN
    assert name in str(refused.value)
    assert refused.value.hint


FRONTIERS = st.binary(max_size=40) | st.sampled_from(
    [
        b"[" * 100_000,
        b'{"rows": ' * 5_000,
        b'{"rows": [{"lambda": ' + b"9" * 5_000 + b"}]}",
        b'{"rows": [{"lambda": 0, "accuracy": NaN, "tokens": 1}]}',
        b'{"rows": [{"lambda": 0, "accuracy": 1, "tokens": Infinity}]}',
        b'{"rows": [{"lambda": 2, "accuracy": 1, "tokens": 1}]}',
        b'{"rows": [{"lambda": 0, "accuracy": 1, "tokens": 1, "by_level": [1]}]}',
        b'{"rows": [{"lambda": 0, "accuracy": 1, "tokens": -1}]}',
        b'{"rows": 5}',
        b'{"rows": [], "switch_point": NaN}',
        b"[]",
        b"\xff",
    ]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=FRONTIERS)
def test_no_bytes_are_a_frontier_by_accident(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "frontier.json"
    path.write_bytes(content)
    with pytest.raises(InvalidPolicy, match=r"frontier"):
        Frontier.from_file(path)


def test_dicts_that_hold_themselves_or_are_no_data_are_refused() -> None:
    loop: dict[str, Any] = {}
    loop["tools"] = loop
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]

    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError("no")

        def __eq__(self, other: object) -> bool:
            raise RuntimeError("no")

        __hash__ = None  # type: ignore[assignment]

    for data in (loop, {"rules": deep}, {"name": Hostile()}, {"run": Hostile()}, {1: 2}, {"default": {"effort": {}}}):
        for make in (ReasoningPolicy.from_dict, read_policy):
            with pytest.raises(InvalidPolicy):
                make(data)
    for path in ("\0.yaml", "x" * 5_000 + ".yaml", "/dev/null/x.toml", "x" * 5_000, "\0"):
        with pytest.raises(InvalidPolicy):
            read_policy(path)


def test_numbers_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    for written, means in (("010", 10), ("0o10", 8), ("0x10", 16), ("1_000", 1000), ("08", 8), ("+7", 7)):
        path.write_text(f"run: {{max_tokens: {written}}}")
        assert ReasoningPolicy.from_file(path).run.max_tokens == means, written  # type: ignore[union-attr]
    path.write_text("rules: [{when: {metadata: {day: 2026-01-01, at: 1:30, on: off, x: 1e3, y: .5}}}]")
    when = ReasoningPolicy.from_file(path).rules[0].when  # type: ignore[union-attr]
    assert when.metadata == {"day": "2026-01-01", "at": "1:30", "on": "off", "x": 1000.0, "y": 0.5}


def test_aliases_that_people_write_work(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        "tools:\n  a: &cheap {intensity: 0, max_tokens: 9}\n  b: *cheap\n  c: {<<: *cheap, max_tokens: 7}\n"
    )
    tools = ReasoningPolicy.from_file(path).tools
    assert [(tools[n].number, tools[n].max_tokens) for n in "abc"] == [(0, 9), (0, 9), (0, 7)]  # type: ignore[union-attr]


def test_metadata_that_cannot_be_compared_is_not_equal() -> None:
    class Odd:
        def __eq__(self, other: object) -> bool:
            raise RuntimeError("no")

        __hash__ = None  # type: ignore[assignment]

    policy = ReasoningPolicy(rules=[{"when": {"metadata": {"tier": "free"}}, "intensity": 0}], frontier=FRONTIER)
    decision = policy.decide(step(metadata={"tier": Odd()}), 0, saying(0.6))
    assert (decision.rule, decision.intensity) == ("", 0.6)


def test_a_pattern_sees_the_beginning_of_a_text_in_bounded_time() -> None:
    policy = ReasoningPolicy(rules=[{"when": {"pattern": r"^(\w+\s?)+$"}, "intensity": 1}], frontier=FRONTIER)
    started = time.perf_counter()
    lambdas = [
        policy.decide(step(user(text)), 0, saying(0)).intensity
        for text in ("a" * 33, "a" * 33 + "!", "a b " * 5_000, "a" * 1_000_000 + "!", "a b\n")
    ]
    assert lambdas == [1, 0, 1, 1, 1]
    assert time.perf_counter() - started < 2
    last = policy.decide(step(user("a" * 33 + "!")), 0, saying(0))
    assert last.considered == (r"rule 1: pattern '^(\\w+\\s?)+$' not found",)


def test_a_pattern_that_is_not_decided_in_time_says_so() -> None:
    policy = ReasoningPolicy(rules=[{"when": {"pattern": r"(a)\1*(?=b)"}, "intensity": 1}], frontier=FRONTIER)
    decision = policy.decide(step(user("a" * 10_000)), 0, saying(0))
    assert decision.considered == (r"rule 1: pattern '(a)\\1*(?=b)' not decided in time",)
