"""A user's own questions are read with the line that is wrong named, and graded as they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dami_agent.errors import UsageError
from dami_agent.evaluation.asked import SamplePlan, SampleSet
from dami_agent.evaluation.own_questions import OwnQuestion, read_questions
from dami_agent.types import InvalidToolCall, Reply, ToolCall


def read(tmp_path: Path, *lines: Any) -> list[OwnQuestion]:
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return read_questions(path)


def grades(tmp_path: Path, reply: str, answer: Any, **fields: Any) -> bool:
    return read(tmp_path, {"question": "?", "answer": answer, **fields})[0].grade(reply)


def test_questions_and_conversations_are_read(tmp_path: Path) -> None:
    one, other = read(
        tmp_path,
        {"question": "How many minutes are 3.5 hours?", "answer": 210},
        "",
        {
            "messages": [{"role": "system", "content": "One word."}, {"role": "user", "content": "Capital of France?"}],
            "answer": "Paris",
        },
    )
    assert one.messages[0].content == "How many minutes are 3.5 hours?"
    assert one.grader == "number"
    assert [m.role for m in other.messages] == ["system", "user"]
    assert other.grader == "contains"
    assert one.prompt != other.prompt


@pytest.mark.parametrize(
    ("reply", "answer", "right"),
    [
        ("It is 210.", 210, True),
        ("So 210 minutes, not 211", 210, False),
        ("210.0", 210, True),
        ("1,234,567", 1234567, True),
        ("The price is $1,299.50.", 1299.5, True),
        ("x = -3", -3, True),
        ("x = −3", -3, True),
        ("between 2-3", 3, True),
        ("1e3", 1000, True),
        (".5", 0.5, True),
        ("none", 0, False),
        ("0.3333333333", 1 / 3, True),
        ("12.", "12", True),
        ("1,2,3", 123, False),
        ("1,2,3", 3, True),
        ("12,345.5", 12345.5, True),
        ("2000001", 2000000, False),
        ("9007199254740993", 9007199254740992, False),
        ("2e6", 2000000, True),
        ("1e400", 1, False),
    ],
)
def test_numbers(tmp_path: Path, reply: str, answer: Any, right: bool) -> None:
    assert grades(tmp_path, reply, answer, grader="number") is right


@pytest.mark.parametrize(
    ("grader", "reply", "answer", "right"),
    [
        ("contains", "The capital is paris!", "Paris", True),
        ("contains", "Parisian", "Paris", False),
        ("contains", "New\n  York it is", "New York", True),
        ("contains", "It is (c).", "(c)", True),
        ("contains", "答えは東京です。", "東京", True),
        ("contains", "答えはParisです。", "Paris", True),
        ("contains", "答えはParisianです。", "Paris", False),
        ("contains", "수도는 서울이다", "서울", True),
        ("contains", "เมืองหลวงคือกรุงเทพครับ", "กรุงเทพ", True),
        ("contains", "答えは大阪です。", "東京", False),
        ("contains", "the caf\u00e9", "cafe\u0301", True),
        ("contains", "the cafes\u0301", "cafe", False),
        ("contains", "HAUPTSTRASSE", "Hauptstraße", True),
        ("exact", "caf\u00e9", "cafe\u0301", True),
        ("exact", "  Paris\n", "Paris", True),
        ("exact", "paris", "Paris", False),
        ("regex", "order #A17 shipped", r"#A\d+\b", True),
        ("regex", "order 17", r"#A\d+\b", False),
        ("json", '{"b": 2, "a": [1]}', {"a": [1], "b": 2}, True),
        ("json", "```json\n{}\n```", {}, False),
        ("json", '{"a": true}', {"a": 1}, False),
        ("json", '{"a": [1, {"b": null}]}', {"a": [1.0, {"b": None}]}, True),
        ("math", "The answer is $\\frac{1}{2}$", "0.5", True),
        ("math", "$x = 3$", "4", False),
    ],
)
def test_texts(tmp_path: Path, grader: str, reply: str, answer: Any, right: bool) -> None:
    assert grades(tmp_path, reply, answer, grader=grader) is right


def test_answers_for_math_are_read_within_a_time_limit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one math-verify says so, once a process, in the middle of what a command prints."""
    monkeypatch.setattr("math_verify.parser.TIMEOUT_WARNING_SHOWN", False)
    read(tmp_path, {"question": "?", "answer": "1/2", "grader": "math"})
    assert caplog.text == ""


def test_a_pattern_that_never_ends_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dami_agent.evaluation.own_questions._SECONDS", 0.05)
    assert grades(tmp_path, "a" * 40 + "!", r"^(a+)+$", grader="regex") is False


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("not json", "is not JSON"),
        ({"question": "?", "answer": "the colour blue is", "grader": "math"}, "make nothing of the answer"),
        ("[1]", "valid dict"),
        ({"answer": 1}, "either question or messages"),
        ({"question": "?", "messages": [{"role": "user", "content": "?"}], "answer": 1}, "either question or messages"),
        ({"question": "?"}, "answer"),
        ({"question": "", "answer": 1}, "question"),
        ({"question": "?", "answer": 1, "grade": "exact"}, "grade"),
        ({"question": "?", "answer": 1, "grader": "vibes"}, "grader"),
        ({"question": "?", "answer": "many", "grader": "number"}, "not a number"),
        ({"question": "?", "answer": {"a": 1}}, "not a text"),
        ({"question": "?", "answer": None}, "not a text"),
        ({"question": "?", "answer": "(", "grader": "regex"}, "not valid"),
        ({"messages": [{"role": "assistant", "content": "hi"}], "answer": 1}, "last message"),
        ({"messages": [{"role": "robot", "content": "hi"}], "answer": 1}, "role"),
    ],
)
def test_a_line_that_is_no_question_is_named(tmp_path: Path, line: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        read(tmp_path, {"question": "?", "answer": 1}, line)
    assert "line 2" in caught.value.message


def test_files_without_questions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no question"):
        read(tmp_path, "", "  ")
    with pytest.raises(UsageError, match="cannot read"):
        read_questions(tmp_path / "none.jsonl")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot read"):
        read_questions(tmp_path / "bytes.jsonl")


def test_a_number_in_quotes_is_a_number_and_odd_line_ends_are_text(tmp_path: Path) -> None:
    odd = "a\u2028b\u0085c"
    first, second = read(tmp_path, {"question": "?", "answer": "42"}, f'{{"question": "{odd}", "answer": "x"}}\r')
    assert first.grader == "number"
    assert not first.grade("42.5")
    assert second.messages[0].content == odd


PRICE = {
    "type": "function",
    "function": {
        "name": "get_price",
        "description": "Get a price.",
        "parameters": {"type": "object", "properties": {"item": {"type": "string"}}, "required": ["item"]},
    },
}
LAMP = {"name": "get_price", "arguments": {"item": "lamp"}}
CHAIR = {"name": "get_price", "arguments": {"item": "chair"}}


@pytest.mark.parametrize(
    ("answer", "made", "right"),
    [
        (LAMP, [LAMP], True),
        ([LAMP, CHAIR], [CHAIR, LAMP], True),
        ([LAMP, CHAIR], [LAMP], False),
        (LAMP, [LAMP, LAMP], False),
        (LAMP, [CHAIR], False),
        (LAMP, [], False),
        ([], [], True),
        ([], [LAMP], False),
    ],
)
def test_calls(tmp_path: Path, answer: Any, made: list[dict[str, Any]], right: bool) -> None:
    (question,) = read(tmp_path, {"question": "What does a lamp cost?", "answer": answer, "tools": [PRICE]})
    assert question.grader == "call"
    assert question.tools[0].parameters["required"] == ["item"]
    calls = tuple(ToolCall(id=str(i), name=call["name"], arguments=call["arguments"]) for i, call in enumerate(made))
    assert question.right(Reply(tool_calls=calls)) is right
    broken = InvalidToolCall(id="9", name=None, text="{", error="cut off")
    assert not question.right(Reply(tool_calls=calls, invalid_tool_calls=(broken,)))


def test_a_text_may_be_wanted_where_tools_are_bound(tmp_path: Path) -> None:
    (question,) = read(tmp_path, {"question": "Hello?", "answer": "hello", "tools": [PRICE]})
    assert question.grader == "contains"
    assert question.right(Reply(content="Hello!"))
    asks = SampleSet(questions=[(1, question)]).asks(SamplePlan())
    assert [tool.name for tool in asks[0].step.tools] == ["get_price"]


def test_a_function_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_grading.py").write_text(
        "def close(text, answer):\n    return abs(float(text) - answer) < 1\n\nnothing = 1\n"
        "async def late(text, answer):\n    return False\n\n"
        "silent, words, score = (lambda *_, said=said: said for said in (None, 'wrong', 1.0))\n"
    )
    monkeypatch.chdir(tmp_path)
    (question,) = read(tmp_path, {"question": "?", "answer": 3, "grader": "my_grading:close"})
    assert question.grade("3.4")
    assert not question.grade("5")
    with pytest.raises(UsageError, match=r"my_grading:close failed on the answer 3: ValueError"):
        question.grade("three")
    for name, said in (("late", "it is async"), ("silent", "it returned None"), ("words", "it returned 'wrong'")):
        (question,) = read(tmp_path, {"question": "?", "answer": 3, "grader": f"my_grading:{name}"})
        with pytest.raises(UsageError, match=said):
            question.grade("3")
    (question,) = read(tmp_path, {"question": "?", "answer": 3, "grader": "my_grading:score"})
    assert question.grade("3")
    for name, told in (
        ("my_grading:far", r"line 1: the grader my_grading:far cannot be imported: AttributeError"),
        ("my_grading:nothing", r"line 1: the grader my_grading:nothing is no function"),
        ("numbr", r"line 1: grader: did you mean 'number'\?"),
    ):
        with pytest.raises(UsageError, match=told):
            read(tmp_path, {"question": "?", "answer": 3, "grader": name})


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"tools": [PRICE], "answer": {"name": "get_prise", "arguments": {}}}, "'get_prise' is not among its tools"),
        ({"tools": [PRICE], "answer": {"name": "get_price"}}, "is no call"),
        ({"tools": [{"type": "function"}], "answer": LAMP}, "line 1: "),
        ({"tools": [], "answer": LAMP}, "tools"),
    ],
)
def test_calls_that_cannot_be(tmp_path: Path, fields: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        read(tmp_path, {"question": "?", **fields})
