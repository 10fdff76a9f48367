"""A stream adds up to what ``invoke`` gives, in both of LangChain's message formats."""

from __future__ import annotations

import asyncio
from functools import reduce
from operator import add as plus
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.tools import tool

from dami_agent.testing import FakeReply, fake_chat_model
from tests.chat_model.test_consumption import Listener

CALLS = [("add", {"a": 3, "b": 4}), ("add", {"a": 5, "b": 6})]
BROKEN = '<tool_call>\n{"name": "add", "arguments": {"a": 3, \n</tool_call>'
REPLIES = {
    "thought and text": FakeReply("It is seven.", reasoning="3 + 4"),
    "text": FakeReply("It is seven."),
    "thought and call": FakeReply(reasoning="I add.", tool_calls=CALLS[:1]),
    "text and call": FakeReply("Let me see.", tool_calls=CALLS[:1]),
    "all": FakeReply("Let me see.", reasoning="I add twice.", tool_calls=CALLS),
    "calls": FakeReply(tool_calls=CALLS),
    "a broken call": FakeReply(f"Let me see.\n{BROKEN}", reasoning="I add."),
    "nothing": FakeReply(""),
}


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def _whole(chunks: list[Any]) -> AIMessageChunk:
    whole: AIMessageChunk = reduce(plus, chunks)
    return whole


async def _all(chunks: Any) -> list[Any]:
    return [chunk async for chunk in chunks]


def _plain(message: AIMessage) -> list[Any]:
    """The content blocks, without the numbers by which LangChain adds chunks up and ids that are drawn anew."""
    return [{key: v for key, v in block.items() if key not in ("index", "id")} for block in message.content_blocks]


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
@pytest.mark.parametrize("version", ["v0", "v1", None])
@pytest.mark.parametrize("case", REPLIES)
def test_chunks_add_up_to_the_message_of_invoke(case: str, version: str | None) -> None:
    policy = {"escalation": {"max_attempts": 1}}
    model = fake_chat_model(lambda _: REPLIES[case], output_version=version, policy=policy)
    bound: Any = model.bind_tools([add])
    whole = bound.invoke("3 + 4, 5 + 6?")
    listened = {"callbacks": [Listener()]}
    others = {
        "stream": _whole(list(bound.stream("3 + 4, 5 + 6?"))),
        "astream": _whole(asyncio.run(_all(bound.astream("3 + 4, 5 + 6?")))),
        "invoke, listened to": bound.invoke("3 + 4, 5 + 6?", listened),
        "ainvoke, listened to": asyncio.run(bound.ainvoke("3 + 4, 5 + 6?", listened)),
        "v3 events": bound.stream_events("3 + 4, 5 + 6?", version="v3").output,
    }
    for way, message in others.items():
        if way == "v3 events" and case in ("a broken call", "nothing"):
            continue
        assert _plain(message) == _plain(whole), way
        assert [call["args"] for call in message.tool_calls] == [call["args"] for call in whole.tool_calls], way
        assert len(message.invalid_tool_calls) == len(whole.invalid_tool_calls), way
        assert message.text == whole.text, way
        assert message.usage_metadata == whole.usage_metadata, way
        assert isinstance(message.content, list) == (version == "v1") or way == "v3 events", way


def test_all_blocks_of_a_v1_stream_are_kept() -> None:
    model = fake_chat_model(lambda _: REPLIES["all"], output_version="v1")
    whole = _whole(list(model.bind_tools([add]).stream("?")))
    assert [block["type"] for block in whole.content_blocks] == ["reasoning", "text", "tool_call", "tool_call"]
    assert [call["args"] for call in whole.tool_calls] == [args for _, args in CALLS]


@pytest.mark.parametrize("version", ["v0", "v1"])
def test_a_streamed_reply_is_read_again_as_history(version: str) -> None:
    model = fake_chat_model(lambda _: REPLIES["thought and text"], output_version=version)
    first = _whole(list(model.stream("3 + 4?")))
    invoked = model.invoke("3 + 4?")
    counts = [
        model.invoke([HumanMessage("3 + 4?"), answer, HumanMessage("And now?")]).usage_metadata["input_tokens"]  # type: ignore[index]
        for answer in (first, invoked)
    ]
    assert counts[0] == counts[1]
