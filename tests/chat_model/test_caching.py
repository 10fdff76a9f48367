"""LangChain's cache never returns the answer of another rule, nor one that a budget shaped."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.caches import InMemoryCache

from dami_agent.testing import FakeRequest, fake_chat_model

RULES: dict[str, Any] = {
    "rules": [
        {"when": {"tags": "cheap"}, "intensity": 0},
        {"when": {"metadata": {"tier": "free"}}, "intensity": 0.3},
        {"when": {"node": "planner"}, "intensity": 1},
    ],
    "default": {"intensity": 0.5},
}


def depth(request: FakeRequest) -> str:
    return f"{request.decision.intensity:g}"


CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({}, "0.5"),
    ({"tags": ["cheap"]}, "0"),
    ({"metadata": {"tier": "free"}}, "0.3"),
    ({"metadata": {"langgraph_node": "planner"}}, "1"),
    ({"metadata": {"tier": "paid"}, "tags": ["other"]}, "0.5"),
]


@pytest.mark.parametrize("how", ["sync", "async"])
async def test_each_rules_answer_is_cached_by_itself(how: str) -> None:
    model = fake_chat_model(depth, policy=RULES, cache=InMemoryCache())
    for _ in range(2):
        for config, expected in CONFIGS:
            reply = await model.ainvoke("hi", config) if how == "async" else model.invoke("hi", config)  # type: ignore[arg-type]
            assert reply.content == expected
    assert len(model.engine.requests) == len(CONFIGS)  # the second round came from the cache


def test_what_no_rule_reads_is_no_part_of_the_key() -> None:
    model = fake_chat_model(depth, policy=RULES, cache=InMemoryCache())
    for config in ({"tags": ["a"]}, {"tags": ["b"]}, {"metadata": {"x": 1}}):
        model.invoke("hi", config)  # type: ignore[arg-type]
    assert len(model.engine.requests) == 1
    plain = fake_chat_model(depth, cache=InMemoryCache())
    plain.invoke("hi", {"tags": ["a"]})
    plain.invoke("hi", {"tags": ["b"], "metadata": {"langgraph_node": "n"}})
    assert len(plain.engine.requests) == 1


@pytest.mark.parametrize("policy", [{"run": {"max_tokens": 900}}, {"rules": [{"when": {"step": 2}, "intensity": 0}]}])
def test_an_answer_that_depends_on_the_moment_is_not_cached(policy: dict[str, Any]) -> None:
    model = fake_chat_model(depth, policy=policy, cache=InMemoryCache())
    for _ in range(2):
        model.invoke("hi")
    assert len(model.engine.requests) == 2
    assert isinstance(model.cache, InMemoryCache)
