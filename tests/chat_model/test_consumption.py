"""Same call, same λ, same place in its run, whichever of LangChain's ways of consuming it is used."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypedDict
from uuid import UUID, uuid4

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import ConfigurableField, RunnableLambda
from langchain_core.tracers._streaming import _StreamingCallbackHandler
from langgraph.graph import END, START, StateGraph

from dami_agent.chat_model import run_tree
from dami_agent.errors import BudgetExhausted
from dami_agent.integrations.langchain import ReasoningBudgetMiddleware
from dami_agent.testing import fake_chat_model

POLICY = {
    "rules": [
        {"name": "cheap", "when": {"tags": ["cheap"]}, "intensity": 0},
        {"name": "planner", "when": {"node": "planner"}, "intensity": 0.25},
        {"name": "gold", "when": {"metadata": {"tier": "gold"}}, "intensity": 0.75},
    ]
}
SEED = ConfigurableField(id="seed")
LONG = "one two three four five six seven eight nine ten"


class Listener(BaseCallbackHandler, _StreamingCallbackHandler[Any]):
    """What makes LangChain stream inside ``invoke``."""

    def tap_output_iter(self, run_id: Any, output: Any) -> Any:
        return output

    tap_output_aiter = tap_output_iter


async def _drain(chunks: Any) -> None:
    async for _ in chunks:
        pass


async def _v3(model: Any, config: Any) -> None:
    stream = await model.astream_events("hi", config, version="v3")
    await stream


WAYS: dict[str, Callable[[Any, Any], Any]] = {
    "invoke": lambda r, c: r.invoke("hi", c),
    "ainvoke": lambda r, c: asyncio.run(r.ainvoke("hi", c)),
    "batch": lambda r, c: r.batch(["hi"], c),
    "abatch": lambda r, c: asyncio.run(r.abatch(["hi"], c)),
    "stream": lambda r, c: list(r.stream("hi", c)),
    "astream": lambda r, c: asyncio.run(_drain(r.astream("hi", c))),
    "transform": lambda r, c: list(r.transform(iter(["hi"]), c)),
    "events v1": lambda r, c: asyncio.run(_drain(r.astream_events("hi", c, version="v1"))),
    "events v2": lambda r, c: asyncio.run(_drain(r.astream_events("hi", c, version="v2"))),
    "listened to": lambda r, c: r.invoke("hi", {**c, "callbacks": [Listener()]}),
    "listened to, async": lambda r, c: asyncio.run(r.ainvoke("hi", {**c, "callbacks": [Listener()]})),
}
"""Name of the way, and what consumes a runnable that takes a text."""

pytestmark = [
    pytest.mark.filterwarnings("ignore:astream_events version='v1' is deprecated"),
    pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning"),
]


def _only(model: Any) -> Any:
    (row,) = model.ledger.rows()
    return row


def _config(**more: Any) -> Any:
    return {"run_id": uuid4(), "metadata": {"user": "ada"}, "configurable": {"thread_id": "t"}, **more}


OBJECT = {"title": "a", "type": "object"}
PLACES: dict[str, Callable[[Any], tuple[Any, dict[str, Any]]]] = {
    "at the call": lambda model: (model, _config(tags=["cheap"])),
    "with_config": lambda model: (model.with_config(tags=["cheap"]), _config()),
    "bound": lambda model: (model.bind(stop=["never"]).with_config(tags=["cheap"]), _config()),
    "tools": lambda model: (model.bind_tools([OBJECT]).with_config(tags=["cheap"]), _config()),
    "configurable": lambda model: (model.configurable_fields(seed=SEED), _config(tags=["cheap"])),
    "chain": lambda model: (RunnableLambda(lambda text: text) | model, _config(tags=["cheap"])),
    "structured": lambda model: (
        model.with_structured_output(OBJECT, method="json_schema"),
        _config(tags=["cheap"]),
    ),
}
"""Where the tag is given, or what stands around the model."""
ALONE = {"at the call", "with_config", "bound", "tools", "configurable"}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("way", WAYS)
def test_a_tag_rule_holds_however_a_call_is_consumed(way: str, place: str) -> None:
    model = fake_chat_model(lambda _: "{}", policy=POLICY)
    runnable, config = PLACES[place](model)
    WAYS[way](runnable, config)
    row = _only(model)
    assert (row.intensity, row.rule) == (0, "cheap")
    assert "cheap" in row.tags
    assert row.metadata["user"] == "ada"
    assert row.thread_id == "t"
    assert row.root_run_id == str(config["run_id"])
    assert (row.run_id == row.root_run_id, row.parent_run_id is None) == (place in ALONE, place in ALONE)
    assert UUID(row.run_id)
    sizes = run_tree.TREE.sizes()
    assert (sizes["calls"], sizes["threads"]) == (0, 0)


@pytest.mark.parametrize("way", WAYS)
def test_tags_and_metadata_given_at_init(way: str) -> None:
    model = fake_chat_model(lambda _: "yes", policy=POLICY, tags=["cheap"], metadata={"team": "a"})
    WAYS[way](model, _config())
    row = _only(model)
    assert (row.intensity, row.rule, row.metadata["team"], row.thread_id) == (0, "cheap", "a", "t")


@pytest.mark.parametrize("way", WAYS)
def test_a_metadata_rule_holds_however_a_call_is_consumed(way: str) -> None:
    model = fake_chat_model(lambda _: "yes", policy=POLICY)
    WAYS[way](model, {"metadata": {"tier": "gold"}})
    assert (_only(model).intensity, _only(model).rule) == (0.75, "gold")


def test_protocol_events_of_a_model_know_their_run() -> None:
    for way in (lambda m, c: m.stream_events("hi", c, version="v3").output, lambda m, c: asyncio.run(_v3(m, c))):
        model = fake_chat_model(lambda _: "yes", policy=POLICY)
        config = _config(tags=["cheap"])
        way(model, config)
        row = _only(model)
        assert (row.intensity, row.run_id, row.thread_id) == (0, str(config["run_id"]), "t")


@pytest.mark.parametrize("way", WAYS)
def test_a_thread_budget_holds_for_bare_calls(way: str) -> None:
    """A call of no chain is a step of its thread too."""
    policy = {"run": {"max_tokens": 40, "answer_reserve": 5, "on_exhausted": "end", "per": "thread"}}
    model = fake_chat_model(lambda _: LONG, policy=policy, intensity=0.0)
    config = {"configurable": {"thread_id": way}}
    with pytest.raises(BudgetExhausted, match=r"run\.max_tokens"):
        _often(way, model, config)
    assert 30 <= sum(row.output_tokens for row in model.ledger.rows()) <= 40
    WAYS[way](model, {"configurable": {"thread_id": f"not {way}"}})


def _often(way: str, model: Any, config: Any) -> None:
    for _ in range(20):
        WAYS[way](model, config)


class State(TypedDict):
    said: str


INSIDE: dict[str, Callable[[Any], Callable[[State], Any]]] = {
    "invoke": lambda model: lambda state: {"said": str(model.invoke("hi").content)},
    "stream": lambda model: lambda state: {"said": "".join(str(c.content) for c in model.stream("hi"))},
    "batch": lambda model: lambda state: {"said": str(model.batch(["hi"])[0].content)},
}
"""How a graph's node calls the model."""
OUTSIDE: dict[str, Callable[[Any, Any], Any]] = {
    "invoke": lambda g, c: g.invoke({"said": ""}, c),
    "ainvoke": lambda g, c: asyncio.run(g.ainvoke({"said": ""}, c)),
    "messages": lambda g, c: list(g.stream({"said": ""}, c, stream_mode="messages")),
    "updates": lambda g, c: list(g.stream({"said": ""}, c, stream_mode="updates")),
    "messages, async": lambda g, c: asyncio.run(_drain(g.astream({"said": ""}, c, stream_mode="messages"))),
    "several modes": lambda g, c: list(g.stream({"said": ""}, c, stream_mode=["messages", "values", "custom"])),
    "events v2": lambda g, c: asyncio.run(_drain(g.astream_events({"said": ""}, c, version="v2"))),
}


def _graph(node: Any) -> Any:
    return StateGraph(State).add_node("planner", node).add_edge(START, "planner").add_edge("planner", END).compile()


@pytest.mark.parametrize("inside", INSIDE)
@pytest.mark.parametrize("outside", OUTSIDE)
def test_a_node_rule_holds_however_a_graph_is_consumed(outside: str, inside: str) -> None:
    model = fake_chat_model(lambda _: "yes", policy=POLICY)
    config = _config()
    OUTSIDE[outside](_graph(INSIDE[inside](model)), config)
    row = _only(model)
    assert (row.intensity, row.rule, row.node, row.step) == (0.25, "planner", "planner", 1)
    assert (row.root_run_id, row.thread_id, row.metadata["user"]) == (str(config["run_id"]), "t", "ada")
    assert row.run_id not in (None, row.root_run_id)
    assert row.parent_run_id is not None


@pytest.mark.parametrize("outside", ["invoke", "ainvoke", "messages", "messages, async", "events v2"])
def test_tags_reach_an_agent_under_the_middleware(outside: str) -> None:
    model = fake_chat_model(lambda _: "yes", policy=POLICY)
    budget = ReasoningBudgetMiddleware(run_limit=500)
    agent: Any = create_agent(model.with_config(tags=["cheap"]), [], middleware=[budget])
    config = _config()

    class Agent:
        """Speaks of messages where the table speaks of a state."""

        def __getattr__(self, name: str) -> Any:
            return lambda _, *given, **more: getattr(agent, name)({"messages": [("user", "hi")]}, *given, **more)

    OUTSIDE[outside](Agent(), config)
    row = _only(model)
    assert (row.intensity, row.rule, row.node) == (0, "cheap", "model")
    assert (row.root_run_id, row.thread_id) == (str(config["run_id"]), "t")


def test_interleaved_and_abandoned_streams_keep_their_own_runs() -> None:
    model = fake_chat_model(lambda _: LONG, policy=POLICY)
    first, second = _config(tags=["cheap"]), _config(metadata={"tier": "gold"})
    for _ in zip(model.stream("hi", first), model.stream("hi", second), strict=False):
        pass
    dropped: Any = model.stream("hi", {"tags": ["cheap"]})
    next(dropped)
    dropped.close()
    model.invoke("hi")
    by_run = {row.run_id: row for row in model.ledger.rows()}
    assert by_run[str(first["run_id"])].rule == "cheap"
    assert by_run[str(second["run_id"])].rule == "gold"
    assert sorted(row.rule or "" for row in model.ledger.rows()) == ["", "cheap", "cheap", "gold"]
    sizes = run_tree.TREE.sizes()
    assert (sizes["calls"], sizes["threads"]) == (0, 0)


def test_concurrent_async_streams_keep_their_own_runs() -> None:
    model = fake_chat_model(lambda _: LONG, policy=POLICY)
    tagged = [_config(tags=["cheap"]) if n % 2 else _config(metadata={"tier": "gold"}) for n in range(20)]

    async def all_of_them() -> None:
        await asyncio.gather(*(_drain(model.astream("hi", config)) for config in tagged))

    asyncio.run(all_of_them())
    by_run = {row.run_id: row.rule for row in model.ledger.rows()}
    assert [by_run[str(config["run_id"])] for config in tagged] == ["gold", "cheap"] * 10
