"""Tool calls that break their schema, name no tool or cannot be read: an agent goes on, or fails by name."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from pydantic import BaseModel

from dami_agent.errors import BudgetExhausted, OutputInvalid, OutputTruncated
from dami_agent.testing import FakeReply, fake_chat_model

GARBLED = '<tool_call>\n{"name": "double", "arguments": {"a": \n</tool_call>'
CALL = FakeReply(reasoning="two sixes", tool_calls=[("double", {"a": 6})])
BAD = FakeReply(answer=GARBLED, reasoning="a double")
DONE = "It is 12."


def double(a: int) -> int:
    """Double a number."""
    return 2 * a


class Total(BaseModel):
    """A total."""

    value: int


def agent_run(model: Any, how: str, **agent: Any) -> list[Any]:
    """The messages of one agent run, however it is consumed."""
    made: Any = create_agent(model, [double], **agent)
    given = {"messages": [HumanMessage("Double 6.")]}
    if how == "invoke":
        return list(made.invoke(given)["messages"])
    if how == "async":
        return list(asyncio.run(made.ainvoke(given))["messages"])
    return list(list(made.stream(given, stream_mode=["messages", "values"]))[-1][1]["messages"])


@pytest.mark.parametrize("how", ["invoke", "async", "stream"])
@pytest.mark.parametrize(
    ("call", "told"),
    [
        (("double", {"a": "six"}), "Input should be a valid integer"),
        (("double", {}), "Field required"),
        (("duble", {"a": 6}), "duble is not a valid tool"),
        (("double", {"a": None, "b": 1}), "Input should be a valid integer"),
    ],
)
def test_the_model_is_told_what_is_wrong_with_its_call(call: Any, told: str, how: str) -> None:
    model = fake_chat_model([FakeReply(tool_calls=[call]), CALL, DONE], reasoning_intensity=0.5)
    messages = agent_run(model, how)
    assert [type(m) for m in messages[1:]] == [AIMessage, ToolMessage, AIMessage, ToolMessage, AIMessage]
    assert told in messages[2].content
    assert messages[2].status == "error"
    assert messages[-1].content == DONE
    assert [row.accepted for row in model.ledger.rows()] == [False, True, True]


@pytest.mark.parametrize("how", ["invoke", "async", "stream"])
def test_a_call_that_cannot_be_read_is_asked_for_once_more(how: str) -> None:
    model = fake_chat_model([BAD, CALL, DONE], intensity=0.3)
    messages = agent_run(model, how)
    assert messages[-1].content == DONE
    assert messages[1].tool_calls[0]["args"] == {"a": 6}
    first, second, _ = model.ledger.rows()
    assert (first.attempt, first.accepted, second.attempt, second.accepted) == (0, False, 1, True)
    assert second.intensity > first.intensity  # estimated, so it may be raised
    assert "invalid tool call: not valid JSON" in str(second.reason)
    assert messages[1].usage_metadata["output_tokens"] == first.output_tokens + second.output_tokens


@pytest.mark.parametrize("seed", [None, 7])
def test_a_number_stays_as_it_was_asked_for_and_another_stream_is_drawn(seed: int | None) -> None:
    model = fake_chat_model([BAD, CALL], reasoning_intensity=0.37, seed=seed)
    assert model.bind_tools([double]).invoke("?").tool_calls
    one, other = (request.decision for request in model.engine.requests)
    assert (one.intensity, other.intensity) == (0.37, 0.37)
    assert other.sampling.seed == (None if seed is None else 8)


def test_greedy_decoding_would_say_the_same_again_so_intensity_is_raised() -> None:
    model = fake_chat_model([BAD, CALL], reasoning_intensity=0.0, temperature=0)
    with pytest.warns(UserWarning, match="greedy"):
        model.bind_tools([double]).invoke("?")
    assert [float(r.decision.intensity) for r in model.engine.requests] == [0.0, 0.25]
    top = fake_chat_model([BAD], reasoning_intensity=1.0, temperature=0)
    with pytest.warns(UserWarning, match="greedy"):
        assert top.bind_tools([double]).invoke("?").invalid_tool_calls
    assert len(top.engine.requests) == 1


def test_only_once_and_never_for_what_nobody_misses() -> None:
    model = fake_chat_model(lambda _: BAD)
    assert model.bind_tools([double]).invoke("?").invalid_tool_calls
    assert len(model.engine.requests) == 2
    for given in ({"tool_choice": "none"}, {"max_tokens": 30}):
        model = fake_chat_model(lambda _: FakeReply("Words. " + GARBLED + "more " * 30), reasoning_intensity=0)
        tools = model.bind_tools([double], tool_choice=given.get("tool_choice"))
        if "max_tokens" in given:
            with pytest.raises(OutputTruncated, match="inside a tool call"):
                tools.invoke("?", max_tokens=30)
        else:
            assert tools.invoke("?").content
        assert len(model.engine.requests) == 1
    one = fake_chat_model(lambda _: FakeReply(tool_calls=[("double", {"a": 1})] * 2))
    message = one.bind_tools([double], parallel_tool_calls=False).invoke("?")
    assert (len(message.tool_calls), len(message.invalid_tool_calls), len(one.engine.requests)) == (1, 1, 1)


def test_a_stream_shows_both_thoughts_but_only_the_last_calls() -> None:
    replies = [FakeReply("I look. " + GARBLED, reasoning="one"), FakeReply("I see.", "two", [("double", {"a": 6})])]
    whole: Any = None
    for chunk in fake_chat_model(replies).bind_tools([double]).stream("?"):
        whole = chunk if whole is None else whole + chunk
    assert isinstance(whole, AIMessageChunk)
    assert whole.additional_kwargs["reasoning_content"] == "one\n\ntwo"
    assert whole.content == "I look. \nI see."
    assert [call["args"] for call in whole.tool_calls] == [{"a": 6}]
    assert whole.invalid_tool_calls == []
    message = fake_chat_model(replies).bind_tools([double]).invoke("?")
    assert (message.content, message.additional_kwargs["reasoning_content"]) == ("I see.", "two")


def test_what_is_fine_streams_as_it_comes() -> None:
    reply = FakeReply("Some words.", reasoning="a thought of a few tokens")
    model = fake_chat_model([reply], seconds_per_token=0.001).bind_tools([double])
    kinds = [
        "r" if "reasoning_content" in c.additional_kwargs else "t" for c in model.stream("?") if not c.usage_metadata
    ]
    assert kinds.count("r") > 3
    assert kinds.count("t") > 2


def test_a_budget_without_room_for_another_attempt_gives_what_there_is() -> None:
    tokens = len(fake_chat_model([]).engine.encode(GARBLED))
    model = fake_chat_model(
        lambda _: FakeReply(GARBLED),
        reasoning_intensity=0,
        policy={"run": {"max_tokens": tokens, "on_exhausted": "error"}},
    )
    assert model.bind_tools([double]).invoke("?").invalid_tool_calls
    assert len(model.engine.requests) == 1


def test_escalation_still_rejects_a_call_that_breaks_its_schema() -> None:
    bad = FakeReply(tool_calls=[("double", {"a": "six"})])
    model = fake_chat_model([bad, bad, CALL], intensity=0.0, policy={"escalation": {"max_attempts": 3}})
    assert model.bind_tools([double]).invoke("?").tool_calls[0]["args"] == {"a": 6}
    rows = list(model.ledger.rows())
    assert [row.accepted for row in rows] == [False, False, True]
    assert rows[0].intensity < rows[1].intensity < rows[2].intensity
    assert "break the schema of 'double'" in str(rows[1].reason)


# ---- structured output: never an object that breaks its schema ------------------------------------------------------


@pytest.mark.parametrize("schema", [Total, Total.model_json_schema()])
@pytest.mark.parametrize("bad", [("Total", {"value": "many"}), ("Total", {}), ("Sum", {"value": 1})])
def test_a_forced_call_that_breaks_the_schema_is_an_error(schema: Any, bad: Any) -> None:
    model = fake_chat_model(lambda _: FakeReply(tool_calls=[bad]))
    with pytest.raises(OutputInvalid):
        model.with_structured_output(schema, method="function_calling").invoke("?")
    both = model.with_structured_output(schema, method="function_calling", include_raw=True).invoke("?")
    assert both["parsed"] is None
    assert isinstance(both["parsing_error"], OutputInvalid)


@pytest.mark.parametrize("how", ["invoke", "async", "stream"])
def test_an_agents_object_is_asked_for_again(how: str) -> None:
    replies = [FakeReply(tool_calls=[("Total", {"value": "many"})]), FakeReply(tool_calls=[("Total", {"value": 12})])]
    messages = agent_run(fake_chat_model(replies), how, response_format=ToolStrategy(Total))
    assert "valid integer" in messages[2].content
    assert messages[-2].tool_calls[0]["args"] == {"value": 12}


# ---- cut replies ----------------------------------------------------------------------------------------------------

LONG = FakeReply("It is twelve.", reasoning="so " * 200)


@pytest.mark.parametrize("how", ["invoke", "async", "stream"])
@pytest.mark.parametrize("reply", [LONG, FakeReply(GARBLED + " " + "x " * 50)])
def test_a_cut_reply_never_ends_an_agent_in_silence(reply: FakeReply, how: str) -> None:
    model = fake_chat_model(lambda _: reply, reasoning_intensity=0.5, max_tokens=3)
    with pytest.raises(OutputTruncated, match="raise max_tokens or context_length") as caught:
        agent_run(model, how)
    assert caught.value.generation is not None
    assert caught.value.generation.output_tokens == 3
    (row,) = model.ledger.rows()
    assert row.error_type == "OutputTruncated"
    assert row.output_tokens == 3


def test_a_budget_that_cuts_a_reply_off_says_so() -> None:
    run = {"max_tokens": 40, "on_exhausted": "error"}
    model = fake_chat_model(lambda _: LONG, reasoning_intensity=0.5, max_reasoning_tokens=400, policy={"run": run})
    with pytest.raises(OutputTruncated):  # the caller's own cap is the tighter one
        model.bind_tools([double]).invoke("?", max_tokens=1)
    cut = fake_chat_model(lambda _: FakeReply(GARBLED + "x " * 90), reasoning_intensity=0, policy={"run": run})
    with pytest.raises(
        BudgetExhausted, match=r"(?s)cut off inside a tool call, after 40 tokens.*raise the run's"
    ) as caught:
        agent_run(cut, "invoke")
    assert caught.value.generation is not None


def test_where_nothing_ends_in_silence_a_cut_reply_is_as_with_other_models() -> None:
    model = fake_chat_model(lambda _: LONG, reasoning_intensity=0.5)
    bare = model.invoke("?", max_tokens=1)
    assert (bare.content, bare.response_metadata["finish_reason"]) == ("", "length")
    with pytest.raises(OutputTruncated):
        model.bind_tools([double]).invoke("?", max_tokens=1)
    part = model.bind_tools([double]).invoke("?", max_tokens=12)  # half is kept for the answer
    assert part.content
    called = fake_chat_model(lambda _: FakeReply(tool_calls=[("double", {"a": 1})] * 30), reasoning_intensity=0)
    assert called.bind_tools([double]).invoke("?", max_tokens=60).tool_calls
    structured = model.with_structured_output(Total, include_raw=True).invoke("?", max_tokens=1)
    assert isinstance(structured["parsing_error"], OutputTruncated)


@pytest.mark.parametrize("how", ["invoke", "stream"])
def test_an_agent_without_tools_fails_by_name_too(how: str) -> None:
    model = fake_chat_model(lambda _: LONG, reasoning_intensity=0.5, max_tokens=1)
    agent: Any = create_agent(model, [])
    with pytest.raises(OutputTruncated):
        agent.invoke({"messages": "?"}) if how == "invoke" else list(agent.stream({"messages": "?"}))


def test_a_call_that_cannot_be_read_twice_is_an_error_in_a_graph() -> None:
    model = fake_chat_model(lambda _: BAD)
    with pytest.raises(OutputInvalid, match="cannot be read: not valid JSON"):
        agent_run(model, "invoke")
    assert len(model.engine.requests) == 2
