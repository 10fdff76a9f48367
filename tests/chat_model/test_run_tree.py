"""A call knows the root of its run and its thread, however it was reached; a model takes policies by any name."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, TypedDict
from uuid import uuid4

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import ConfigurableField, RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph

from dami_agent.chat_model import run_tree
from dami_agent.errors import BudgetExhausted
from dami_agent.policy import ReasoningPolicy
from dami_agent.testing import fake_chat_model

SHORT = {"run": {"max_tokens": 40, "answer_reserve": 5, "on_exhausted": "end"}}


class Book:
    """A callback-free view of what reached the pipeline."""

    def __init__(self, **settings: Any) -> None:
        self.model = fake_chat_model(lambda _: "It is seven.", **settings)
        self.traces: list[Any] = []
        original = type(self.model).build_step

        def step(model: Any, messages: Any, stop: Any, manager: Any, kwargs: Any) -> Any:
            made = original(model, messages, stop, manager, kwargs)
            self.traces.append(made.run_context)
            return made

        object.__setattr__(self.model, "build_step", step.__get__(self.model))


def test_a_call_alone_is_its_own_root() -> None:
    book, run = Book(), uuid4()
    book.model.invoke("hi", config={"run_id": run, "metadata": {"thread_id": 7}})
    assert (book.traces[0].root_run_id, book.traces[0].thread_id) == (str(run), "7")
    assert book.traces[0].step is None


def test_chains_tools_and_branches_share_the_root() -> None:
    book, run = Book(), uuid4()

    @tool
    def ask(question: str) -> str:
        """Ask the model."""
        return str(book.model.invoke(question).content)

    inner = RunnableLambda(lambda text: ask.invoke({"question": text}))
    chain = RunnableParallel(a=book.model, b=RunnableLambda(lambda x: x) | book.model, c=inner)
    chain.invoke("hi", config={"run_id": run, "configurable": {"thread_id": "t"}})
    asyncio.run(chain.ainvoke("hi", config={"run_id": run}))
    assert [t.root_run_id for t in book.traces] == [str(run)] * 6
    assert [t.thread_id for t in book.traces] == ["t"] * 3 + [None] * 3
    assert sorted(t.step for t in book.traces) == [1, 1, 2, 2, 3, 3]  # counted run by run
    sizes = run_tree.TREE.sizes()
    assert (sizes["runs"], sizes["numbers"]) == (0, 0)  # nothing is kept of runs that have ended


class State(TypedDict, total=False):
    said: str


def test_a_graph_with_subgraph_and_parallel_branches_is_one_run() -> None:
    book = Book()

    def node(_: State) -> State:
        book.model.invoke([HumanMessage("hi")])
        return {}

    async def anode(_: State) -> State:
        await book.model.ainvoke("hi")
        return {}

    sub = StateGraph(State).add_node("deep", node).add_edge(START, "deep").add_edge("deep", END).compile()
    graph = StateGraph(State).add_node("left", node).add_node("right", sub).add_edge(START, "left")
    graph.add_edge(START, "right").add_edge("left", END).add_edge("right", END)
    first, second = uuid4(), uuid4()
    graph.compile().invoke({}, config={"run_id": first, "configurable": {"thread_id": "t1"}})
    assert {(t.root_run_id, t.thread_id) for t in book.traces} == {(str(first), "t1")}
    assert {t.node for t in book.traces} == {"left", "deep"}
    book.traces.clear()
    late = (
        StateGraph(State).add_node("a", anode).add_node("b", anode).add_edge(START, "a").add_edge(START, "b").compile()
    )
    asyncio.run(late.ainvoke({}, config={"run_id": second}))
    assert [t.root_run_id for t in book.traces] == [str(second)] * 2


def test_a_run_spends_one_budget_and_the_next_run_its_own() -> None:
    model = fake_chat_model(lambda _: "one two three four five six seven eight", policy=SHORT)
    chain = RunnableLambda(lambda n: [model.invoke("hi") for _ in range(n)])
    for _ in range(2):
        with pytest.raises(BudgetExhausted, match=r"run\.max_tokens"):
            chain.invoke(20)
    rows = model.ledger.rows()
    by_run: dict[str, int] = {}
    for row in rows:
        by_run[row.root_run_id] = by_run.get(row.root_run_id, 0) + row.output_tokens
    assert len(by_run) == 2
    assert all(30 <= tokens <= 40 for tokens in by_run.values())


def test_policies_by_preset_path_and_dict(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("default: {intensity: 0.25}\n")
    for given, name, intensity in (
        (path, "own", 0.25),
        (str(path), "own", 0.25),
        ({"default": {"intensity": 1}}, "dict", 1),
    ):
        model = fake_chat_model(lambda _: "yes", policy=given)
        answer = model.invoke("hi")
        assert (answer.response_metadata["policy"], answer.response_metadata["intensity"]) == (name, intensity)
    assert fake_chat_model([], policy="frugal").policy == ReasoningPolicy.preset("frugal")
    assert fake_chat_model([], policy=path).policy == fake_chat_model([], policy=str(path)).policy
    for wrong in ("frugl", tmp_path / "none.yaml", 3, {"rule": []}):
        with pytest.raises(ValueError, match="hint"):
            fake_chat_model([], policy=wrong)


def test_a_policy_per_run_through_the_config() -> None:
    model = fake_chat_model(lambda _: "yes", policy="balanced").configurable_fields(
        policy=ConfigurableField(id="policy")
    )
    config = {"configurable": {"policy": {"default": {"intensity": 0.75}, "name": "mine"}}}
    answer = model.invoke("hi", config=config)
    assert (answer.response_metadata["policy"], answer.response_metadata["intensity"]) == ("mine", 0.75)
    assert model.invoke("hi").response_metadata["policy"] == "balanced"


def test_streams_for_a_listener_know_their_run_too() -> None:
    """LangChain then calls ``_stream`` without callbacks; the run's budget must hold all the same."""
    model = fake_chat_model(lambda _: "It is seven.", policy=SHORT, intensity=0.0)

    class State(TypedDict):
        said: str

    def node(_: State) -> State:
        return {"said": "".join(str(model.invoke("hi").content) for _ in range(20))}

    graph = StateGraph(State).add_node("node", node).add_edge(START, "node").add_edge("node", END).compile()
    config: Any = {"run_id": uuid4(), "tags": ["mine"], "configurable": {"thread_id": "t"}}
    with pytest.raises(BudgetExhausted):
        list(graph.stream({"said": ""}, config, stream_mode="messages"))
    rows = list(model.ledger.rows())
    assert {(r.root_run_id, r.node, r.thread_id) for r in rows} == {(str(config["run_id"]), "node", "t")}
    assert all("mine" in r.tags for r in rows)
    assert sum(r.output_tokens for r in rows) <= 40
