"""LangChain's ``run_name`` and the name of a trace reach the ledger, however a call is consumed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.runnables import RunnableLambda

from dami_agent import ChatDAMI
from dami_agent.ledger import trace
from dami_agent.testing import FakeReply, fake_chat_model


async def _astream(model: Any, text: str, config: Any) -> None:
    async for _ in model.astream(text, config):
        pass


WAYS: dict[str, Callable[[Any, str, Any], Any]] = {
    "invoke": lambda model, text, config: model.invoke(text, config),
    "stream": lambda model, text, config: list(model.stream(text, config)),
    "batch": lambda model, text, config: model.batch([text], config),
    "ainvoke": lambda model, text, config: asyncio.run(model.ainvoke(text, config)),
    "astream": lambda model, text, config: asyncio.run(_astream(model, text, config)),
}


def names(model: ChatDAMI) -> list[tuple[str | None, str | None, tuple[str, ...]]]:
    return [(row.run_name, row.root_run_name, row.trace_names) for row in model.ledger.rows()]


@pytest.fixture
def model() -> ChatDAMI:
    return fake_chat_model(lambda _: FakeReply("fine"))


@pytest.mark.parametrize("way", WAYS)
def test_a_call_alone(model: ChatDAMI, way: str) -> None:
    WAYS[way](model, "hello", {"run_name": "digest"})
    WAYS[way](model, "hello", {})
    assert names(model) == [("digest", "digest", ()), (None, None, ())]


@pytest.mark.parametrize("way", WAYS)
def test_a_chain_around_it(model: ChatDAMI, way: str) -> None:
    chain = RunnableLambda(lambda text: text) | model.with_config(run_name="writer")
    WAYS[way](chain, "hello", {"run_name": "nightly chain"})
    assert names(model) == [("writer", "nightly chain", ())]


@pytest.mark.parametrize("way", ["invoke", "stream", "ainvoke"])
def test_an_agent(way: str) -> None:
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    model = fake_chat_model([FakeReply(tool_calls=[("add", {"a": 3, "b": 4})]), FakeReply("7")])
    agent = create_agent(model, [add], name="calculator")
    with trace("nightly"), trace(), trace("sums"):
        WAYS[way](agent, {"messages": "3 + 4?"}, {})  # type: ignore[arg-type]
    assert names(model) == [(None, "calculator", ("nightly", "sums"))] * 2
    assert model.ledger.rows()[0].names == ("nightly", "sums", "calculator")


def test_a_name_at_the_call_wins_over_the_agents_own(model: ChatDAMI) -> None:
    agent = create_agent(model, [], name="calculator")
    agent.invoke({"messages": "hello"}, {"run_name": "tuesday"})
    assert names(model) == [(None, "tuesday", ())]


def test_names_of_calls_at_once_stay_apart(model: ChatDAMI) -> None:
    threads = [
        threading.Thread(target=model.invoke, args=(str(n), {"run_name": f"run {n}", "tags": [f"run {n}"]}))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {(row.run_name, row.tags) for row in model.ledger.rows()} == {(f"run {n}", (f"run {n}",)) for n in range(8)}


def test_names_go_when_runs_end(model: ChatDAMI) -> None:
    from dami_agent.chat_model.run_tree import TREE

    before = TREE.sizes()["names"]
    (RunnableLambda(lambda text: text) | model).invoke("hello", {"run_name": "short"})
    assert TREE.sizes()["names"] == before


def test_by_node_of_a_trace() -> None:
    model = fake_chat_model(lambda _: FakeReply("fine"))
    with trace() as t:
        create_agent(model, []).invoke({"messages": "hello"})
        model.invoke("hello")
    assert {node: sums["calls"] for node, sums in t.by_node().items()} == {"": 1, "model": 1}
    assert {tool: sums["calls"] for tool, sums in t.by_called_tool().items()} == {"answer": 2}
