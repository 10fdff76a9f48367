"""Streamed and whole, however the text is cut into tokens, a reply is the same; and it is what a naive reader finds."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dami_agent.dialogue import Delta
from dami_agent.dialogue.text import StopCutter, TokenText
from dami_agent.types import (
    FinishReason,
    Generation,
    Intensity,
    InvalidToolCall,
    Limits,
    Message,
    Prompt,
    Reply,
    ResponseFormat,
    RunContext,
    Sampling,
    Step,
    TokenEvent,
    Tool,
    ToolCall,
    ToolChoice,
)

from .support import BARE, DIALOGUE, TOKENIZER, metaspace_tokenizer

NUMBER = {"type": "object", "properties": {"a": {"type": "integer"}, "t": {"type": "string"}}, "required": ["a"]}
TOOLS = (Tool(name="add", description="", parameters=NUMBER), Tool(name="sub", description="", parameters=NUMBER))
PROMPT = Prompt(token_ids=(1, 2, 3), template="thinking", in_thought=True)
CLOSE = TOKENIZER.convert_tokens_to_ids("</think>")
CALL = TOKENIZER.convert_tokens_to_ids("<tool_call>")


def step(stop: tuple[str, ...] = (), **fields: Any) -> Step:
    user = Message(role="user", content="x")
    return Step(messages=(user,), tools=TOOLS, limits=Limits(stop=stop), run_context=RunContext(call_id="c"), **fields)


def byte_ids(text: str) -> list[int]:
    """One token per byte, so that characters are cut."""
    return [i for character in text for i in _bytes_of(character)]


def _bytes_of(character: str) -> list[int]:
    spelled = BARE.pre_tokenizer.pre_tokenize_str(character)[0][0]  # type: ignore[union-attr]
    return [BARE.token_to_id(c) for c in spelled]


def events(thought: list[int] | None, answer: list[int]) -> list[TokenEvent]:
    found = [TokenEvent(token_id=i, part="reasoning") for i in thought or ()]
    if thought is not None:
        found.append(TokenEvent(token_id=CLOSE, part="control"))
    return found + [TokenEvent(token_id=i, part="answer") for i in answer]


def generation(events: list[TokenEvent], finish: FinishReason = "stop") -> Generation:
    return Generation(events=tuple(events), finish_reason=finish, intensity=Intensity(1), sampling=Sampling())


def read(events: list[TokenEvent], step: Step, finish: FinishReason = "stop") -> Reply:
    """The reply; after checking that the deltas put together are it."""
    parser, deltas = DIALOGUE.parser(PROMPT, step), list[Delta]()
    for event in events:
        deltas += parser.feed(event)
    rest, reply = parser.finish(generation(events, finish))
    deltas += rest
    assert reply == DIALOGUE.parse(generation(events, finish), PROMPT, step)
    assert "".join(d.text for d in deltas if d.kind == "text") == reply.content
    assert "".join(d.text for d in deltas if d.kind == "reasoning") == reply.reasoning
    assert tuple(d.call for d in deltas if d.kind == "tool_call") == reply.tool_calls
    assert tuple(d.call for d in deltas if d.kind == "invalid_tool_call") == reply.invalid_tool_calls
    calls = [d for d in deltas if d.call is not None]
    assert [d.index for d in calls] == list(range(1, len(calls) + 1))
    assert len({d.call.id for d in calls if d.call is not None}) == len(calls)
    return reply


# --- the naive reader -------------------------------------------------------------------------------------------------


def naive_stop(answer: str, stops: tuple[str, ...]) -> str:
    lead = len(answer) - len(answer.lstrip("\n"))
    for end in range(lead + 1, len(answer) + 1):
        starts = [end - len(s) for s in stops if answer[:end].endswith(s)]
        if starts:
            return answer[: min(starts)]
    return answer


def naive_split(answer: str) -> tuple[list[str], list[str]]:
    """Texts around the calls (one more than calls), and the calls' bodies."""
    before, marker, rest = answer.partition("<tool_call>")
    if not marker:
        return [before], []
    ends = [m.start() for m in re.finditer("</?tool_call>", rest)]
    outside = [e for e in ends if '"' not in re.sub(r'"(\\.|[^"\\])*"', "", rest[:e], flags=re.DOTALL)]
    end = (outside or ends or [len(rest)])[0]
    texts, bodies = naive_split(rest[end:].removeprefix("</tool_call>"))
    return [before, *texts], [rest[:end], *bodies]


def naive(thought: str, answer: str, stops: tuple[str, ...], structured: bool) -> tuple[str, str, list[str]]:
    answer = naive_stop(answer, stops)
    is_json = structured and not answer.lstrip("\n").startswith("<tool_call>")
    texts, bodies = ([answer], []) if is_json else naive_split(answer)
    texts = [t.lstrip("\n") for t in texts]
    texts = [t.rstrip("\n") for t in texts[:-1]] + texts[-1:]
    return (
        thought.strip("\n").removeprefix("<think>").strip("\n"),
        "\n".join(t for t in texts if t),
        bodies,
    )


def bodies_of(reply: Reply) -> set[str]:
    return {c.text for c in reply.invalid_tool_calls}


GOOD = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
FRAGMENTS = [
    *["\n", "\n\n", "text", " ", "é🙂日", "<", "<tool", "_call>", "</tool_call>", "<tool_call>", '"', "\\", "{", "}}"],
    *[GOOD, GOOD.replace("1", '"x"'), GOOD.replace("add", "nope"), GOOD.replace("</tool_call>", ""), GOOD[:-20]],
    *[
        '<tool_call>\n{"name": "sub", "arguments": {"a": 2, "t": "</tool_call>"}}\n</tool_call>',
        "END",
        "EN",
        "D",
        "STOP",
    ],
    *["<think>", "</think>", "[1, 2]", '{"name": "add"}'],
]
TEXT = st.lists(st.sampled_from(FRAGMENTS), max_size=9).map("".join)
STOPS = st.sampled_from([(), ("END",), ("\n\n",), ("STOP", "TO"), ("END", "\n"), ("tool",)])


@settings(max_examples=100, deadline=None)
@given(thought=TEXT, answer=TEXT, stops=STOPS, structured=st.booleans())
def test_any_text_however_cut_is_what_the_naive_reader_finds(
    thought: str, answer: str, stops: tuple[str, ...], structured: bool
) -> None:
    this = step(stops, response_format=ResponseFormat() if structured else None)
    reply = read(events(TOKENIZER.encode(thought), TOKENIZER.encode(answer)), this)
    assert reply == read(events(byte_ids(thought), byte_ids(answer)), this)
    reasoning, content, bodies = naive(thought, answer, stops, structured)
    assert reply.reasoning == reasoning
    assert reply.content == content
    assert len(bodies) == len(reply.tool_calls) + len(reply.invalid_tool_calls)
    valid = [b for b in bodies if b not in bodies_of(reply)]
    assert [{"name": c.name, "arguments": c.arguments} for c in reply.tool_calls] == [json.loads(b) for b in valid]


@settings(max_examples=80, deadline=None)
@given(
    parts=st.lists(
        st.tuples(
            st.sampled_from(["reasoning", "control", "answer"]),
            st.lists(st.integers(0, len(TOKENIZER) + 3), max_size=9),
        ),
        max_size=4,
    ),
    stops=STOPS,
    finish=st.sampled_from(["stop", "length"]),
)
def test_any_garbled_tokens_stream_to_the_same_reply(parts: Any, stops: tuple[str, ...], finish: FinishReason) -> None:
    garbled = [TokenEvent(token_id=i, part=part) for part, ids in parts for i in ids]
    reply = read(garbled, step(stops), finish)
    assert reply.finish_reason in ({"length"} if finish == "length" else {"stop", "tool_calls"})


@settings(max_examples=300, deadline=None)
@given(
    chunks=st.lists(st.text("ab\n", max_size=5), max_size=5),
    stops=st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3),
)
def test_stop_strings_in_chunks_of_any_size(chunks: list[str], stops: list[str]) -> None:
    cutter = StopCutter(stops)
    assert "".join([*map(cutter.feed, chunks), cutter.finish()]) == naive_stop("".join(chunks), tuple(stops))


def test_thought_and_answer() -> None:
    reply = read(events(TOKENIZER.encode("\nsum them\n"), TOKENIZER.encode("\n\nIt is 3.\n")), step())
    assert (reply.reasoning, reply.content, reply.finish_reason) == ("sum them", "It is 3.\n", "stop")


def test_a_think_the_model_wrote_itself_is_no_reasoning_text() -> None:
    own = [TokenEvent(token_id=TOKENIZER.convert_tokens_to_ids("<think>"), part="control")]
    for opening in (own, [TokenEvent(token_id=own[0].token_id, part="reasoning")]):
        reply = read(opening + events(TOKENIZER.encode("\nhm\n"), TOKENIZER.encode("\n\nok")), step())
        assert (reply.reasoning, reply.content) == ("hm", "ok")


def test_a_thought_without_end_is_all_reasoning() -> None:
    thought = [TokenEvent(token_id=i, part="reasoning") for i in TOKENIZER.encode("on and on\n")]
    reply = read(thought, step(), "length")
    assert (reply.reasoning, reply.content, reply.finish_reason) == ("on and on", "", "length")


@pytest.mark.parametrize("part", ["answer", "control"])
def test_a_thought_ended_by_a_tool_call(part: Any) -> None:
    thought = [TokenEvent(token_id=i, part="reasoning") for i in TOKENIZER.encode("use add\n")]
    opening = [TokenEvent(token_id=CALL, part=part)]
    rest = events(None, TOKENIZER.encode(GOOD.removeprefix("<tool_call>")))
    reply = read(thought + opening + rest, step())
    assert reply.reasoning == "use add"
    assert [(c.name, c.arguments) for c in reply.tool_calls] == [("add", {"a": 1})]
    assert reply.finish_reason == "tool_calls"


def answer(text: str, this: Step | None = None, finish: FinishReason = "stop") -> Reply:
    return read(events(None, TOKENIZER.encode(text)), this or step(), finish)


def test_several_calls_with_text_around_them() -> None:
    other = GOOD.replace("add", "sub").replace("1", "-5")
    reply = answer(f"First\n{GOOD}\n{other}\nthen\n{GOOD}\n")
    assert [(c.name, c.arguments["a"]) for c in reply.tool_calls] == [("add", 1), ("sub", -5), ("add", 1)]
    assert reply.content == "First\nthen"


def test_a_call_without_its_end_marker_is_read_if_it_is_whole() -> None:
    assert answer(GOOD.removesuffix("</tool_call>")).tool_calls[0].arguments == {"a": 1}
    reply = answer(GOOD[:-25], finish="length")
    assert reply.tool_calls == ()
    assert reply.finish_reason == "length"
    assert reply.invalid_tool_calls[0].text == GOOD[:-25].removeprefix("<tool_call>")
    assert "cut off" in reply.invalid_tool_calls[0].error


@pytest.mark.parametrize(
    ("body", "name", "why"),
    [
        ("add 1 and 2", None, "not valid JSON"),
        ('{"name": "add", "arguments": {"a": 1}', None, "not valid JSON"),
        ('{"name": "add", "arguments": {"a": NaN}}', None, "NaN is not JSON"),
        ("[1]", None, "not an object"),
        ('{"arguments": {"a": 1}}', None, '"name" is missing'),
        ('{"name": "add", "arguments": "{}"}', "add", '"arguments" is not an object'),
        ('{"name": "add", "arguments": {"a": ' + "[" * 3000 + "]" * 3000 + "}}", None, "break the schema"),
        ('{"name": "add", "arguments": {"a": 1' + "0" * 5000 + "}}", None, "not valid JSON"),
    ],
)
def test_what_is_no_call_is_kept_whole_with_the_reason(body: str, name: str | None, why: str) -> None:
    reply = answer(f"<tool_call>\n{body}\n</tool_call>done")
    assert reply.tool_calls == ()
    bad = reply.invalid_tool_calls[0]
    assert bad.text == f"\n{body}\n"
    assert bad.name == (name or bad.name)
    assert why in bad.error or "deep" in bad.error or "recursion" in bad.error
    assert reply.content == "done"


@pytest.mark.parametrize(
    ("body", "arguments", "why"),
    [
        ('{"name": "add", "arguments": {"a": 1}}', {"a": 1}, ""),
        ('{"name": "pow", "arguments": {"a": 1}}', {"a": 1}, "no tool named 'pow'; there is add, sub"),
        ('{"name": "add", "arguments": {"a": "one"}}', {"a": "one"}, "arguments['a'] break the schema of 'add'"),
        ('{"name": "add", "arguments": {}}', {}, "'a' is a required property"),
        ('{"name": "add"}', {}, "\"arguments\" is missing: 'a' is a required property"),
        ('{"name": "add", "arguments": null}', {}, '"arguments" is missing'),
        ('{"name": "", "arguments": {"a": 1}}', {"a": 1}, "no tool named ''"),
    ],
)
def test_a_call_that_its_tool_will_refuse_is_a_call_with_the_reason(body: str, arguments: Any, why: str) -> None:
    reply = answer(f"<tool_call>\n{body}\n</tool_call>")
    (call,) = reply.tool_calls
    assert reply.invalid_tool_calls == ()
    assert (call.arguments, reply.finish_reason) == (arguments, "tool_calls")
    assert why in call.error
    assert bool(why) == bool(call.error)


def test_half_a_surrogate_becomes_a_replacement_character() -> None:
    body = '{"name": "add", "arguments": {"a": 1, "t": "\\ud83d \\ud83d\\ude42"}}'
    assert answer(f"<tool_call>{body}</tool_call>").tool_calls[0].arguments["t"] == "\ufffd 🙂"


def test_calls_that_were_not_allowed_are_invalid() -> None:
    assert answer(GOOD, dataclasses.replace(step(), tools=())).tool_calls == ()
    assert answer(GOOD, step(tool_choice=ToolChoice(mode="none"))).tool_calls == ()
    assert answer(GOOD, step(tool_choice=ToolChoice(mode="tool", name="sub"))).tool_calls == ()
    both = answer(GOOD + GOOD, step(parallel_tool_calls=False))
    assert (len(both.tool_calls), len(both.invalid_tool_calls)) == (1, 1)


def test_a_call_marker_in_a_structured_output_is_text() -> None:
    this = step(response_format=ResponseFormat())
    assert answer('\n\n{"a": "<tool_call>"}', this).content == '{"a": "<tool_call>"}'
    assert answer(f"\n{GOOD}", this).tool_calls[0].name == "add"


def test_a_call_is_given_out_as_soon_as_it_ends() -> None:
    parser = DIALOGUE.parser(PROMPT, step())
    kinds = [[d.kind for d in parser.feed(e)] for e in events(None, TOKENIZER.encode(f"Hi {GOOD}"))]
    assert kinds[-1] == ["tool_call"]
    assert kinds[0] == ["text"]


def test_ids_are_the_same_both_ways_and_differ_between_calls_and_prompts() -> None:
    reply = answer(GOOD + GOOD)
    other = DIALOGUE.parse(
        generation(events(None, TOKENIZER.encode(GOOD))), Prompt(token_ids=(9,), template="instruct"), step()
    )
    ids = [c.id for c in (*reply.tool_calls, *other.tool_calls)]
    assert len(set(ids)) == 3
    assert all(i.startswith("call_") for i in ids)


def test_a_message_read_and_rendered_again_is_the_same_text() -> None:
    text = f"Let me see.\n{GOOD}\n{GOOD.replace('add', 'sub')}"
    reply = answer(text)
    said = Message(role="assistant", content=reply.content, tool_calls=reply.tool_calls)
    user = Message(role="user", content="x")
    again = Step(messages=(user, said, user), tools=TOOLS)
    assert f"assistant\n{text}<|im_end|>" in TOKENIZER.decode(DIALOGUE.render(again, "instruct").token_ids)


def test_values_are_what_the_types_say() -> None:
    reply = answer(GOOD + "<tool_call>x</tool_call>")
    assert all(isinstance(c, ToolCall) for c in reply.tool_calls)
    assert all(isinstance(c, InvalidToolCall) for c in reply.invalid_tool_calls)


def test_token_text() -> None:
    assert DIALOGUE.token_text(CLOSE) == "</think>"
    assert DIALOGUE.token_text(byte_ids("é")[0]) == "\ufffd"


@settings(max_examples=50, deadline=None)
@given(words=st.lists(st.sampled_from(["two words", " x", "é", "🙂", "日本", "\n", "system", "  "]), max_size=6))
def test_text_of_a_tokenizer_with_word_boundary_marks(words: list[str]) -> None:
    backend = metaspace_tokenizer()
    ids = backend.encode("".join(words), add_special_tokens=False).ids
    stream = TokenText(backend).stream()
    assert "".join([*map(stream.feed, ids), stream.finish()]) == backend.decode(ids)
