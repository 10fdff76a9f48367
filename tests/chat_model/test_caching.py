"""LangChain's cache never returns the answer of another rule, nor one that a budget shaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from langchain_core.caches import InMemoryCache

from dami_agent.estimators.head import Head, PricePoint
from dami_agent.estimators.head_files import heads_path
from dami_agent.estimators.heads import Heads
from dami_agent.testing import FakeRequest, fake_chat_model
from dami_agent.types import Intensity

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


def test_heads_that_are_trained_between_two_calls_are_part_of_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    model = fake_chat_model(depth, cache=InMemoryCache())
    fingerprint = model.pipeline().engine.info.fingerprint
    keys = [model._get_llm_string()]
    for price in (0.1, 0.2):
        point = PricePoint(
            price=price, accuracy=1, tokens=9, gain=0, gain_ci=0.01, static_gain=0.1, static_gain_ci=0.01
        )
        head = Head(
            reads="probe",
            kind="plain",
            layers=(),
            lambdas=(Intensity(0), Intensity(1)),
            center=torch.zeros(8),
            scale=torch.ones(8),
            components=torch.eye(8),
            right=torch.zeros(9, 2),
            length=torch.zeros(9, 2),
            thinking_tokens=100.0,
            prices=(point,),
        )
        Heads(fingerprint=fingerprint, heads=(head,)).save(heads_path(fingerprint))
        keys.append(model._get_llm_string())
    assert len(set(keys)) == 3
    assert model._get_llm_string() == keys[-1]
