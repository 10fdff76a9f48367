"""Misspelt names of tools and nodes are warned about once a step shows what was meant, and right ones never are."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Sequence
from typing import Any

import pytest

from dami_agent.policy import BudgetTracker, ReasoningPolicy, UnknownNameWarning
from dami_agent.policy.spelling import KnownNames
from tests.policy.support import FRONTIER, never, requested, round_of, step, user


def warned(policy: ReasoningPolicy, *steps: Any, budgets: BudgetTracker | None = None) -> list[str]:
    budgets = budgets or BudgetTracker()
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for each in steps:
            policy.decide(each, 0, never, budgets=budgets)
    assert all(each.category is UnknownNameWarning for each in found)
    return [str(each.message) for each in found]


def with_tools(*tools: str, node: str | None = None) -> Any:
    return step(tools=tools, node=node, intensity_request=requested(0.2))


def a_policy(**given: Any) -> ReasoningPolicy:
    return ReasoningPolicy(frontier=FRONTIER, **given)


ZERO = {"intensity": 0}


def test_a_misspelt_tool_and_node_are_warned_about_once() -> None:
    budgets = BudgetTracker()
    policy = a_policy(tools={"get_prise": ZERO, "search": ZERO}, nodes={"planer": ZERO})
    calls = [with_tools("get_price", "search", node="planner")] * 3
    assert warned(policy, *calls, budgets=budgets) == [
        "tools.get_prise in the policy: no tool 'get_prise' has occurred; did you mean 'get_price'?",
        "nodes.planer in the policy: no node 'planer' has occurred; did you mean 'planner'?",
    ]
    assert warned(policy.with_frontier(FRONTIER), *calls, budgets=budgets) == []


def test_a_policy_whose_frontier_is_filled_in_warns_no_second_time() -> None:
    policy, budgets = ReasoningPolicy(tools={"get_prise": ZERO}), BudgetTracker()
    assert len(warned(policy.with_frontier(FRONTIER), with_tools("get_price"), budgets=budgets)) == 1
    assert warned(policy.with_frontier(FRONTIER), with_tools("get_price"), budgets=budgets) == []


@pytest.mark.parametrize(
    "steps",
    [
        [with_tools()],
        [with_tools("get_price", "search")],
        [with_tools("search"), with_tools("get_price")],  # two agents, each with a tool of its own
        [with_tools("search_docs"), with_tools("fetch_price")],
        [with_tools("set_price")],
        [with_tools("get_price", "get_prices")],  # both there
        [
            step(user("go"), *round_of("get_price"), tools=("get_prices",), intensity_request=requested(0.2))
        ],  # in the history
        [with_tools(node="worker_2"), with_tools(node="tools")],
        [with_tools(*(f"tool{n}" for n in range(200)))],
    ],
)
def test_agents_that_share_a_policy_are_not_warned(steps: Sequence[Any]) -> None:
    policy = a_policy(tools={"get_price": ZERO, "search": ZERO}, nodes={"worker_1": ZERO, "model": ZERO})
    assert warned(policy, *steps) == []


def test_names_differing_in_case_or_two_letters_swapped_are_misspellings() -> None:
    policy = a_policy(tools={"Get_Price": ZERO, "serach": ZERO})
    (one, other) = warned(policy, with_tools("get_price", "search"))
    assert "'Get_Price' has occurred; did you mean 'get_price'?" in one
    assert "'serach' has occurred; did you mean 'search'?" in other


def test_every_name_of_a_rules_lists_is_looked_at() -> None:
    rules = [
        {"name": "cheap", "when": {"tools": ["calculater", "search"]}, "intensity": 0},
        {"name": "read", "when": {"digests": ["weather_forcast"]}, "intensity": 0},
        {"name": "forced", "when": {"calls": "notfy", "node": ["agent", "reviewr"]}, "intensity": 0},
    ]
    tools = ("calculator", "search", "weather_forecast", "notify")
    found = warned(a_policy(rules=rules), with_tools(*tools, node="reviewer"))
    assert [(each.split(" in the policy")[0], each.rsplit("'", 2)[1]) for each in found] == [
        ("cheap", "calculator"),
        ("read", "weather_forecast"),
        ("forced", "notify"),
        ("forced", "reviewer"),
    ]


def test_a_name_the_policy_speaks_of_is_not_what_another_was_meant_to_be() -> None:
    policy = a_policy(tools={"get_price": ZERO, "get_prices": ZERO})
    assert warned(policy, with_tools("get_price"), with_tools("get_prices")) == []


def test_a_warning_made_an_error_leaves_nothing_set_aside() -> None:
    policies = [a_policy(tools={name: ZERO}, run={"max_tokens": 200}) for name in ("get_prise", "get_price")]
    budgets = BudgetTracker()
    with pytest.raises(UnknownNameWarning):
        policies[0].decide(with_tools("get_price"), 0, never, budgets=budgets)
    first, other = (policy.decide(with_tools("get_price"), 0, never, budgets=budgets) for policy in policies)
    assert first.limits == other.limits


def test_another_process_warns_for_itself() -> None:
    policy, budgets = a_policy(tools={"get_prise": ZERO}), BudgetTracker()
    assert len(warned(policy, with_tools("get_price"), budgets=budgets)) == 1
    policy, budgets = pickle.loads(pickle.dumps((policy, budgets)))
    assert len(warned(policy, with_tools("get_price"), budgets=budgets)) == 1


def test_names_made_up_without_end_are_forgotten() -> None:
    names = KnownNames("node", [("planer", "nodes.planer")])
    for n in range(5_000):
        names.unknown(frozenset({f"x{n}"}))
    assert names.seen == 4_096
