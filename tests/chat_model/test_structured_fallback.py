"""Structured output on a pair whose chat templates show no tools, as SmolLM2's do."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import ConfigurableField
from pydantic import BaseModel
from typing_extensions import TypedDict

from dami_agent.checkpoints import CheckpointPair
from dami_agent.dialogue import Dialogue
from dami_agent.errors import InvalidRequest, OutputInvalid
from dami_agent.testing import FakeReply, fake_chat_model

SMOLLM2 = (Path(__file__).parents[1] / "fixtures" / "templates" / "smollm2.jinja").read_text()


class City(BaseModel):
    """A city."""

    name: str


class CityDict(TypedDict):
    """A city."""

    name: str


def without_tools(*replies: Any, **templates: str) -> Any:
    pair = CheckpointPair.builtin()
    given: Any = {"instruct": SMOLLM2, "thinking": SMOLLM2, **templates}
    dialogue = Dialogue(pair.instruct.tokenizer(), templates=given)
    return fake_chat_model(replies, dialogue=dialogue, reasoning_intensity=0.5)


@pytest.mark.parametrize("how", ["invoke", "async", "stream"])
@pytest.mark.parametrize(
    ("schema", "found"),
    [(City, City(name="Rome")), (CityDict, {"name": "Rome"}), (City.model_json_schema(), {"name": "Rome"})],
)
def test_the_answer_itself_is_the_object(schema: Any, found: Any, how: str) -> None:
    model = without_tools('{"name": "Rome"}')
    form = model.with_structured_output(schema)
    if how == "stream":
        assert list(form.stream("Where?"))[-1] == found
    else:
        assert (form.invoke("Where?") if how == "invoke" else asyncio.run(form.ainvoke("Where?"))) == found
    (request,) = model.engine.requests
    assert request.prompt.constraint is not None
    assert request.prompt.constraint.complete
    (row,) = model.ledger.rows()
    assert row.accepted


def test_what_was_asked_for_by_name_is_not_changed() -> None:
    for method in ("json_schema", "json_mode"):
        assert without_tools('{"name": "Rome"}').with_structured_output(City, method=method).invoke("?").name == "Rome"
    with pytest.raises(InvalidRequest, match="does not show tools"):
        without_tools("x").with_structured_output(City, method="function_calling").invoke("?")
    assert not without_tools("x", thinking=CheckpointPair.builtin().thinking.chat_template).dialogue.shows_tools


def test_variations() -> None:
    both = without_tools("no JSON").with_structured_output(City, include_raw=True).invoke("?")
    assert isinstance(both["parsing_error"], OutputInvalid)
    with pytest.raises(OutputInvalid, match="does not validate"):
        without_tools('{"nom": "Rome"}').with_structured_output(CityDict).invoke("?")
    field = ConfigurableField(id="depth")
    configured = without_tools('{"name": "Rome"}').configurable_fields(reasoning_intensity=field)
    assert configured.with_structured_output(City).invoke("?") == City(name="Rome")
    bound = without_tools('{"name": "Rome"}').bind(max_tokens=50).with_structured_output(City)
    assert bound.invoke("?", reasoning_intensity=0.0) == City(name="Rome")
    escalating = {"escalation": {"max_attempts": 2}}
    again = without_tools("no JSON", '{"name": "Rome"}')
    again = again.model_copy(update={"policy": type(again)(policy=escalating).policy, "reasoning_intensity": None})
    assert again.with_structured_output(City).invoke("?") == City(name="Rome")


def test_a_pair_that_shows_tools_calls_one() -> None:
    model = fake_chat_model([FakeReply(tool_calls=[("City", {"name": "Rome"})])])
    assert model.with_structured_output(City).invoke("?") == City(name="Rome")
    with pytest.raises(OutputInvalid, match="called no tool"):
        fake_chat_model([""]).with_structured_output(City).invoke("?")
