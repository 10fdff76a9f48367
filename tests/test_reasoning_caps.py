"""No cap of thoughts is exceeded, by the ledger's own numbers: of a call, a run and a tool, at once and in turn."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda, RunnableParallel

from dami_agent.chat_model import ChatDAMI
from dami_agent.ledger import Ledger
from dami_agent.policy import ReasoningPolicy
from dami_agent.tasks import questions
from dami_agent.types import RunContext

HARD = [item.prompt for item in questions("test", 25, seed=3)][-5:]  # one of each family, at level 5: thoughts of 300
PRICE = {"type": "function", "function": {"name": "get_price", "parameters": {"type": "object"}}}


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    opened = Ledger.open(":memory:")
    yield opened
    opened.close()


def chat(ledger: Ledger, **given_: Any) -> ChatDAMI:
    return ChatDAMI(ledger=ledger, seed=1, **given_)


def reasoning(message: Any) -> int:
    return int(message.usage_metadata["output_token_details"]["reasoning"])


@pytest.mark.parametrize("cap", [0, 1, 16, 64])
@pytest.mark.parametrize("intensity", [0, 0.5, 1])
def test_a_calls_cap(ledger: Ledger, cap: int, intensity: float) -> None:
    model = chat(ledger, reasoning_intensity=intensity, max_reasoning_tokens=cap, max_tokens=2 * cap + 40)
    messages = model.batch(HARD)
    rows = ledger.rows()
    assert sorted(map(reasoning, messages)) == sorted(row.reasoning_tokens for row in rows)
    for row in rows:
        assert row.reasoning_tokens <= (cap if intensity else 0)
        assert row.output_tokens == row.reasoning_tokens + row.answer_tokens
        if row.thought_closed_by == "cap":
            assert row.reasoning_tokens == cap
    assert any(row.thought_closed_by == "cap" for row in rows) == (intensity > 0)
    assert not any("think>" in str(message.content) for message in messages)


@pytest.mark.parametrize("parallel", [True, False])
def test_a_runs_cap(ledger: Ledger, parallel: bool) -> None:
    policy = ReasoningPolicy(run={"max_reasoning_tokens": 100, "on_exhausted": "end"})
    model = chat(ledger, policy=policy, reasoning_intensity=1, max_tokens=200)
    config: Any = {"configurable": {"thread_id": "t"}}

    def run(_: Any) -> int:
        if parallel:
            model.batch(HARD, config)
        else:
            for prompt in HARD:
                model.invoke(prompt, config)
        return 0

    RunnableLambda(run).invoke(0)
    rows = ledger.rows()
    spent = sum(row.reasoning_tokens for row in rows)
    assert len(rows) == len(HARD)
    (root,) = {row.root_run_id for row in rows}
    assert 0 < spent == model.budgets.spent(policy, RunContext(root_run_id=root)).reasoning_tokens <= 100


@pytest.mark.parametrize("parallel", [True, False])
def test_a_tools_cap(ledger: Ledger, parallel: bool) -> None:
    tools: Any = {"get_price": {"intensity": 1, "run_max_reasoning_tokens": 24}}
    policy = ReasoningPolicy(tools=tools, default={"intensity": 0})
    model = chat(ledger, policy=policy, max_tokens=120)
    messages = [
        HumanMessage("What do 3 lamps and a pen cost?"),
        AIMessage("", tool_calls=[{"name": "get_price", "args": {}, "id": "1"}]),
        ToolMessage("12", name="get_price", tool_call_id="1"),
    ]

    def run(_: Any) -> int:
        if parallel:
            model.bind(tools=[PRICE]).batch([messages] * 3)
        else:
            for _ in range(3):
                model.invoke(messages, tools=[PRICE])
        return 0

    RunnableLambda(run).invoke(0)
    charged = [row for row in ledger.rows() if row.charged_to == "get_price"]
    assert len(charged) == 3
    assert 0 < sum(row.reasoning_tokens for row in charged) <= 24


caps = st.integers(0, 400) | st.sampled_from([0, 1, 2, 3, 4, 16, 64, 100])
levels = st.sampled_from([0, 0.2, 0.5, 1, "auto"])


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    caps,
    st.lists(levels, min_size=1, max_size=4),
    st.sampled_from([None, 0, 0.5]),
    st.sampled_from([None, "", "I must answer now.\n"]),
    st.booleans(),
)
def test_any_cap_at_any_intensity(
    ledger: Ledger, cap: int, asked: list[Any], answer: float | None, words: str | None, parallel: bool
) -> None:
    """Templates follow λ; ``auto`` probes, and carries a probe on or throws it away; an answer may have its own λ."""
    policy = ReasoningPolicy(default={} if answer is None else {"answer_intensity": answer})
    model = chat(ledger, policy=policy, closing_words=words, max_reasoning_tokens=cap, max_tokens=cap + 40)
    calls = [
        model.with_config(configurable={}).bind(reasoning_intensity=level, seed=place)
        for place, level in enumerate(asked)
    ]
    before = len(ledger.rows())
    if parallel:
        found = RunnableParallel({str(place): call for place, call in enumerate(calls)}).invoke(HARD[cap % 5])
        messages = [found[str(place)] for place in range(len(calls))]
    else:
        messages = [call.invoke(HARD[cap % 5]) for call in calls]
    rows = ledger.rows()[before:]
    assert len(rows) == len(asked)
    assert sorted(row.reasoning_tokens for row in rows) == sorted(map(reasoning, messages))
    for row in rows:
        assert row.reasoning_tokens <= cap
        assert row.output_tokens == sum(
            (row.probe_tokens, row.reasoning_tokens, row.answer_tokens, row.discarded_tokens or 0)
        )
    assert all("think>" not in str(message.content) for message in messages)


@pytest.mark.slow
@pytest.mark.parametrize("tools", [{}, {"tools": [PRICE], "tool_choice": "none"}])
def test_no_marker_in_the_content_after_a_forced_close(ledger: Ledger, tools: Any) -> None:
    asked = [item.prompt for item in questions("test", 30, seed=5)][::5]

    def try_(intensity: float, cap: int) -> list[str]:
        model = chat(ledger, reasoning_intensity=intensity).bind(**tools)
        limited = model.bind(max_reasoning_tokens=cap, max_tokens=2 * cap + 60)
        return [str(message.content) for message in limited.batch(asked)]

    settings_ = [(intensity, cap) for intensity in (0.3, 0.5, 1) for cap in (16, 48, 100)]
    with ThreadPoolExecutor(len(settings_)) as pool:  # in the same batches of the engine: a quarter of the time
        contents = [content for found in pool.map(lambda each: try_(*each), settings_) for content in found]
    assert len(contents) == len(ledger.rows()) == 54
    assert not [content for content in contents if "think>" in content]
    assert {row.thought_closed_by for row in ledger.rows()} >= {"cap", "model"}
    assert max(row.reasoning_tokens for row in ledger.rows()) == 100
