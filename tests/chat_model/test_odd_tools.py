"""One tool with a malformed schema takes no other away: it is bound without what is wrong, with one warning."""

from __future__ import annotations

from typing import Any

import pytest

from dami_agent.chat_model import ChatDAMI
from dami_agent.chat_model.request import tools
from dami_agent.dialogue.json_schema import SchemaWarning
from dami_agent.errors import InvalidSchema
from dami_agent.testing import FakeReply, fake_chat_model


def get_price(item: str) -> int:
    """Get the price of an item."""
    return 12


def odd(parameters: Any, name: str = "odd") -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": "Odd.", "parameters": parameters}}


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


ANY: dict[str, Any] = {"type": "object"}
ODD: list[tuple[Any, dict[str, Any], str]] = [
    (of(a={"type": "any"}, b={"type": "integer"}), of(a={}, b={"type": "integer"}), "#/properties/a/type"),
    (of(a={"type": "string", "required": True}), of(a={"type": "string"}), "#/properties/a/required"),
    (of(a={"type": "string", "pattern": "(a"}), of(a={"type": "string"}), "#/properties/a/pattern"),
    (of(a={"$ref": "https://example.com/s"}, b={"$ref": "#/$defs/No"}), of(a={}, b={}), "#/properties/a/$ref"),
    (of(a={"anyOf": [{"type": "int"}, {"type": "null"}]}), of(a={"anyOf": [{}, {"type": "null"}]}), "anyOf/0/type"),
    (of(a={"type": ["string", "text"]}), of(a={"type": ["string"]}), "#/properties/a/type"),
    (of(**{"a~/b c": {"type": "any"}}), of(**{"a~/b c": {}}), "a~/b c"),
    (of(a=5, b={}), of(b={}), "#/properties/a"),
    (of(a={}) | {"required": "a", "additionalProperties": "no"}, of(a={}), "'a' is not of type 'array'|'no'"),
    ({"type": "array", "items": {"type": "string"}}, ANY | {"items": {"type": "string"}}, "arguments are an object"),
    (
        ANY | {"patternProperties": {"(": {}, "^x": {"type": "integer"}}},
        ANY | {"patternProperties": {"^x": {"type": "integer"}}},
        "#/patternProperties",
    ),
    (
        of(**{f"p{n}": {"type": "string", "required": True} for n in range(30)}),
        of(**{f"p{n}": {"type": "string"} for n in range(30)}),
        "#/properties/p[0-9]+/required",
    ),
    (
        of(a=5, b={"anyOf": [{"type": "int"}, 5, {"type": "text", "pattern": "("}, {"minimum": 3}]}),
        of(b={"anyOf": [{}, {}, {"minimum": 3}]}),
        "#/properties/",
    ),
    (of(a={"maximum": float("inf")}), ANY, "the number inf"),
    ({"type": "object", "properties": ["a"]}, ANY, "#/properties"),
]


@pytest.mark.parametrize(("schema", "left", "said"), ODD, ids=range(len(ODD)))
def test_what_is_wrong_is_left_out_and_the_rest_holds(schema: Any, left: dict[str, Any], said: str) -> None:
    name = f"odd_{ODD.index((schema, left, said))}"
    bound = [odd(schema, name), get_price]
    with pytest.warns(SchemaWarning, match=rf"tool '{name}': .*({said.replace('$', '[$]')}).*; the tool is bound with"):
        found, price = tools(bound)
    assert found.parameters == left
    assert price == tools([get_price])[0]
    assert tools(bound) == (found, price)  # and no second warning: the suite makes one an error


def test_its_calls_are_judged_by_what_is_left() -> None:
    wrong = of(a={"type": "any"}, b={"type": "integer"}) | {"required": ["b"]}
    calls = (
        '<tool_call>\n{"name": "judged", "arguments": {"a": [1], "b": 2}}\n</tool_call>\n'
        '<tool_call>\n{"name": "judged", "arguments": {"a": [1], "b": "two"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "get_price", "arguments": {"item": "lamp"}}\n</tool_call>'
    )
    model = fake_chat_model([FakeReply(calls)])
    with pytest.warns(SchemaWarning, match="tool 'judged'"):
        bound = model.bind_tools([odd(wrong, "judged"), get_price])
    reply = bound.invoke("What is the price of a lamp?")
    assert [(call["name"], call["args"]) for call in reply.tool_calls] == [
        ("judged", {"a": [1], "b": 2}),
        ("judged", {"a": [1], "b": "two"}),
        ("get_price", {"item": "lamp"}),
    ]


def test_the_built_in_pair_calls_the_tool_beside_it() -> None:
    with pytest.warns(SchemaWarning, match="tool 'beside'") as caught:
        bound = ChatDAMI(seed=1, max_tokens=200).bind_tools([odd(of(a={"type": "any"}), "beside"), get_price])
    assert len(caught) == 1
    reply = bound.invoke("What is the price of a lamp?")  # without a second warning
    assert [(call["name"], call["args"]) for call in reply.tool_calls] == [("get_price", {"item": "lamp"})]


def test_by_itself_or_strict_it_is_refused() -> None:
    wrong = of(a={"type": "any"})
    model = fake_chat_model([FakeReply("never")])
    with pytest.raises(InvalidSchema, match="tool 'odd': malformed JSON schema at #/properties/a/type"):
        model.bind_tools([odd(wrong)]).invoke("hello")
    with pytest.raises(InvalidSchema, match="tool 'odd': malformed JSON schema at #/properties/a/type"):
        model.bind_tools([odd(wrong), get_price], strict=True)
