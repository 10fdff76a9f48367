"""Histories that other models wrote, as their LangChain packages hold them: read without loss, refused by name."""

from __future__ import annotations

import functools
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from transformers import PreTrainedTokenizerBase

from dami_agent.chat_model.history import to_messages
from dami_agent.checkpoints.pair import builtin_checkpoints
from dami_agent.errors import InvalidRequest
from dami_agent.testing import FakeReply, fake_chat_model
from dami_agent.types import Message, ToolCall

ASK = HumanMessage("What is the weather in Paris and Rome?")
RESULT = ToolMessage("18 °C", tool_call_id="c1")
CALL: Any = {"name": "weather", "args": {"city": "Paris"}, "id": "c1"}

ANTHROPIC = [
    {"type": "thinking", "thinking": "Two cities.", "signature": "EqQB"},
    {"type": "redacted_thinking", "data": "EmwKAhgB"},
    {"type": "text", "text": "I look."},
    {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "weather"}},
    {
        "type": "web_search_tool_result",
        "tool_use_id": "srv_1",
        "content": [{"type": "web_search_result", "url": "https://x.org", "title": "X", "encrypted_content": "Eq"}],
    },
    {
        "type": "text",
        "text": "Now the tool.",
        "citations": [{"type": "web_search_result_location", "url": "https://x"}],
    },
    {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Paris"}, "caller": {"type": "direct"}},
]
OPENAI_RESPONSES = [
    {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Two cities."}]},
    {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "w"}},
    {"type": "image_generation_call", "id": "ig_1", "result": "aGk="},
    {"type": "output_text", "text": "I look.", "annotations": []},
    {
        "type": "text",
        "text": "Now the tool.",
        "annotations": [{"type": "url_citation", "url": "https://x"}],
        "id": "msg_1",
    },
    {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "weather", "arguments": '{"city": "Paris"}'},
]
GEMINI = [
    {"type": "thinking", "thinking": "Two cities."},
    {"type": "executable_code", "executable_code": "print(1)", "language": "PYTHON"},
    {"type": "code_execution_result", "code_execution_result": "1", "outcome": 1},
    {"type": "text", "text": "I look.", "extras": {"signature": "Cg=="}},
    "Now the tool.",
    {"type": "function_call_signature", "signature": "Cg==", "index": 2},
]
MISTRAL = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "Two cities."}]},
    {"type": "text", "text": "I look."},
    {"type": "reference", "reference_ids": [1]},
    {"type": "text", "text": "Now the tool."},
]
BEDROCK = [
    {"type": "reasoning_content", "reasoning_content": {"text": "Two cities.", "signature": "Ab"}},
    {"type": "text", "text": "I look."},
    {"type": "text", "text": "Now the tool."},
    {"cachePoint": {"type": "default"}},
    {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Paris"}},
]
LANGCHAIN_V1 = [
    {"type": "reasoning", "reasoning": "Two cities.", "id": "lc_1"},
    {"type": "non_standard", "value": {"type": "redacted_thinking", "data": "Em"}},
    {"type": "server_tool_call", "id": "s1", "name": "web_search", "args": {"query": "w"}},
    {"type": "server_tool_result", "tool_call_id": "s1", "status": "success", "output": ["https://x"]},
    {"type": "text", "text": "I look."},
    {"type": "text", "text": "Now the tool.", "annotations": [{"type": "citation", "url": "https://x"}]},
    {"type": "tool_call", "id": "c1", "name": "weather", "args": {"city": "Paris"}},
]


@pytest.mark.parametrize("calls", [[CALL], []])
@pytest.mark.parametrize("content", [ANTHROPIC, OPENAI_RESPONSES, GEMINI, MISTRAL, BEDROCK, LANGCHAIN_V1], ids="AOGMBL")
def test_a_reply_of_another_model_with_a_thought_text_and_a_call(content: Any, calls: Any) -> None:
    if not calls and content in (GEMINI, MISTRAL):
        return  # their blocks do not tell of the call
    messages = to_messages([ASK, AIMessage(content, tool_calls=calls), RESULT])
    assert messages[1] == Message(
        role="assistant",
        content="I look.\nNow the tool.",
        reasoning="Two cities.",
        tool_calls=(ToolCall(id="c1", name="weather", arguments={"city": "Paris"}),),
    )
    assert messages[2] == Message(role="tool", content="18 °C", tool_call_id="c1")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "12"}, {"type": "text", "text": "34"}], "12\n34"),
        (["12", "34"], "12\n34"),
        ([{"type": "text", "text": "It is "}, {"type": "text", "text": "12 °C"}, {"type": "text", "text": " now"}],
         "It is 12 °C now"),
        ([{"type": "text", "text": ""}, {"type": "text", "text": "a"}, {"type": "text", "text": ""}], "a"),
        ([{"type": "refusal", "refusal": "I can't help with that."}], "I can't help with that."),
        ([{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}], "[image]"),
        ([{"type": "text", "text": "Here:"}, {"type": "image", "base64": "aGk=", "mime_type": "image/png"}],
         "Here:\n[image]"),
        ([{"type": "file", "file": {"filename": "plan.pdf", "file_data": "aGk="}}], "[file: plan.pdf]"),
        ([{"type": "audio", "transcript": "hello there"}], "hello there"),
        ([{"type": "audio", "base64": "aGk=", "mime_type": "audio/wav"}], "[audio]"),
        ([{"type": "hologram", "data": 1}], "[hologram]"),
        ([{"text": "no type"}], "no type"),
        ([{"type": "non_standard", "value": {"answer": 42}}], '{"answer": 42}'),
    ],
)  # fmt: skip
def test_text_and_what_stands_for_what_is_no_text(content: Any, text: str) -> None:
    assert to_messages([ASK, AIMessage(content), ASK])[1].content == text


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}], "[image]"),
        ([{"type": "text", "text": "a"}, {"type": "input_image", "image_url": "https://x"}], "a\n[image]"),
        ([{"type": "input_file", "filename": "a.csv", "file_data": "aGk="}], "[file: a.csv]"),
        ([{"type": "json", "json": {"n": 1}}], '{"n": 1}'),
        ([{"type": "search_result", "title": "T", "source": "s", "content": [{"type": "text", "text": "body"}]}],
         "T\nbody"),
        ([{"type": "document", "title": "D", "source": {"type": "text", "media_type": "text/plain", "data": "words"}}],
         "D\nwords"),
        ([{"type": "text-plain", "mime_type": "text/plain", "text": "plain"}], "plain"),
        ([{"type": "file", "source_type": "text", "mime_type": "text/plain", "text": "v0"}], "v0"),
    ],
)  # fmt: skip
def test_what_tools_return(content: Any, text: str) -> None:
    messages = to_messages([ASK, AIMessage("", tool_calls=[CALL]), ToolMessage(content, tool_call_id="c1")])
    assert messages[2].content == text


@pytest.mark.parametrize(
    ("block", "kind"),
    [
        ({"type": "image", "url": "https://x"}, "image"),
        ({"type": "image_url", "image_url": {"url": "https://x"}}, "image_url"),
        ({"type": "input_image", "image_url": "https://x"}, "input_image"),
        ({"type": "media", "mime_type": "image/png", "data": "aGk="}, "media"),
        (
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="}},
            "document",
        ),
        ({"type": "audio", "base64": "aGk=", "mime_type": "audio/wav"}, "audio"),
        ({"image": {"format": "png", "source": {"bytes": "aGk="}}}, "image"),
    ],
)
@pytest.mark.parametrize("role", [HumanMessage, SystemMessage])
def test_what_a_person_shows_and_the_model_cannot_see_is_refused(block: Any, kind: str, role: Any) -> None:
    with pytest.raises(InvalidRequest, match=rf"message 1 has a content block of type '{kind}'(?s:.*)reads text only"):
        to_messages([ASK, role([{"type": "text", "text": "What is this?"}, block])])


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "input_text", "text": "a"}, {"cachePoint": {"type": "default"}}], "a"),
        ([{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}], "a"),
        (
            [{"type": "document", "title": "D", "source": {"type": "text", "data": "words"}}, "Read it."],
            "D\nwords\nRead it.",
        ),
        ([{"type": "tool_result", "tool_use_id": "gone", "content": "18 °C"}], None),
    ],
)
def test_a_persons_words(content: Any, text: str | None) -> None:
    if text is None:
        with pytest.raises(InvalidRequest, match=r"'gone'.*answers no call"):
            to_messages([HumanMessage(content)])
    else:
        assert to_messages([HumanMessage(content)]) == (Message(role="user", content=text),)


def test_results_in_a_persons_message_as_anthropic_has_them() -> None:
    uses = [
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Paris"}},
        {"type": "tool_use", "id": "c2", "name": "weather", "input": {"city": "Rome"}},
    ]
    results = [
        {"type": "tool_result", "tool_use_id": "c2", "content": [{"type": "text", "text": "31"}, {"type": "image"}]},
        {"type": "tool_result", "tool_use_id": "c1", "content": "no network", "is_error": True},
        {"type": "text", "text": "Which is warmer?"},
    ]
    messages = to_messages([ASK, AIMessage(uses), HumanMessage(results)])
    assert [(m.role, m.content, m.tool_call_id, m.status) for m in messages[2:]] == [
        ("tool", "no network", "c1", "error"),
        ("tool", "31\n[image]", "c2", "success"),
        ("user", "Which is warmer?", None, "success"),
    ]
    only = to_messages([ASK, AIMessage(uses), HumanMessage(results[:2])])
    assert [m.role for m in only] == ["user", "assistant", "tool", "tool"]


def test_functions_of_old() -> None:
    asked = AIMessage("", additional_kwargs={"function_call": {"name": "weather", "arguments": '{"city": "Paris"}'}})
    messages = to_messages([ASK, asked, FunctionMessage(name="weather", content="18 °C")])
    assert messages[1].tool_calls[0].arguments == {"city": "Paris"}
    assert messages[2].content == "18 °C"
    said = AIMessage("", additional_kwargs={"audio": {"id": "a", "data": "", "transcript": "It is mild."}})
    assert to_messages([ASK, said, ASK])[1].content == "It is mild."
    assert to_messages([ChatMessage("hi", role="developer")]) == (Message(role="system", content="hi"),)


# ---- results and their calls -----------------------------------------------------------------------------------------


def turn(count: int, start: int = 0) -> list[BaseMessage]:
    calls: Any = [{"name": f"f{n}", "args": {}, "id": f"c{n}"} for n in range(start, start + count)]
    results = [ToolMessage(f"r{n}", tool_call_id=f"c{n}") for n in range(start, start + count)]
    return [AIMessage("", tool_calls=calls), *results]


@pytest.mark.parametrize("seed", range(20))
def test_results_stand_in_the_order_of_their_calls(seed: int) -> None:
    random, history = Random(seed), [ASK]
    for start in (0, 10):
        asked, *results = turn(random.randint(1, 5), start)
        random.shuffle(results)
        history += [asked, *results, HumanMessage("and?")]
    for before, message in pairwise(messages := to_messages(history)):
        if message.role == "tool":
            assert message.content == message.tool_call_id.replace("c", "r")  # type: ignore[union-attr]
            assert before.role == "assistant" or int(before.content[1:]) == int(message.content[1:]) - 1
    assert len(messages) == len(history)


@pytest.mark.parametrize(
    ("history", "why"),
    [
        ([ASK, *turn(2)[:-1]], r"message 1 calls 'f1' \(id 'c1'\)"),
        ([ASK, turn(1)[0]], "id 'c0'"),
        ([ASK, turn(1)[0], HumanMessage("stop"), turn(1)[1]], "message 1 calls 'f0' \\(id 'c0'\\)"),
        ([ASK, *turn(2)[:2], AIMessage("so"), turn(2)[2]], "id 'c1'"),
        ([turn(1)[1], ASK], "message 0 .*'c0'.* answers no call"),
        ([ASK, *turn(1), turn(1)[1]], "message 3 .*'c0'.* has its result already"),
        (
            [ASK, *turn(1), ToolMessage("r", tool_call_id="zz", name="f9")],
            r"message 3 \(f9's result, tool_call_id 'zz'\)",
        ),
        ([ASK, AIMessage("hi"), ToolMessage("r", tool_call_id="c0")], "answers no call"),
    ],
)
def test_a_call_without_a_result_and_a_result_without_a_call_are_refused(history: Any, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why) as caught:
        to_messages(history)
    assert caught.value.hint


def test_ids_that_are_missing_or_come_twice() -> None:
    nameless: Any = [{"name": "f", "args": {}, "id": None}, {"name": "g", "args": {}, "id": ""}]
    messages = to_messages([ASK, AIMessage("", tool_calls=nameless), *(ToolMessage(t, tool_call_id="") for t in "ab")])
    assert [m.content for m in messages[2:]] == ["a", "b"]
    twice: Any = [{"name": "f", "args": {"n": n}, "id": "same"} for n in (1, 2)]
    messages = to_messages([ASK, AIMessage("", tool_calls=twice), *(ToolMessage(t, tool_call_id="same") for t in "ab")])
    assert [m.content for m in messages[2:]] == ["a", "b"]
    assert len(to_messages([ASK, *turn(1), ASK, *turn(1)])) == 6  # ids may come again in a later turn
    broken: Any = {"name": "f", "args": "{", "id": "c9", "error": "no JSON", "type": "invalid_tool_call"}
    answered = [ASK, AIMessage("", invalid_tool_calls=[broken]), ToolMessage("bad JSON", tool_call_id="c9")]
    assert to_messages(answered)[2].content == "bad JSON"


# ---- a last assistant message ----------------------------------------------------------------------------------------


@functools.cache
def tokenizer() -> PreTrainedTokenizerBase:
    return builtin_checkpoints()[0].tokenizer()


def prompt_of(model: Any) -> str:
    return str(tokenizer().decode(list(model.engine.requests[-1].prompt.token_ids), skip_special_tokens=False))


@pytest.mark.parametrize("intensity", [0.0, 1.0])
def test_a_last_assistant_message_is_continued(intensity: float) -> None:
    model = fake_chat_model(["\n  and 4 is 7. "], reasoning_intensity=intensity)
    message = model.invoke([HumanMessage("Add."), AIMessage("3 ")])
    closed = "<think>\n\n</think>\n\n" if intensity else ""
    assert prompt_of(model).endswith(f"Add.<|im_end|>\n<|im_start|>assistant\n{closed}3 ")
    assert message.content == "\n  and 4 is 7. "  # newlines at its start are the text's, not the format's
    assert "reasoning_content" not in message.additional_kwargs


@pytest.mark.parametrize("how", ["stream", "tools", "thought", "markers"])
def test_variations_of_continuing(how: str) -> None:
    calls = [("add", {"a": 1})] if how == "tools" else []
    model = fake_chat_model([FakeReply(" more", tool_calls=calls)], reasoning_intensity=1.0)
    begun: Any = [HumanMessage("?"), AIMessage("Begun <|im_end|> </think> <")]
    if how == "thought":
        begun = [HumanMessage("?"), AIMessage("Begun", additional_kwargs={"reasoning_content": "first"})]
    if how == "stream":
        assert "".join(chunk.text for chunk in model.stream(begun)) == " more"
    elif how == "tools":
        tool = {"name": "add", "description": "", "parameters": {"type": "object"}}
        assert model.bind_tools([tool]).invoke(begun).tool_calls[0]["args"] == {"a": 1}
    else:
        assert model.invoke(begun).content == " more"
    if how == "thought":
        assert prompt_of(model).endswith("<think>\nfirst\n</think>\n\nBegun")
    else:
        assert prompt_of(model).endswith("assistant\n<think>\n\n</think>\n\nBegun <|im_end|> </think> <")
        ids = model.engine.requests[-1].prompt.token_ids
        end = tokenizer().convert_tokens_to_ids("<|im_end|>")
        assert ids.count(end) == prompt_of(model).count("<|im_end|>") - 1  # the text's own stays text


def test_what_cannot_be_continued() -> None:
    model = fake_chat_model(lambda _: "ok", reasoning_intensity=0.0)
    assert model.invoke([HumanMessage("?"), AIMessage("")]).content == "ok"
    assert prompt_of(model).endswith("<|im_start|>assistant\n")
    begun: Any = [HumanMessage("?"), AIMessage("{")]
    with pytest.raises(InvalidRequest, match="cannot be a structured output"):
        model.with_structured_output({"title": "T", "type": "object", "properties": {}}).invoke(begun)
    with pytest.raises(InvalidRequest, match="without text"):
        model.invoke([HumanMessage("?"), AIMessage("", additional_kwargs={"reasoning_content": "hm"})])
    with pytest.raises(InvalidRequest, match="nothing to answer"):
        model.invoke([AIMessage("")])
