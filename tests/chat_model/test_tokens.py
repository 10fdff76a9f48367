"""Tokens are counted by the pair's own tokenizer and template, without weights and without the network."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import SummarizationMiddleware
from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    HumanMessage,
    SystemMessage,
    ToolCall,
    ToolMessage,
    trim_messages,
)
from langchain_core.tools import tool

from dami_agent import session
from dami_agent.chat_model import ChatDAMI
from dami_agent.testing import fake_chat_model


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


CALL = ToolCall(name="add", args={"a": 3, "b": 4}, id="1")
TALK: list[AnyMessage] = [
    SystemMessage("Be brief."),
    HumanMessage("What is 3 + 4?"),
    AIMessage("", tool_calls=[CALL], additional_kwargs={"reasoning_content": "Three and four."}),
    ToolMessage("7", tool_call_id="1", name="add"),
]


@pytest.mark.parametrize("intensity", [0.0, 0.5])
@pytest.mark.parametrize("tools", [None, [add]])
def test_the_count_is_that_of_the_prompt_a_call_sends(intensity: float, tools: Any) -> None:
    model = fake_chat_model(lambda _: "yes", reasoning_intensity=intensity)
    runnable: Any = model.bind_tools(tools) if tools else model
    for messages in (TALK[:1] + TALK[1:2], TALK[1:2], TALK):
        sent = runnable.invoke(messages).usage_metadata["input_tokens"]
        assert model.get_num_tokens_from_messages(messages, tools=tools) == sent
    assert model.get_num_tokens_from_messages(TALK, tools=[add]) > model.get_num_tokens_from_messages(TALK)


def test_texts_are_counted_as_text() -> None:
    model = ChatDAMI()
    assert model.get_num_tokens("") == 0
    assert model.get_token_ids("Add 5.") == model.pipeline().dialogue.encode("Add 5.")
    assert model.get_num_tokens("<|im_end|>") > 1  # in a user's text it is no control token
    assert model.get_num_tokens("word " * 100) > 100


def test_counting_needs_neither_network_nor_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("no network here")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(session, "_open_engine", refuse)
    monkeypatch.setattr(session, "_read", {})
    model = ChatDAMI(context_length=777)
    assert model.get_num_tokens("hello there") > 0
    assert model.get_num_tokens_from_messages(TALK, tools=[add]) > 20
    assert model.get_num_tokens_from_messages([]) == 0


def test_trim_messages_keeps_what_fits() -> None:
    model = ChatDAMI()
    talk: list[AnyMessage] = [SystemMessage("Be brief.")]
    for n in range(20):
        talk += [HumanMessage(f"Question number {n}, about nothing much."), AIMessage(f"Answer {n}.")]
    talk += [HumanMessage("And now?")]
    for most in (60, 200, 400):
        for strategy in ("last", "first"):
            kept = trim_messages(talk, max_tokens=most, token_counter=model, strategy=strategy)  # type: ignore[arg-type]
            assert 0 < len(kept) < len(talk)
            assert model.get_num_tokens_from_messages(kept) <= most
            more = talk[: len(kept) + 1] if strategy == "first" else talk[-len(kept) - 1 :]
            assert model.get_num_tokens_from_messages(more) > most  # not one message more would fit
    kept = trim_messages(
        talk, max_tokens=200, token_counter=model, strategy="last", include_system=True, start_on="human"
    )
    assert isinstance(kept[0], SystemMessage)
    assert isinstance(kept[1], HumanMessage)


@pytest.mark.parametrize("most", [30, 60, 120])
def test_trim_messages_over_calls_and_results(most: int) -> None:
    """On its way it asks for parts that start with an answer or a tool's result."""
    model = ChatDAMI()
    talk = [m for n in range(8) for m in (HumanMessage(f"{n}?"), *TALK[2:], AIMessage("It is 7."))]
    kept = trim_messages(talk, max_tokens=most, token_counter=model, strategy="last", allow_partial=False)
    assert len(kept) < len(talk)
    for start in range(len(talk)):
        assert model.get_num_tokens_from_messages(talk[start:]) > 0


def test_the_summariser_acts_at_a_fraction_of_the_window() -> None:
    writer = fake_chat_model(lambda _: "short of it")
    model = fake_chat_model(lambda _: "fine")
    assert model.profile is not None
    assert model.profile["max_input_tokens"] == model.engine.info.context_length == 4096
    summary = SummarizationMiddleware(
        writer, trigger=("fraction", 0.8), keep=("messages", 1), token_counter=model.get_num_tokens_from_messages
    )
    agent: Any = create_agent(model, [], middleware=[summary])
    few = [HumanMessage("word " * 300), AIMessage("so"), HumanMessage("hi")]
    assert len(agent.invoke({"messages": few})["messages"]) == 4
    many = [HumanMessage("word " * 900), AIMessage("so"), HumanMessage("hi")]
    assert "short of it" in agent.invoke({"messages": many})["messages"][0].text
