"""Budgets without a middleware: LangGraph nodes and LCEL chains, a policy per run, branches that run at once."""

from __future__ import annotations

import asyncio
from typing import Any, TypedDict

import pytest
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langgraph.graph import END, START, StateGraph

from dami_agent.errors import BudgetExhausted
from dami_agent.integrations.langgraph import per_run_policy
from dami_agent.testing import FakeReply, fake_chat_model
from tests.integrations.agents import THOUGHT, add, output

TIGHT = {"name": "tight", "run": {"max_tokens": 120, "on_exhausted": "end"}}


def thoughtful(_: Any) -> FakeReply:
    return FakeReply("It is seven.", reasoning=THOUGHT)


class State(TypedDict):
    """A graph's."""

    said: list[str]


class Context(TypedDict, total=False):
    """Of a run."""

    policy: Any


def graph_of(model: Any, calls: int) -> Any:
    def node(_: State) -> State:
        return {"said": [str(model.invoke("hi").content) for _ in range(calls)]}

    async def anode(_: State) -> State:
        return {"said": [str((await model.ainvoke("hi")).content) for _ in range(calls)]}

    graph = StateGraph(State, context_schema=Context)
    graph.add_node("node", RunnableLambda(node, anode))
    return graph.add_edge(START, "node").add_edge("node", END).compile()


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("through", ["context", "configurable"])
def test_a_graphs_run_brings_its_policy(how: str, through: str) -> None:
    model = fake_chat_model(thoughtful, intensity=0.9)
    graph = graph_of(per_run_policy(model), 2)

    def call(given: Any) -> Any:
        more: dict[str, Any] = {"context": {"policy": given}} if through == "context" else {}
        config: Any = {"configurable": {"policy": given}} if through == "configurable" else {}
        return (
            asyncio.run(graph.ainvoke({"said": []}, config, **more))
            if how == "async"
            else (graph.invoke({"said": []}, config, **more))
        )

    for given in (None, "frugal", dict(TIGHT), dict(TIGHT)):
        call(given)
    rows = list(model.ledger.rows())
    assert [row.policy for row in rows] == ["default"] * 2 + ["frugal"] * 2 + ["tight"] * 4
    for run in (rows[4:6], rows[6:8]):
        assert sum(row.output_tokens for row in run) <= 120
        assert run[0].reasoning_tokens > run[1].reasoning_tokens


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_chains_branches_share_one_account(how: str) -> None:
    model = fake_chat_model(thoughtful, intensity=0.9)
    bound = per_run_policy(model).bind_tools([add])
    config: Any = {"configurable": {"policy": {"run": {"max_tokens": 200, "on_exhausted": "end"}}}}
    given = "hi"
    chain = RunnableLambda(lambda _: given) | RunnableParallel(a=bound, b=bound, c=bound)
    if how == "async":
        asyncio.run(chain.ainvoke(given, config))
    else:
        chain.invoke(given, config)
    assert len(list(model.ledger.rows())) == 3
    assert output(model) <= 200


def test_a_chain_that_asks_for_more_fails_or_ends() -> None:
    model = fake_chat_model(thoughtful, intensity=0.9)
    step = per_run_policy(model) | (lambda message: str(message.content) or "hi")
    chain: Any = step
    for _ in range(30):
        chain = chain | step
    with pytest.raises(BudgetExhausted, match="tokens left"):
        chain.invoke("hi", {"configurable": {"policy": TIGHT}})
    assert 120 - 120 // 8 < output(model) <= 120
