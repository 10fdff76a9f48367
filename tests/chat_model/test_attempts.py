"""What a LangChain user sees of attempts: the tokens of all of them, the metadata of the one that was accepted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk
from pydantic import BaseModel, field_validator

from dami_agent.errors import OutputInvalid
from dami_agent.testing import FakeReply, fake_chat_model

BROKEN = FakeReply('<tool_call>\n{"name": "add", "arguments": {"a": \n</tool_call>', reasoning="let me see")
GOOD = FakeReply("It is seven.", reasoning="three and four")


def message_of(model: Any, how: str, **call: Any) -> AIMessage:
    if how == "stream":
        whole: Any = None
        for chunk in model.stream("Add 3.", **call):
            whole = chunk if whole is None else whole + chunk
        assert isinstance(whole, AIMessageChunk)
        return whole
    if how == "async":
        return asyncio.run(model.ainvoke("Add 3.", **call))  # type: ignore[no-any-return]
    return model.invoke("Add 3.", **call)  # type: ignore[no-any-return]


@pytest.mark.parametrize("how", ["invoke", "async", "stream"])
@pytest.mark.parametrize("rejected", [0, 1, 2])
def test_usage_is_what_all_attempts_cost(how: str, rejected: int) -> None:
    model = fake_chat_model([*[BROKEN] * rejected, GOOD], policy={"escalation": {"max_attempts": 3}})
    counted = UsageMetadataCallbackHandler()
    message = message_of(model, how, reasoning_intensity=0.25, config={"callbacks": [counted]})
    rows = list(model.ledger.rows())
    usage, metadata = message.usage_metadata, message.response_metadata
    assert usage is not None
    assert len(rows) == rejected + 1
    assert usage["output_tokens"] == sum(row.output_tokens for row in rows)
    assert usage["input_tokens"] == sum(row.prompt_tokens for row in rows)
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert usage["output_token_details"]["reasoning"] == sum(row.reasoning_tokens for row in rows) > 0
    assert counted.usage_metadata["fake"] == usage
    assert metadata["attempts"] == rejected + 1
    if rejected:
        assert metadata["attempt_usage"]["output_tokens"] == rows[-1].output_tokens < usage["output_tokens"]
        assert metadata["attempt_usage"]["input_tokens"] == rows[-1].prompt_tokens
        assert metadata["attempt_usage"]["output_token_details"]["reasoning"] == rows[-1].reasoning_tokens
    else:
        assert "attempt_usage" not in metadata
    assert metadata["intensity"] == rows[-1].intensity
    assert (message.content, message.additional_kwargs["reasoning_content"]) == (GOOD.answer, GOOD.reasoning)


# ---- structured output ----------------------------------------------------------------------------------------------


class Even(BaseModel):
    """A number that a grammar cannot see to."""

    number: int

    @field_validator("number")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("odd")
        return value


def said(number: int, method: str) -> FakeReply:
    if method == "function_calling":
        return FakeReply(tool_calls=[("Even", {"number": number})])
    return FakeReply(f'{{"number": {number}}}')


@pytest.mark.parametrize("how", ["invoke", "async", "stream"])
@pytest.mark.parametrize("method", ["function_calling", "json_schema", "json_mode"])
def test_an_object_that_does_not_validate_is_asked_for_again_deeper(method: Any, how: str) -> None:
    replies = [said(3, method), said(5, method), said(8, method)]
    model = fake_chat_model(replies, intensity=0.0, policy={"escalation": {"max_attempts": 4}})
    form = model.with_structured_output(Even, method=method)
    if how == "invoke":
        found = form.invoke("?")
    elif how == "async":
        found = asyncio.run(form.ainvoke("?"))
    else:
        (found,) = form.stream("?")
    assert found == Even(number=8)
    rows = list(model.ledger.rows())
    assert [row.accepted for row in rows] == [False, False, True]
    assert [row.intensity for row in rows] == sorted({row.intensity for row in rows})
    assert "schema failure: the output does not validate" in str(rows[1].reason)


@pytest.mark.parametrize("method", ["function_calling", "json_schema"])
def test_without_attempts_left_the_error_is_the_users(method: Any) -> None:
    for escalation in ({}, {"max_attempts": 2}, {"max_attempts": 3, "on": ["invalid_tool_call"]}):
        model = fake_chat_model(lambda _: said(3, method), policy={"escalation": escalation})
        with pytest.raises(OutputInvalid, match="odd"):
            model.with_structured_output(Even, method=method).invoke("?")
        attempts = escalation.get("max_attempts", 1) if "on" not in escalation else 1
        assert len(list(model.ledger.rows())) == attempts


def test_a_response_format_of_the_callers_own_is_checked_too() -> None:
    policy = {"escalation": {"max_attempts": 2}, "rules": [{"name": "forms", "when": {"structured": True}}]}
    for given, replies in (
        ({"type": "json_object"}, ["no json", '{"a": 1}']),
        (Even, ['{"number": 3}', '{"number": 4}']),
        ({"type": "text"}, ["no json"]),
    ):
        model = fake_chat_model(replies, policy=policy)
        model.invoke("?", response_format=given)
        rows = list(model.ledger.rows())
        assert len(rows) == len(replies)
        assert {row.rule for row in rows} == ({"forms"} if len(replies) > 1 else {None})


def test_beside_tools_a_call_is_as_good_as_the_object() -> None:
    model = fake_chat_model([FakeReply(tool_calls=[("add", {"a": 1})])], policy={"escalation": {"max_attempts": 2}})
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    reply = model.invoke("?", tools=[tool], response_format={"type": "json_object"})
    assert [call["name"] for call in reply.tool_calls] == ["add"]
    assert model.ledger.rows()[0].accepted


@pytest.mark.parametrize("method", ["function_calling", "json_schema", "json_mode"])
def test_rules_see_that_an_object_is_asked_for(method: Any) -> None:
    rules = [{"name": "forms", "when": {"structured": True}, "intensity": 0.25}]
    model = fake_chat_model([said(2, method), said(2, method), "x"], policy={"rules": rules})
    form = model.with_structured_output(Even, method=method)
    form.invoke("?")
    list(form.stream("?"))
    model.invoke("?")
    assert [row.rule for row in model.ledger.rows()] == ["forms", "forms", None]
