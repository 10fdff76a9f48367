"""What users of other chat models pass, read and see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from pydantic import ValidationError

from dami_agent.chat_model import ChatDAMI
from dami_agent.testing import fake_chat_model


@pytest.mark.parametrize("key", ["model", "model_name"])
def test_a_pair_by_one_name(key: str, tmp_path: Path) -> None:
    for side in ("instruct", "thinking"):
        (tmp_path / side).mkdir()
    named = {
        "builtin": (None, None),
        "dami-builtin": (None, None),
        str(tmp_path): (str(tmp_path / "instruct"), str(tmp_path / "thinking")),
        "a/b+c/d": ("a/b", "c/d"),
        "./x + ./y": ("./x", "./y"),
    }
    for name, pair in named.items():
        model = ChatDAMI(**{key: name})
        assert (model.instruct, model.thinking) == pair
        assert ChatDAMI(**{key: model.model_name}).model_name == model.model_name
    with pytest.raises(ValidationError, match="INSTRUCT\\+THINKING"):
        ChatDAMI(**{key: "gpt-9"})
    with pytest.raises(ValidationError, match="different checkpoints"):
        ChatDAMI(**{key: "a+b"}, instruct="c", thinking="b")


def test_habits_of_other_models_are_accepted() -> None:
    model = ChatDAMI(model="builtin", stream_usage=True, streaming=False, max_retries=1, api_key="none")  # type: ignore[call-arg, arg-type]
    assert model.model_name == "dami-builtin"
    fake = fake_chat_model(lambda _: "yes", stream_usage=False)
    assert list(fake.stream("hi", stream_usage=True))[-1].usage_metadata is not None


def test_hints_name_what_can_be_given_there() -> None:
    with pytest.raises(ValidationError, match="did you mean 'weights_mode'"):
        ChatDAMI(weight_mode="mixed")  # type: ignore[call-arg]
    with pytest.raises(ValidationError) as at_init:
        ChatDAMI(qqqq=1)  # type: ignore[call-arg]
    assert all(name in str(at_init.value) for name in ("instruct", "ledger", "max_tokens", "device"))
    assert "tool_choice" not in str(at_init.value)
    with pytest.raises(ValidationError, match="tools cannot be given at init"):
        ChatDAMI(tools=[])  # type: ignore[call-arg]
    model = fake_chat_model(lambda _: "yes")
    with pytest.raises(ValueError, match="known:") as at_call:
        model.invoke("hi", qqqq=1)
    assert "tool_choice" in str(at_call.value)
    assert "ledger" not in str(at_call.value)


def test_tracing_parameters() -> None:
    model = fake_chat_model(lambda _: "yes", temperature=0.3, max_tokens=50, policy="frugal")
    params: Any = model._get_ls_params(stop=["x"])
    assert (params["ls_provider"], params["ls_model_name"], params["ls_model_type"]) == ("dami", "dami-builtin", "chat")
    assert (params["ls_temperature"], params["ls_max_tokens"], params["ls_stop"]) == (0.3, 50, ["x"])
    assert params["ls_policy"] == "frugal"
    bound: Any = model.bind(reasoning_effort="low", temperature=0.9)
    assert bound._get_ls_params()["ls_reasoning_effort"] == "low"
    assert bound._get_ls_params()["ls_temperature"] == 0.9
    assert model._get_ls_params(reasoning_intensity=0.5, temperature=0)["ls_reasoning_intensity"] == 0.5  # type: ignore[typeddict-item]
    assert model._get_ls_params(temperature=0)["ls_temperature"] == 0


def test_generate_reports_token_counts() -> None:
    model = fake_chat_model(lambda _: "one two three")
    result = model.generate([[HumanMessage("hi")], [HumanMessage("hello there")]])
    messages: Any = [generation[0].message for generation in result.generations]  # type: ignore[union-attr]
    assert result.llm_output is not None
    assert result.llm_output["model_name"] == "fake"
    for name, own in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")):
        assert result.llm_output["token_usage"][name] == sum(m.usage_metadata[own] for m in messages) > 0
    assert result.llm_output["token_usage"]["total_tokens"] == sum(m.usage_metadata["total_tokens"] for m in messages)


def test_the_repr_is_short() -> None:
    assert repr(ChatDAMI()) == "ChatDAMI(model='dami-builtin')"
    assert repr(ChatDAMI(max_tokens=5, policy="frugal", tags=["a"])) == (
        "ChatDAMI(model='dami-builtin', tags=['a'], policy='frugal', max_tokens=5)"
    )
    assert "sk-secret" not in repr(ChatDAMI(api_key="sk-secret"))  # type: ignore[arg-type]
    assert str(ChatDAMI(model="a+b")).startswith("model='a+b'")  # type: ignore[call-arg]


@tool
def find(what: str, most: int = 3) -> str:
    """Find things."""
    return what * most


def test_strict_asks_for_every_property() -> None:
    loose: Any = fake_chat_model(lambda _: "yes").bind_tools([find]).kwargs["tools"][0]["function"]  # type: ignore[attr-defined]
    strict: Any = fake_chat_model(lambda _: "yes").bind_tools([find], strict=True).kwargs["tools"][0]["function"]  # type: ignore[attr-defined]
    assert loose["parameters"].get("additionalProperties") is None
    assert "strict" not in loose
    assert strict["strict"] is True
    assert strict["parameters"]["additionalProperties"] is False
    model = fake_chat_model(lambda _: "yes")
    model.bind_tools([find], strict=True).invoke("hi")
    model.bind_tools([find]).invoke("hi")
    first, second = model.engine.requests
    assert first.prompt.token_ids != second.prompt.token_ids
    assert first.prompt.constraint != second.prompt.constraint
