"""What stands before the last close marker is reasoning, whatever the engine called it, streamed or whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessageChunk

from dami_agent.chat_model import ChatDAMI
from dami_agent.dialogue.one_thought import one_thought
from dami_agent.testing import FakeEngine, FakeReply, FakeRequest, fake_chat_model
from dami_agent.types import Generation, TokenEvent

OPEN, CLOSE = 90, 91


def read(parts: str, ids: list[int] | None = None) -> list[tuple[int, str]]:
    """Events of r, c and a, a letter a token; < and > are markers inside the answer."""
    found = []
    for place, letter in enumerate(parts):
        token = {"<": OPEN, ">": CLOSE}.get(letter, place)
        part: Any = {"r": "reasoning", "c": "control"}.get(letter, "answer")
        found.append(TokenEvent(token_id=token, part=part))
    assert [e.token_id for e in one_thought(found, open_id=OPEN, close_id=CLOSE)] == [e.token_id for e in found]
    return [(e.token_id, e.part[0]) for e in one_thought(found, open_id=OPEN, close_id=CLOSE)]


@pytest.mark.parametrize(
    ("given_", "wanted"),
    [
        ("rrcaa", "rrcaa"),
        ("rrcaa>aa", "rrcrrcaa"),
        ("rrca>a>a", "rrcrcrca"),
        ("aa>a", "rrca"),  # no thought was opened: under Instruct's template too
        ("rca<aa>a", "rcrcrrca"),
        ("rca<aa", "rcacrr"),  # opened and never closed
        ("rca>", "rcrc"),
        ("", ""),
    ],
)
def test_parts(given_: str, wanted: str) -> None:
    assert "".join(part for _, part in read(given_)) == wanted


@given(st.text("rca<>", max_size=30))
def test_no_answer_before_a_close_and_no_marker_in_the_answer(letters: str) -> None:
    found = read(letters)
    last = max((place for place, letter in enumerate(letters) if letter == ">"), default=-1)
    assert all(part != "a" for _, part in found[: last + 1])
    assert all(token not in (OPEN, CLOSE) for token, part in found if part == "a")


def test_a_thought_is_given_out_as_it_comes_and_an_answer_at_its_end() -> None:
    asked: list[str] = []

    def events() -> Iterator[TokenEvent]:
        for part in ("reasoning", "control", "answer", "answer"):
            asked.append(part)
            yield TokenEvent(token_id=1, part=part)  # type: ignore[arg-type]

    given_out = one_thought(events(), open_id=OPEN, close_id=CLOSE)
    assert (next(given_out).part, next(given_out).part, len(asked)) == ("reasoning", "control", 2)
    assert (next(given_out).part, len(asked)) == ("answer", 4)


class Remote(FakeEngine):
    """Cannot mask a token, and takes whatever follows the first close for the answer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.info = replace(self.info, masks_markers=False)

    def write(self, reply: FakeReply, request: FakeRequest) -> Generation:
        made = super().write(FakeReply("", reply.reasoning), request)
        answer = [TokenEvent(token_id=token, part="answer") for token in self.encode(reply.text)]
        return replace(made, events=(*made.events, *answer))


def model_of(reply: FakeReply, **settings: Any) -> ChatDAMI:
    plain = fake_chat_model([])
    engine = Remote([reply] * 9, plain.engine.encode)
    return fake_chat_model([], engine=engine, **settings)


CASES = [
    ("It is 7.", "It is 7.", "3 + 4"),
    ("\nno, 3 + 5\n</think>\n\nIt is 8.", "It is 8.", "3 + 4\nno, 3 + 5"),
    ("It is 7.\n</think>\n\nno\n</think>\n\nIt is 8.", "It is 8.", "3 + 4It is 7.\nno"),
    ("It is 7.<think>\nreally?\n</think>\n\nYes, 7.", "Yes, 7.", "3 + 4It is 7.\nreally?"),
    ("\n</think>\n\n", "", "3 + 4"),
]


@pytest.mark.parametrize(("answer", "content", "reasoning"), CASES)
@pytest.mark.parametrize("remote", [True, False])
def test_streamed_and_whole_are_equal(answer: str, content: str, reasoning: str, remote: bool) -> None:
    reply = FakeReply(answer, "3 + 4")
    model = model_of(reply) if remote else fake_chat_model([reply] * 9)
    whole = model.invoke("What is it?")
    streamed = None
    for chunk in model.stream("What is it?"):
        assert isinstance(chunk, AIMessageChunk)
        streamed = chunk if streamed is None else streamed + chunk
    assert streamed is not None
    for message in (whole, streamed):
        assert message.content == content
        assert "think>" not in str(message.content)
        assert message.additional_kwargs["reasoning_content"].replace("\n", "") == reasoning.replace("\n", "")
    assert whole.additional_kwargs["reasoning_content"] == streamed.additional_kwargs["reasoning_content"]
    row = model.ledger.rows()[-1]
    assert whole.usage_metadata is not None
    assert row.reasoning_tokens == whole.usage_metadata["output_token_details"]["reasoning"]


def test_without_a_thought_what_stands_before_a_close_is_one() -> None:
    message = model_of(FakeReply("so 3 + 4\n</think>\n\nIt is 7."), reasoning_intensity=0).invoke("What is it?")
    assert (message.content, message.additional_kwargs["reasoning_content"]) == ("It is 7.", "so 3 + 4")
    assert message.response_metadata["template"] == "instruct"


def test_a_call_before_a_close_was_only_thought_of() -> None:
    call = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    reply = FakeReply(f"{call}\n</think>\n\nNo tool is needed.", "hm")
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    message = model_of(reply).invoke("go on", tools=tools)
    assert (message.tool_calls, message.content) == ([], "No tool is needed.")


def test_a_marker_in_a_users_or_a_tools_text_is_text() -> None:
    model = model_of(FakeReply("It is 7.", "3 + 4"))
    message = model.invoke("What does </think> mean, and <think>?")
    prompt = model.engine.requests[0].prompt
    assert message.content == "It is 7."
    ids = [model.engine.encode(text)[0] for text in ("<think>", "</think>")]
    assert [prompt.token_ids.count(token) for token in ids] == [1, 0]  # the template's own
