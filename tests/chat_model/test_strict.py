"""``strict`` of tools and structured output: what the grammar then lets through, judged by the runtime's own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import ConfigurableField
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel

from dami_agent.chat_model import ChatDAMI
from dami_agent.errors import InvalidSchema
from dami_agent.testing import FakeReply, fake_chat_model
from tests.dialogue.grammar import Grammar
from tests.dialogue.support import DIALOGUE


def book(city: str, nights: int = 1, note: dict[str, Any] | None = None) -> str:
    """Book a room."""
    return "booked"


class Tags(BaseModel):
    """Tags without repetition."""

    tags: set[str]


class Stop(BaseModel):
    """A stop."""

    value: int
    children: list[int] = []


class Trip(BaseModel):
    """A trip."""

    stops: list[Stop]


FULL = {"city": "Rome", "nights": 2, "note": None}
SHORT = {"city": "Rome"}
MORE = {**FULL, "floor": 3}
WRONG = {"city": 7}


def _step(runnable: Any) -> Any:
    """What the model behind a binding is asked."""
    binding = getattr(runnable, "first", runnable)
    return binding.bound.build_step([HumanMessage("hi")], None, None, dict(binding.kwargs))


def _accepts(runnable: Any, name: str, *arguments: Any) -> list[bool]:
    constraint = DIALOGUE.render(_step(runnable), "thinking").constraint
    assert constraint is not None
    grammar = Grammar(constraint)
    head = f'<tool_call>\n{{"name": "{name}", "arguments": '
    return [grammar.accepts(f"{head}{json.dumps(given)}}}\n</tool_call>") for given in arguments]


@pytest.mark.parametrize(
    ("strict", "expected"),
    [
        (None, [True, True, False, False]),
        (True, [True, False, False, False]),
        (False, [True, True, True, True]),
    ],
)
def test_three_degrees(strict: bool | None, expected: list[bool]) -> None:
    model = fake_chat_model([]).bind_tools([book], tool_choice="any", strict=strict)
    assert _accepts(model, "book", FULL, SHORT, MORE, WRONG) == expected
    assert _accepts(model, "cook", FULL) == [False]  # the name is seen to in any case
    configured = fake_chat_model([]).configurable_fields(seed=ConfigurableField("seed"))
    bound = configured.bind_tools([book], tool_choice="any", strict=strict)
    assert bound.kwargs == model.kwargs  # type: ignore[attr-defined]


def test_a_tool_says_it_itself_and_a_call_for_all() -> None:
    plain = convert_to_openai_tool(book)
    for strict, expected in ((True, [False, False]), (False, [True, True])):
        own = {"type": "function", "function": {**plain["function"], "strict": strict}}
        model = fake_chat_model([]).bind_tools([own], tool_choice="any")
        assert _accepts(model, "book", SHORT, MORE) == expected
        model = fake_chat_model([]).bind(tools=[plain], tool_choice="any", strict=strict)
        assert _accepts(model, "book", SHORT, MORE) == expected
    assert "strict" not in plain["function"]  # the caller's own is left alone


def test_nested_objects_are_closed_and_free_ones_stay_free() -> None:
    model = fake_chat_model([]).bind_tools([Trip], tool_choice="any", strict=True)
    whole: dict[str, Any] = {"value": 2, "children": []}
    trips = [{"stops": [stop]} for stop in (whole, {"value": 2}, {**whole, "a": 1})]
    assert _accepts(model, "Trip", *trips) == [True, False, False]
    free = {"city": "Rome", "nights": 1, "note": {"any": ["thing"]}}
    assert _accepts(fake_chat_model([]).bind_tools([book], tool_choice="any", strict=True), "book", free) == [True]


def test_strict_refuses_at_once_what_no_grammar_enforces() -> None:
    with pytest.raises(InvalidSchema, match=r"strict: no grammar enforces .*uniqueItems") as error:
        ChatDAMI().bind_tools([book, Tags], strict=True)
    assert "leave strict out" in str(error.value)
    with pytest.raises(InvalidSchema, match="uniqueItems"):
        ChatDAMI().with_structured_output(Tags, strict=True)
    for strict in (None, False):
        ChatDAMI().bind_tools([book, Tags], strict=strict)


def test_without_strict_the_tool_is_told_what_is_wrong() -> None:
    model: Any = fake_chat_model([FakeReply(tool_calls=[("book", WRONG)])]).bind_tools([book], strict=False)
    assert model.invoke("hi").tool_calls[0]["args"] == WRONG
    assert "book" in model.bound.engine.requests[0].prompt.constraint.text


@pytest.mark.parametrize("strict", [None, False, True])
def test_structured_output_is_always_held_to_its_schema(strict: bool | None) -> None:
    whole, short = {"value": 1, "children": []}, {"value": 1}
    called = fake_chat_model([]).with_structured_output(Stop, method="function_calling", strict=strict)
    assert _accepts(called, "Stop", whole, short, {"value": "x"}) == [True, not strict, False]
    answer = _step(fake_chat_model([]).with_structured_output(Stop, method="json_schema", strict=strict))
    constraint = DIALOGUE.render(answer, "thinking").constraint
    assert constraint is not None
    texts = [json.dumps(value) for value in (whole, short, {"value": "x"})]
    assert [Grammar(constraint).accepts(text) for text in texts] == [True, not strict, False]
