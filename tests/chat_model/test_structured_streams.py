"""A structured output that is streamed grows, and ends as the object that invoke gives."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from dami_agent.chat_model import ChatDAMI
from dami_agent.errors import OutputInvalid, OutputTruncated
from dami_agent.testing import FakeReply, fake_chat_model

ADA = {"name": "Ada Lovelace", "born": {"year": 1815, "town": "London"}}
JSON = '{"name": "Ada Lovelace", "born": {"year": 1815, "town": "London"}}'


class Born(BaseModel):
    """When and where."""

    year: int | None = None
    town: str = ""


class Person(BaseModel):
    """A person."""

    name: str
    born: Born = Born()


class PersonDict(TypedDict):
    """A person."""

    name: str
    born: dict[str, Any]


SCHEMA = {
    "title": "Person",
    "description": "A person.",
    "type": "object",
    "properties": {"name": {"type": "string"}, "born": {"type": "object"}},
    "required": ["name", "born"],
}
METHODS = ["function_calling", "json_schema", "json_mode"]


def _model(method: str, **settings: Any) -> ChatDAMI:
    reply = FakeReply(tool_calls=[("Person", ADA)]) if method == "function_calling" else FakeReply(JSON)
    if method == "function_calling" and settings.pop("as_dict", False):
        reply = FakeReply(tool_calls=[("PersonDict", ADA)])
    settings.pop("as_dict", None)
    return fake_chat_model(lambda _: reply, **settings)


async def _all(values: Any) -> list[Any]:
    return [value async for value in values]


def _grows(smaller: Any, larger: Any) -> bool:
    if isinstance(smaller, dict):
        return isinstance(larger, dict) and all(k in larger and _grows(v, larger[k]) for k, v in smaller.items())
    return smaller in ("", None) or str(larger).startswith(str(smaller))


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("version", ["v0", "v1"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("schema", [SCHEMA, PersonDict, Person], ids=["schema", "typed dict", "pydantic"])
def test_objects_grow_to_the_one_of_invoke(schema: Any, method: Any, version: str, how: str) -> None:
    model = _model(method, output_version=version, as_dict=schema is PersonDict)
    structured = model.with_structured_output(schema, method=method)
    values = list(structured.stream("Who?")) if how == "sync" else asyncio.run(_all(structured.astream("Who?")))
    assert values[-1] == structured.invoke("Who?")
    assert len(values) > 5
    plain = [value.model_dump() if isinstance(value, BaseModel) else value for value in values]
    assert plain[-1] == ADA
    assert all(_grows(a, b) for a, b in pairwise(plain))
    assert all(a != b for a, b in pairwise(plain))
    assert all(type(value) is type(values[-1]) for value in values)


@pytest.mark.parametrize("method", METHODS)
def test_include_raw_streams_the_message_beside_the_object(method: Any) -> None:
    structured = _model(method).with_structured_output(Person, method=method, include_raw=True)
    values = list(structured.stream("Who?"))
    assert all(set(value) == {"raw", "parsed", "parsing_error"} for value in values)
    assert values[-1]["parsed"] == Person.model_validate(ADA)
    assert values[-1]["raw"].usage_metadata["output_tokens"] > 0
    assert "partial_call" not in values[-1]["raw"].model_dump()


@pytest.mark.parametrize("method", METHODS)
def test_a_cut_object_raises_at_the_end(method: Any) -> None:
    structured = _model(method, max_tokens=20, reasoning_intensity=0.0).with_structured_output(SCHEMA, method=method)
    seen: list[Any] = []
    with pytest.raises(OutputTruncated):
        seen.extend(structured.stream("Who?"))
    with pytest.raises(OutputTruncated):
        structured.invoke("Who?")


def test_an_object_that_does_not_validate_raises_at_the_end() -> None:
    model = fake_chat_model(lambda _: '{"name": "Ada", "born": 7}')
    with pytest.raises(OutputInvalid):
        list(model.with_structured_output(Person, method="json_schema").stream("Who?"))


def test_a_thought_is_no_part_of_the_object() -> None:
    model = fake_chat_model(lambda _: FakeReply(JSON, reasoning='{"name": "nobody"}'))
    first = next(iter(model.with_structured_output(SCHEMA, method="json_schema").stream("Who?")))
    assert _grows(first, ADA)


def test_the_built_in_pair_streams_objects() -> None:
    class Total(BaseModel):
        """The total."""

        total: int

    model = ChatDAMI(seed=1, reasoning_intensity=0.0, ledger=":memory:", max_tokens=200)
    values = list(model.with_structured_output(Total).stream("Start with 7. Add 5. What is the result?"))
    assert values
    assert isinstance(values[-1], Total)
