"""λ and every other setting survive bind, bind_tools, structured output, configuration and agents (real engine)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelRequest
from langchain_core.caches import InMemoryCache
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import ConfigurableField
from pydantic import BaseModel

from dami_agent.chat_model import ChatDAMI
from dami_agent.errors import ContextOverflow, InvalidRequest, OutputTruncated
from dami_agent.ledger import Ledger

PARAMS: dict[str, Any] = {"ledger": Ledger.disabled(), "max_tokens": 12, "seed": 5}


def model(**kwargs: Any) -> ChatDAMI:
    return ChatDAMI(**{**PARAMS, **kwargs})


def used(message: Any) -> float:
    return float(message.response_metadata["intensity"])


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Person(BaseModel):
    """A person."""

    age: int


FIELD = ConfigurableField(id="depth")


@pytest.mark.parametrize(
    "runnable",
    [
        pytest.param(lambda: model(reasoning_intensity=0.3), id="init"),
        pytest.param(lambda: model().bind(reasoning_intensity=0.3), id="bind"),
        pytest.param(lambda: model().bind(reasoning_intensity=0.3).bind_tools([add]), id="bind, bind_tools"),  # type: ignore[attr-defined]
        pytest.param(lambda: model().bind_tools([add]).bind(reasoning_intensity=0.3), id="bind_tools, bind"),
        pytest.param(lambda: model().bind_tools([add], reasoning_intensity=0.3), id="inside bind_tools"),
        pytest.param(lambda: model(reasoning_intensity=1).bind(reasoning_intensity=0.3), id="bind beats init"),
        pytest.param(lambda: model(reasoning_effort="max").bind(reasoning_intensity=0.3), id="number over effort"),
        pytest.param(
            lambda: (
                model()
                .configurable_fields(reasoning_intensity=FIELD)
                .bind_tools([add])
                .with_config(configurable={"depth": 0.3})
            ),
            id="configurable, bind_tools",
        ),
        pytest.param(
            lambda: (
                model(reasoning_intensity=1)
                .configurable_fields(reasoning_intensity=FIELD)
                .with_config(configurable={"depth": 0.3})
            ),
            id="configurable beats init",
        ),
    ],
)
def test_intensity_is_never_lost(runnable: Any) -> None:
    assert used(runnable().invoke("hi")) == 0.3


def test_call_beats_bind_beats_configurable() -> None:
    configured = model().configurable_fields(reasoning_intensity=FIELD).with_config(configurable={"depth": 0.1})
    assert used(configured.bind(reasoning_intensity=0.2).invoke("hi")) == 0.2
    assert used(model().bind(reasoning_intensity=0.2).invoke("hi", reasoning_intensity=0.7)) == 0.7
    assert used(model().bind(reasoning_intensity=0.2).invoke("hi", reasoning_effort="none")) == 0


def test_structured_output_keeps_what_was_bound() -> None:
    bound = model(max_tokens=60).bind(reasoning_intensity=0.3)
    for method in ("json_schema", "function_calling", "json_mode"):
        result = bound.with_structured_output(Person, method=method, include_raw=True).invoke("who?")  # type: ignore[attr-defined]
        assert used(result["raw"]) == 0.3
        inside = model(max_tokens=60).with_structured_output(
            Person, method=method, include_raw=True, reasoning_intensity=0.6
        )
        assert used(inside.invoke("who?")["raw"]) == 0.6


def test_agents_keep_what_was_bound_and_middleware_beats_it() -> None:
    class Deeper(AgentMiddleware):
        def wrap_model_call(self, request: ModelRequest, handler: Any) -> Any:
            return handler(request.override(model_settings={"reasoning_intensity": 0.9}))

    bound = model().bind(reasoning_intensity=0.3)
    question = {"messages": [HumanMessage("hi")]}
    assert used(create_agent(bound, tools=[]).invoke(question)["messages"][-1]) == 0.3
    tooled = create_agent(model().bind(reasoning_intensity=0.3), tools=[add])
    replies = [m for m in tooled.invoke(question)["messages"] if isinstance(m, AIMessage)]
    assert {used(m) for m in replies} == {0.3}
    deeper = create_agent(bound, tools=[add], middleware=[Deeper()]).invoke(question)["messages"]
    assert {used(m) for m in deeper if isinstance(m, AIMessage)} == {0.9}


def test_truncated_structured_output_is_an_error_never_half_an_object() -> None:
    short = model(max_tokens=2, reasoning_intensity=0)
    with pytest.raises(OutputTruncated) as caught:
        short.with_structured_output(Person).invoke("who?")
    assert caught.value.hint
    both = short.with_structured_output(Person, include_raw=True).invoke("who?")
    assert both["parsed"] is None
    assert isinstance(both["parsing_error"], OutputTruncated)


def join(chunks: Iterator[Any]) -> AIMessageChunk:
    parts = list(chunks)
    assert sum("intensity" in p.response_metadata for p in parts) == 1
    full = parts[0]
    for part in parts[1:]:
        full = full + part
    assert isinstance(full, AIMessageChunk)
    return full


@pytest.mark.parametrize("intensity", [0.0, 0.5, 1.0])
def test_streamed_and_whole_are_the_same_message(intensity: float) -> None:
    chat = model(reasoning_intensity=intensity, max_tokens=40)
    whole = chat.invoke("What is 3 plus 4?")
    streamed = join(chat.stream("What is 3 plus 4?"))
    assert streamed.content == whole.content
    assert streamed.content_blocks == whole.content_blocks
    again = streamed.usage_metadata["input_token_details"]["cache_read"]  # the prompt has been read before
    assert streamed.usage_metadata == {**whole.usage_metadata, "input_token_details": {"cache_read": again}}
    assert 0 < again < streamed.usage_metadata["input_tokens"]
    tools = chat.bind_tools([add], tool_choice="any", parallel_tool_calls=False)
    whole, streamed = tools.invoke("add 3 and 4"), join(tools.stream("add 3 and 4"))
    assert [(c["name"], c["args"]) for c in streamed.tool_calls] == [(c["name"], c["args"]) for c in whole.tool_calls]


def test_same_seed_same_answer_other_intensity_other_cache_entry() -> None:
    chat = model(reasoning_intensity=0.5)
    assert chat.invoke("hello").content == chat.invoke("hello").content
    cached = model(cache=InMemoryCache())
    first = cached.invoke("hello", reasoning_intensity=0.2)
    again = cached.invoke("hello", reasoning_intensity=0.2)
    assert again.response_metadata["call_id"] == first.response_metadata["call_id"]
    assert used(cached.bind(reasoning_intensity=0.8).invoke("hello")) == 0.8
    assert used(model(cache=cached.cache, reasoning_intensity=0.9).invoke("hello", reasoning_intensity=0.2)) == 0.2


def test_threads_and_asyncio_share_the_engine() -> None:
    chat = model(temperature=0.7)
    wanted = [i / 16 for i in range(16)]
    alone = {x: chat.invoke("What is 2 plus 2?", reasoning_intensity=x).content for x in wanted}
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda x: chat.invoke("What is 2 plus 2?", reasoning_intensity=x), wanted))
    assert {x: m.content for x, m in zip(wanted, together, strict=True)} == alone

    async def everything() -> list[Any]:
        return await asyncio.gather(*(chat.ainvoke("What is 2 plus 2?", reasoning_intensity=x) for x in wanted))

    assert {x: m.content for x, m in zip(wanted, asyncio.run(everything()), strict=True)} == alone


def test_usage_adds_up_and_counts_the_probe() -> None:
    reply = model(max_tokens=60).invoke("Start with 7. Add 5. Multiply by 3. What is the result?")
    usage, metadata = reply.usage_metadata, reply.response_metadata
    assert usage is not None
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert usage["output_token_details"]["reasoning"] >= metadata["probe_tokens"]
    assert all(type(v) is int for v in usage["output_token_details"].values())
    probe = metadata["estimate"]["features"]["probe_tokens"]
    assert metadata["probe_tokens"] == (0 if metadata["intensity"] == 0 else probe)
    assert metadata["model_name"] == "dami-builtin"


def test_logprobs_and_stop() -> None:
    reply = model(reasoning_intensity=0).invoke("hello", logprobs=True, top_logprobs=2)
    entries = reply.response_metadata["logprobs"]["content"]
    assert len(entries) == reply.usage_metadata["output_tokens"]  # type: ignore[index]
    assert all(entry["logprob"] <= 0 and len(entry["top_logprobs"]) == 2 for entry in entries)
    free = model(reasoning_intensity=0, max_tokens=30).invoke("hello").content
    assert isinstance(free, str)
    cut = free[len(free) // 2 :][:1]
    if cut:
        stopped = model(reasoning_intensity=0, max_tokens=30).invoke("hello", stop=[cut])
        assert stopped.content == free[: free.index(cut)].rstrip("\n")


def test_history_of_every_kind_is_accepted() -> None:
    call = {"name": "add", "args": {"a": 1, "b": 2}, "id": "c1"}
    history = [
        SystemMessage("Be brief."),
        HumanMessage([{"type": "text", "text": "Add 1 and 2."}]),
        AIMessage("", tool_calls=[call], additional_kwargs={"reasoning_content": "I should add."}),
        ToolMessage([{"type": "text", "text": "3"}], tool_call_id="c1", status="error"),
    ]
    assert model().bind_tools([add]).invoke(history).response_metadata["call_id"]
    with pytest.raises(InvalidRequest, match="image"):
        model().invoke([HumanMessage([{"type": "image", "url": "x"}])])
    with pytest.raises(InvalidRequest, match="no messages"):
        model().invoke([])


def test_overflow_is_refused_before_work() -> None:
    with pytest.raises(ContextOverflow, match="context"):
        model().invoke("word " * 10_000)
