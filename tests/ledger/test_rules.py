"""Which rules of a policy never matched, from what calls under it left in the ledger."""

from __future__ import annotations

import random
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from dami_agent.ledger import Ledger, unmatched_rules
from dami_agent.testing import fake_chat_model
from tests.ledger.records import make_record
from tests.ledger.test_columns import decided

RULES: list[dict[str, Any]] = [
    {"name": "urgent: now", "when": {"tags": ["urgent"]}, "intensity": 0},
    {"name": "late", "when": {"messages": [90, None]}, "intensity": 0},
    {"name": "greeting", "when": {"pattern": "hello: tools x"}, "intensity": 0},
    {"name": "any", "when": {"structured": False}, "intensity": 0},
]
TOOLS = {"search": {"intensity": 0}, "get_prise": {"intensity": 0}, "notify": {"intensity": 0}}
POLICY = {"name": "mine", "rules": RULES, "tools": TOOLS, "nodes": {"planer": {"intensity": 0}}}


def read(tool: str) -> list[Any]:
    call = {"name": tool, "args": {}, "id": "1"}
    return [HumanMessage("go"), AIMessage("", tool_calls=[call]), ToolMessage("r", tool_call_id="1")]


def after(*calls: tuple[Any, dict[str, Any]], policy: dict[str, Any] = POLICY) -> dict[str, list[str]]:
    model = fake_chat_model(["yes"] * len(calls), policy=policy)
    for messages, config in calls:
        model.invoke(messages, config)
    return unmatched_rules(model.ledger.rows())


def test_rules_that_no_call_matched_are_told_in_the_policys_order() -> None:
    everything = ["urgent: now", "late", "greeting", "tools.search", "tools.get_prise", "tools.notify", "nodes.planer"]
    assert sorted(after(("hi", {}))["mine"]) == sorted(everything)
    assert after(("hi", {}))["mine"] == everything


def test_a_rule_that_matched_behind_another_is_not_told() -> None:
    """``any`` wins, and the tool's line matches too."""
    found = after((read("search"), {}), ("hi", {"tags": ["urgent"]}))["mine"]
    assert found == ["late", "greeting", "tools.get_prise", "tools.notify", "nodes.planer"]


def test_policies_are_told_apart_and_one_whose_rules_all_matched_is_left_out() -> None:
    small = {"name": "small", "rules": [{"name": "all", "intensity": 0}]}
    assert after(("hi", {}), policy=small) == {}
    assert after(("hi", {}), policy={"name": "none"}) == {}
    rows: list[Any] = []
    for policy in (small, POLICY):
        model = fake_chat_model(["yes"], policy=policy)
        model.invoke("hi")
        rows += model.ledger.rows()
    assert list(unmatched_rules(rows)) == ["mine"]


def test_rows_that_tell_nothing_are_passed_over() -> None:
    ledger = Ledger.open(":memory:", redact=lambda text: "gone" if "tags" in text else text)
    ledger.record(decided(make_record(random.randrange(10**6)), rule="b", considered=("a: tags x missing",)))
    ledger.record(make_record(1, error="Refused: no"))
    assert unmatched_rules(ledger.rows()) == {}
    assert unmatched_rules([]) == {}
