"""The grammar of an answer: what it lets through is right, what is right it lets through. The runtime is the judge."""

from __future__ import annotations

import enum
import json
from datetime import date, datetime
from random import Random
from typing import Annotated, Any, Literal

import pydantic
import pytest
from typing_extensions import NotRequired, TypedDict

from dami_agent.dialogue.json_schema import SchemaWarning
from dami_agent.errors import InvalidRequest, InvalidSchema
from dami_agent.types import (
    Constraint,
    Generation,
    Intensity,
    Message,
    Prompt,
    Reply,
    ResponseFormat,
    Sampling,
    Step,
    TokenEvent,
    Tool,
    ToolChoice,
)
from tests.chance import SEED

from .grammar import Grammar
from .support import DIALOGUE, TOKENIZER

ADD = Tool(
    name="add",
    description="Adds.",
    parameters={
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}, "why": {"type": "string"}},
        "required": ["a", "b"],
    },
)
NOTE = Tool(name="add_note", description="", parameters={"type": "object", "properties": {"x": {"type": "string"}}})
NOW = Tool(name='say "now"', description="", parameters={"type": "object", "properties": {}})
TOOLS = (ADD, NOTE, NOW)
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": -20}}\n</tool_call>'
OTHER = '<tool_call>\n{"name": "add_note", "arguments": {}}\n</tool_call>'
QUOTED = '<tool_call>\n{"name": "say \\"now\\"", "arguments": {}}\n</tool_call>'
WRONG = [
    '<tool_call>\n{"name": "sub", "arguments": {"a": 1, "b": 2}}\n</tool_call>',
    '<tool_call>\n{"name": "add", "arguments": {"a": "1", "b": 2}}\n</tool_call>',
    '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>',
    '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2, "c": 3}}\n</tool_call>',
    '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b":   2}}\n</tool_call>',
    '<tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>',
    "<tool_call>\n",
    "<tool_call>",
]


def make(**fields: Any) -> Step:
    return Step(messages=(Message(role="user", content="x"),), **fields)


def prompt(step: Step) -> Prompt:
    return DIALOGUE.render(step, "thinking")


def grammar(step: Step) -> Grammar:
    constraint = prompt(step).constraint
    assert constraint is not None
    return Grammar(constraint)


def parse(ids: list[int], step: Step) -> Reply:
    events = tuple(TokenEvent(token_id=i, part="answer") for i in ids)
    generation = Generation(events=events, finish_reason="stop", intensity=Intensity(0), sampling=Sampling())
    return DIALOGUE.parse(generation, prompt(step), step)


def verdicts(step: Step, texts: list[str]) -> list[bool]:
    judge = grammar(step)
    return [judge.accepts(text) for text in texts]


def test_nothing_bound_nothing_constrained() -> None:
    assert prompt(make()).constraint is None


def test_auto_is_free_text_until_a_call_begins() -> None:
    right = ["", "hello {", CALL, f"Well.\n{CALL}\n{OTHER}", f"{QUOTED} and more", f"\n\n{CALL}", "</tool_call> <tool"]
    assert all(verdicts(make(tools=TOOLS), right))
    assert not any(verdicts(make(tools=TOOLS), [w + more for w in WRONG for more in ("", " so")]))
    one = make(tools=TOOLS, parallel_tool_calls=False)
    assert verdicts(one, ["hello", f"Well. {CALL}", CALL + CALL, f"{CALL}\n{OTHER}"]) == [True, True, False, False]


def test_a_tool_without_arguments_gets_none() -> None:
    assert verdicts(make(tools=TOOLS), [QUOTED, QUOTED.replace("{}", '{"x": 1}')]) == [True, False]


def test_any_is_nothing_but_calls() -> None:
    step = make(tools=TOOLS, tool_choice=ToolChoice(mode="any"))
    assert all(verdicts(step, [CALL, f"\n\n{CALL}", f"{CALL}\n{OTHER}\n{QUOTED}"]))
    assert not any(verdicts(step, ["", "hello", f"Well. {CALL}", f"{CALL} so", "\n" * 3 + CALL, *WRONG]))
    one = make(tools=TOOLS, tool_choice=ToolChoice(mode="any"), parallel_tool_calls=False)
    assert verdicts(one, [CALL, f"{CALL}\n{OTHER}"]) == [True, False]


def test_a_named_tool_is_called_once() -> None:
    step = make(tools=TOOLS, tool_choice=ToolChoice(mode="tool", name="add_note"))
    assert verdicts(step, [OTHER, "\n\n" + OTHER, CALL, f"{OTHER}\n{OTHER}", "hi", ""]) == [True, True, *[False] * 4]


def test_none_is_text_without_calls() -> None:
    step = make(tools=TOOLS, tool_choice=ToolChoice(mode="none"))
    assert verdicts(step, ["hello <tool", CALL, f"a {CALL}", "<tool_call>"]) == [True, False, False, False]
    constraint = prompt(step).constraint
    assert constraint is not None
    assert not constraint.tool_calls


def test_structured_output() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    step = make(response_format=ResponseFormat(schema=schema))
    assert (
        verdicts(step, ['{"n": 3}', '\n\n{"n":3}', "{}", "3", 'so {"n": 3}', '{"n": 3} ok', ""])
        == [True] * 2 + [False] * 5
    )
    constraint = prompt(step).constraint
    assert isinstance(constraint, Constraint)
    assert constraint.complete
    assert not constraint.tool_calls


def test_json_mode_is_any_object() -> None:
    step = make(response_format=ResponseFormat())
    assert (
        verdicts(step, ["{}", '{"a": [1, {"b": null}], "c": -1.5}', "[]", "1", '{"a": 1']) == [True] * 2 + [False] * 3
    )


def test_structured_output_beside_tools_is_one_or_the_other() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    step = make(tools=TOOLS, response_format=ResponseFormat(schema=schema))
    texts = ['{"n": 3}', f"{CALL}\n{OTHER}", f'{CALL}{{"n": 3}}', "hello"]
    assert verdicts(step, texts) == [True, True, False, False]


@pytest.mark.parametrize("mode", ["auto", "any", "tool", "none"])
@pytest.mark.parametrize("parallel", [True, False])
def test_a_random_model_makes_no_invalid_call(mode: Any, parallel: bool) -> None:
    choice = ToolChoice(mode=mode, name="add" if mode == "tool" else None)
    step = make(tools=TOOLS, tool_choice=choice, parallel_tool_calls=parallel)
    judge, rng, ended = grammar(step), Random(SEED), 0
    for _ in range(5):
        ids, done = judge.walk(rng, 250)
        reply = parse(ids, step)
        assert not (done and reply.invalid_tool_calls), TOKENIZER.decode(ids)
        ended += done
        if done:
            assert bool(reply.tool_calls) or mode in ("auto", "none")
            assert len(reply.tool_calls) <= 1 or (parallel and mode != "tool")
            assert mode == "auto" or not (reply.tool_calls and reply.content)
    assert ended


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: Annotated[int, pydantic.Field(ge=0, le=9)] = 9


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    name: Annotated[str, pydantic.Field(min_length=1, max_length=8)]


class Node(pydantic.BaseModel):
    value: float
    children: list[Node] = []


class Report(pydantic.BaseModel):
    title: str
    colour: Colour
    pet: Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]
    due: date | None = None
    at: datetime
    tree: Node | None
    scores: dict[str, int] = {}
    pair: tuple[int, str]
    share: Annotated[float, pydantic.Field(gt=0, lt=1)]


class Movie(TypedDict):
    name: str
    year: NotRequired[int]
    tags: list[Literal["a", "b"]]


@pytest.mark.parametrize("target", [Report, Movie, Node, list[Cat], Cat | Dog, Literal["yes", "no"]])
def test_a_random_model_fills_python_types(target: Any) -> None:
    adapter = pydantic.TypeAdapter(target)
    step = make(response_format=ResponseFormat(schema=adapter.json_schema()))
    judge, rng, ended = grammar(step), Random(SEED), 0
    for _ in range(6):
        ids, done = judge.walk(rng, 500)
        if done:
            ended += 1
            adapter.validate_python(json.loads(parse(ids, step).content), strict=False)
    assert ended


def test_a_random_model_in_json_mode_writes_one_object() -> None:
    step = make(tools=TOOLS, tool_choice=ToolChoice(mode="none"), response_format=ResponseFormat())
    judge, rng, ended = grammar(step), Random(SEED), 0
    for _ in range(8):
        ids, done = judge.walk(rng, 250)
        if done:
            ended += 1
            assert isinstance(json.loads(parse(ids, step).content), dict)
    assert ended


def test_numbers_and_white_space_end() -> None:
    schema = {
        "type": "object",
        "properties": {"i": {"type": "integer"}, "f": {"type": "number"}},
        "required": ["i", "f"],
    }
    step = make(response_format=ResponseFormat(schema=schema))
    for digits, fits in ((20, True), (21, False)):  # 2**64 - 1 has 20
        assert verdicts(step, [f'{{"i": {"1" * digits}, "f": 0.5}}', f'{{"i": 1, "f": {"1" * digits}.5}}']) == [
            fits,
            fits,
        ]
    texts = [f'{{"i": 1, "f": {f}}}' for f in (f"0.{'1' * 20}", f"0.{'1' * 21}", "-1.5e-12", "1e99", "1e100", " 1")]
    assert verdicts(step, texts) == [True, False, True, True, False, False]
    assert verdicts(step, ['{"i":  1, "f": 0}', '{"i": 1, "f": 0 }', '{"i": 1,\n"f": 0}']) == [False] * 3


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"type": "objct"}, "#/type"),
        ({"type": "object", "properties": {"a": {"type": "integer", "minimum": "x"}}}, "#/properties/a/minimum"),
        ({"properties": {"a": {"$ref": "#/$defs/gone"}}}, "#/properties/a/$ref"),
        ({"properties": {"a": {"$ref": "https://example.com/s.json"}}}, "#/properties/a/$ref"),
        ({"type": "array"}, "#/type"),
        ({"required": "a"}, "#/required"),
        ({"properties": {"a": {"type": "string", "pattern": "(a"}}}, "#/properties/a/pattern"),
    ],
)
def test_a_malformed_schema_names_tool_and_place_before_work_begins(schema: Any, path: str) -> None:
    for fields in ({}, {"tool_choice": ToolChoice(mode="none")}):
        bad = make(tools=(ADD, Tool(name="bad", description="", parameters=schema)), **fields)
        with pytest.raises(InvalidSchema, match="tool 'bad'") as caught:
            prompt(bad)
        assert path in str(caught.value)
        assert caught.value.hint


def test_what_no_grammar_enforces_is_warned_about_once_and_checked_afterwards() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}, "required": ["a"]}
    step = make(response_format=ResponseFormat(schema=schema, name="numbers"))
    with pytest.warns(SchemaWarning, match="response format 'numbers': #/properties/a/uniqueItems"):
        constraint = prompt(step).constraint
    assert constraint is not None
    assert constraint.notes == ("response format 'numbers': #/properties/a/uniqueItems",)
    assert prompt(step).constraint == constraint  # and no second warning: the suite makes one an error
    assert verdicts(step, ['{"a": [1, 1]}', '{"a": 1}']) == [True, False]
    assert "non-unique" in DIALOGUE.wrong_answer(step, Reply(content='{"a": [1, 1]}'))
    assert DIALOGUE.wrong_answer(step, Reply(content='{"a": [1, 2]}')) == ""


@pytest.mark.parametrize("mode", ["auto", "any"])
def test_an_odd_tool_is_bound_as_far_as_it_can_be_and_takes_no_other_away(mode: Any) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}, "required": ["a"]}
    odd = Tool(name=f"odd_{mode}", description="", parameters=schema)
    step = make(tools=(odd, ADD), tool_choice=ToolChoice(mode=mode))
    with pytest.warns(SchemaWarning, match="uniqueItems") as caught:
        prompt(step)
    assert len(caught) == 1
    twice = CALL.replace('"add"', f'"{odd.name}"').replace('{"a": 1, "b": -20}', '{"a": [1, 1]}')
    assert verdicts(step, [twice, CALL, twice.replace("[1, 1]", "1"), *WRONG]) == [True, True, *[False] * 9]
    reply = parse(TOKENIZER.encode(twice), step)
    assert "non-unique" in reply.tool_calls[0].error


def test_a_tool_that_nothing_can_satisfy_is_left_out_with_a_warning() -> None:
    impossible = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 3, "maximum": 2}}}
    never = Tool(name="never", description="", parameters={**impossible, "required": ["a"]})
    step, texts = make(tools=(never, ADD)), [CALL, CALL.replace('"add"', '"never"')]
    with pytest.warns(SchemaWarning, match="tool 'never': no value can satisfy"):
        assert verdicts(step, texts) == [True, False]
    assert verdicts(step, texts) == [True, False]  # and no second warning: the suite makes one an error
    with pytest.raises(InvalidSchema, match="never"):
        prompt(make(tools=(never, ADD), tool_choice=ToolChoice(mode="tool", name="never")))


@pytest.mark.parametrize("inner", [{"type": "integer", "minimum": 3, "maximum": 2}, False, {"$ref": "#/$defs/it"}])
def test_what_nothing_satisfies_is_refused(inner: Any) -> None:
    schema = {"type": "object", "properties": {"a": inner}, "required": ["a"], "$defs": {"it": {"$ref": "#/$defs/it"}}}
    with pytest.raises(InvalidSchema, match="no value can satisfy"):
        prompt(make(response_format=ResponseFormat(schema=schema)))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"tools": (ADD, ADD)}, "same name"),
        ({"tools": (ADD,), "tool_choice": ToolChoice(mode="tool", name="sub")}, "'sub'"),
        ({"tool_choice": ToolChoice(mode="any")}, "no tools are bound"),
        ({"tools": (Tool(name="", description="", parameters={}),)}, "no name"),
    ],
)
def test_tools_and_choices_that_do_not_go_together(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        prompt(make(**fields))
