"""Precedence, aliases and refusals of settings, without a model."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from dami_agent.chat_model import ChatDAMI, request
from dami_agent.errors import InvalidIntensity, InvalidRequest, InvalidSchema
from dami_agent.policy import EFFORTS
from dami_agent.types import Intensity, IntensityRequest

level = st.fixed_dictionaries(
    {},
    optional={
        "reasoning_intensity": st.one_of(st.none(), st.just("auto"), st.floats(0, 1)),
        "reasoning_effort": st.one_of(st.none(), st.sampled_from(EFFORTS)),
    },
)


@given(st.lists(level, min_size=1, max_size=4))
def test_the_last_level_that_says_anything_wins(levels: list[dict[str, Any]]) -> None:
    named = [(f"level{i}", given_) for i, given_ in enumerate(levels)]
    asked = request.intensity_request(named)
    speaking = [(n, g) for n, g in named if any(v is not None for v in g.values())]
    if not speaking:
        assert asked == IntensityRequest()
        return
    origin, said = speaking[-1]
    assert asked.origin == origin
    number, effort = said.get("reasoning_intensity"), said.get("reasoning_effort")
    if isinstance(number, float):
        assert (asked.intensity, asked.effort) == (number, None)
    elif effort is not None:
        assert (asked.intensity, asked.effort) == (None, effort)
    else:
        assert (asked.intensity, asked.effort) == ("auto", None)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.1, 1.1, True, "0.5", "high", [0.5]])
def test_bad_intensities_are_refused_everywhere(bad: Any) -> None:
    with pytest.raises(InvalidIntensity):
        request.intensity_request([("call", {"reasoning_intensity": bad})])
    with pytest.raises(ValidationError, match="reasoning"):
        ChatDAMI(reasoning_intensity=bad)
    with pytest.raises(InvalidIntensity):
        ChatDAMI().bind(reasoning_intensity=bad)


def test_unknown_names_are_refused_with_a_suggestion() -> None:
    with pytest.raises(ValidationError, match="did you mean 'reasoning_effort'"):
        ChatDAMI(reasoning_efort="low")  # type: ignore[call-arg]
    with pytest.raises(InvalidRequest, match="did you mean 'max_tokens'"):
        ChatDAMI().bind(max_token=3)
    with pytest.raises(InvalidRequest, match="unknown setting 'frequency_penalty'"):
        request.normalize_settings({"frequency_penalty": 1}, "the call")


def test_aliases_mean_the_same() -> None:
    assert ChatDAMI(max_completion_tokens=7).max_tokens == 7  # type: ignore[call-arg]
    assert request.normalize_settings({"max_new_tokens": 7, "stop_sequences": ["x"]}, "x") == {
        "max_tokens": 7,
        "stop": ["x"],
    }


@pytest.mark.parametrize(
    "bad",
    [{"max_tokens": 0}, {"max_tokens": 1.5}, {"max_reasoning_tokens": -1}, {"timeout": 0}, {"stop": [""]}],
)
def test_bad_limits_are_refused_at_init(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ChatDAMI(**bad)


def test_half_a_pair_is_refused() -> None:
    with pytest.raises(ValidationError, match="both checkpoints"):
        ChatDAMI(instruct="only/one")


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Person(BaseModel):
    """A person."""

    name: str


def test_tools_of_every_form() -> None:
    schema = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
    names = [t.name for t in request.tools([add, Person, schema])]
    assert names == ["add", "Person", "f"]
    assert request.tools([add, add]) == request.tools([add])
    with pytest.raises(InvalidSchema, match="tool 0"):
        request.tools([{"no": "name"}])
    other = {**schema, "function": {**schema["function"], "description": "e"}}  # type: ignore[dict-item]
    with pytest.raises(InvalidSchema, match="two tools are named 'f'"):
        request.require_unique_names(request.tools([schema, other]))


@pytest.mark.parametrize(
    ("value", "mode"),
    [(None, "auto"), ("auto", "auto"), ("any", "any"), ("required", "any"), (True, "any"), ("none", "none"),
     ("add", "tool"), ({"type": "function", "function": {"name": "add"}}, "tool")],
)  # fmt: skip
def test_tool_choice_in_every_spelling(value: Any, mode: str) -> None:
    assert request.tool_choice(value, request.tools([add])).mode == mode


def test_tool_choice_must_be_possible() -> None:
    with pytest.raises(InvalidRequest, match="not the name of a bound tool"):
        ChatDAMI().bind_tools([add], tool_choice="subtract")
    with pytest.raises(InvalidRequest, match="no tools are bound"):
        request.tool_choice("any", ())


def test_response_formats() -> None:
    assert request.response_format(None) is None
    plain = request.response_format({"type": "json_object"})
    assert plain is not None
    assert plain.schema is None
    named = request.response_format({"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}})
    assert named is not None
    assert (named.name, named.schema) == ("n", {"type": "object"})
    pydantic = request.response_format(Person)
    assert pydantic is not None
    assert pydantic.schema == Person.model_json_schema()
    with pytest.raises(InvalidSchema):
        request.response_format("json")


def test_intensity_value_is_kept_exactly() -> None:
    assert request.intensity_request([("call", {"reasoning_intensity": 1})]).intensity == Intensity(1)
    assert math.copysign(1, Intensity(-0.0)) == 1


def test_a_response_format_is_strict_where_it_says_so_or_comes_from_a_class() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}

    def strict(given: Any) -> bool:
        wanted = request.response_format(given)
        assert wanted is not None
        return wanted.strict

    named = {"name": "x", "schema": schema}
    assert strict({"type": "json_schema", "json_schema": {**named, "strict": True}})
    assert not strict({"type": "json_schema", "json_schema": named})
    assert not strict({"type": "json_schema", "json_schema": {**named, "strict": None}})
    assert not strict(schema)
    assert strict(Person)
    for method in ("json_schema", "json_mode"):
        bound = ChatDAMI().with_structured_output({**schema, "title": "x"}, method=method).first.kwargs  # type: ignore[attr-defined]
        assert strict(bound["response_format"])
