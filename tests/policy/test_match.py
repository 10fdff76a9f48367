"""Which rule wins, why the others do not, and who pays."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dami_agent.policy import ReasoningPolicy
from dami_agent.policy.match import Facts, tool_errors
from dami_agent.types import Decision, Message, ResponseFormat, Step, ToolChoice
from tests.policy.support import FRONTIER, never, round_of, said, step, user

ANY = ToolChoice(mode="any")


def decided(now: Step, attempt: int = 0, **policy: Any) -> Decision:
    return ReasoningPolicy(frontier=FRONTIER, default={"intensity": 1}, **policy).decide(now, attempt, never)


def only(when: dict[str, Any]) -> dict[str, Any]:
    return {"rules": [{"name": "it", "when": when, "intensity": 0.6}]}


@pytest.mark.parametrize(
    ("when", "matches", "does_not"),
    [
        ({"digests": "a"}, step(user("x"), *round_of("b", "a")), step(user("x"), *round_of("a"), said("y"), user("z"))),
        ({"digests": ["b", "a"]}, step(user("x"), *round_of("a")), step(user("x"), *round_of("c"))),
        ({"calls": "a"}, step(tools=("a", "b"), choice=ToolChoice(mode="tool", name="a")), step(tools=("a",))),
        ({"calls": "a"}, step(tools=("a",), choice=ANY), step(tools=("a", "b"), choice=ANY)),
        ({"tools": "a"}, step(tools=("b", "a")), step(tools=("b",))),
        ({"node": ["n", "m"]}, step(node="m"), step(node="o")),
        ({"tags": ["x", "y"]}, step(tags=("y", "z", "x")), step(tags=("x",))),
        ({"metadata": {"k": 1, "l": None}}, step(metadata={"k": 1, "l": None}), step(metadata={"k": 1})),
        ({"step": 3}, step(step=3), step(step=4)),
        ({"step": [2, None]}, step(step=9), step()),
        ({"messages": [None, 1]}, step(user("x")), step(user("x"), said("y"), user("z"))),
        ({"prompt_characters": [5, 6]}, step(user("12"), said("345"), user("6")), step(user("1234567"))),
        ({"pattern": "(?i)prov(e|ing)"}, step(user("Prove"), *round_of("a")), step(user("prove"), said(""), user(""))),
        ({"challenge": True}, step(user("1+1"), said("3"), user("Are you sure?")), step(user("Are you sure?"))),
        ({"challenge": False, "node": "n"}, step(node="n"), step(user("1"), said("2"), user("Is it right?"), node="n")),
        ({}, step(), None),
    ],
)  # fmt: skip
def test_each_condition(when: dict[str, Any], matches: Step, does_not: Step | None) -> None:
    decision = decided(matches, **only(when))
    assert (decision.rule, decision.intensity, decision.considered) == ("it", 0.6, ())
    assert "rule it" in decision.reason
    if does_not is not None:
        other = decided(does_not, challenge=False, **only(when))
        assert (other.rule, other.intensity) == ("", 1)
        assert len(other.considered) == 1
        assert other.considered[0].startswith("it: ")


def test_attempts_and_structured_output() -> None:
    assert decided(step(), 1, **only({"attempt": [1, 2]})).rule == "it"
    assert decided(step(), 0, **only({"attempt": [1, 2]})).rule == ""
    asks = Step(messages=(user("x"),), response_format=ResponseFormat())
    called = Step(messages=(user("x"),), structured=True)
    assert [decided(s, **only({"structured": True})).rule for s in (asks, called, step())] == ["it", "it", ""]
    assert [decided(s, **only({"structured": False})).rule for s in (asks, called, step())] == ["", "", "it"]


def test_the_first_match_wins_and_the_others_say_why_not() -> None:
    policy = {
        "rules": [
            {"name": "one", "when": {"node": "x"}},
            {"name": "two", "when": {"tags": "t"}, "intensity": 0.2},
            {"name": "three", "intensity": 0.8},
        ],
        "tools": {"a": {"intensity": 0.6}},
        "nodes": {"n": {"intensity": 0}},
    }
    decision = decided(step(user("x"), *round_of("a"), tags=("t",), node="n"), **policy)
    assert (decision.rule, decision.intensity) == ("two", 0.2)
    assert decision.considered == (
        "one: node x, here n",
        "three: matches too, but comes later",
        "tools.a: matches too, but comes later",
        "tools.a (call): calls a, here none",
        "nodes.n: matches too, but comes later",
    )
    assert decision.charged_to == "a"


def strict(now: Step, **tools: Any) -> tuple[str, str]:
    decision = decided(now, tools=tools)
    return decision.rule, decision.charged_to


def test_after_parallel_calls_the_strictest_rule_wins_and_pays() -> None:
    now = step(user("x"), *round_of("a", "b", "c"))
    assert strict(now, a={"intensity": 0.8}, b={"intensity": [0, 0.2]}, c={"intensity": 0.6}) == ("tools.b", "b")
    assert strict(now, a={"intensity": 0.8}, b={"intensity": [0, 0.8]}) == ("tools.a", "a")
    assert strict(now, a={"intensity": 0.8}, b={"effort": "high", "max_reasoning_tokens": 9}) == ("tools.b", "b")
    assert strict(now, a={"effort": "high"}, b={"effort": "low"}, c={"intensity": 0.6}) == ("tools.b", "b")
    assert strict(now, c={}) == ("tools.c", "c")
    assert strict(now) == ("", "a")


def test_who_pays() -> None:
    forced = ToolChoice(mode="tool", name="b")
    assert decided(step(tools=("a", "b"), choice=forced)).charged_to == "b"
    assert decided(step(user("x"), *round_of("a"), tools=("a", "b"), choice=forced)).charged_to == "a"
    assert decided(step(tools=("a",))).charged_to == "answer"
    assert strict(step(tools=("a", "b"), choice=forced), b={"intensity": 0.2}) == ("tools.b (call)", "b")


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.booleans()), max_size=5))
def test_errors_in_a_row(rounds: list[tuple[int, bool]]) -> None:
    messages: list[Message] = [user("x")]
    for size, failed in rounds:
        messages += round_of(*"abc"[:size], failed=failed)
    expected = 0
    for _, failed in reversed(rounds):
        if not failed:
            break
        expected += 1
    assert tool_errors(messages) == expected
    assert tool_errors([*messages, said("done")]) == 0
    assert len(Facts.of(step(*messages), 0).digests) == (rounds[-1][0] if rounds else 0)
