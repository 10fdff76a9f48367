"""What other chat models take at the call, and what it does here: the pair's name, usage in streams, temperature."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dami_agent.chat_model import ChatDAMI
from dami_agent.errors import InvalidRequest
from dami_agent.testing import fake_chat_model


def _usage(chunks: Any) -> list[Any]:
    return [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata is not None]


@pytest.mark.parametrize("version", [None, "v1"])
def test_usage_in_streams_can_be_left_out(version: str | None) -> None:
    own: dict[str, Any] = {"output_version": version} if version else {}
    assert len(_usage(fake_chat_model(lambda _: "yes", **own).stream("hi"))) == 1
    assert _usage(fake_chat_model(lambda _: "yes", stream_usage=False, **own).stream("hi")) == []
    # the call has the last word, and so has bind
    assert len(_usage(fake_chat_model(lambda _: "yes", stream_usage=False, **own).stream("hi", stream_usage=True))) == 1
    assert _usage(fake_chat_model(lambda _: "yes", **own).stream("hi", stream_usage=False)) == []
    assert _usage(fake_chat_model(lambda _: "yes", **own).bind(stream_usage=False).stream("hi")) == []
    whole = fake_chat_model(lambda _: "yes", stream_usage=False, **own).invoke("hi")
    assert whole.usage_metadata is not None  # this is about streams


async def test_usage_in_async_streams_can_be_left_out() -> None:
    model = fake_chat_model(lambda _: "yes")
    assert _usage([chunk async for chunk in model.astream("hi", stream_usage=False)]) == []
    assert len(_usage([chunk async for chunk in model.astream("hi")])) == 1


def test_the_rest_of_the_last_chunk_stays() -> None:
    last = list(fake_chat_model(lambda _: "yes").stream("hi", stream_usage=False))[-1]
    assert last.response_metadata["finish_reason"] == "stop"


@pytest.mark.parametrize("key", ["model", "model_name"])
def test_the_models_own_pair_is_accepted_at_the_call(key: str) -> None:
    model = fake_chat_model(lambda _: "yes")
    for name in ("builtin", "dami-builtin", model.model_name, None):
        given: dict[str, Any] = {key: name}
        assert model.invoke("hi", **given).text == "yes"
        assert model.bind(**given).invoke("hi").text == "yes"


@pytest.mark.parametrize("key", ["model", "model_name"])
@pytest.mark.parametrize("name", ["gpt-9", "a/b+c/d", 7, ""])
def test_another_pair_is_another_model(key: str, name: Any) -> None:
    model = fake_chat_model(lambda _: "yes")
    with pytest.raises(InvalidRequest, match="this model runs 'dami-builtin'") as error:
        model.invoke("hi", None, **{key: name})
    assert "ChatDAMI(model=" in str(error.value)
    with pytest.raises(InvalidRequest, match="this model runs 'dami-builtin'"):
        model.bind(**{key: name})
    assert model.engine.requests == []


def test_a_folder_is_the_same_however_it_is_spelt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for side in ("instruct", "thinking"):
        (tmp_path / "pair" / side).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    model = ChatDAMI(model=str(tmp_path / "pair"))  # type: ignore[call-arg]
    for name in ("pair", "./pair", str(tmp_path / "pair"), "pair/instruct + pair/thinking", model.model_name):
        model.bind(model=name)
    with pytest.raises(InvalidRequest):
        model.bind(model="pair/thinking+pair/instruct")


def _temperature(model: ChatDAMI, **call: Any) -> Any:
    return model._get_ls_params(**call).get("ls_temperature", "unknown")


def test_the_temperature_that_is_traced() -> None:
    assert _temperature(ChatDAMI(temperature=0.3)) == 0.3
    assert _temperature(ChatDAMI(temperature=0.3), temperature=0.9) == 0.9
    # the built-in pair's own: 0.7 for Instruct, 0.6 for Thinking
    assert _temperature(ChatDAMI(reasoning_intensity=0)) == 0.7
    assert _temperature(ChatDAMI(reasoning_intensity=0.4)) == 0.6
    assert _temperature(ChatDAMI(), reasoning_intensity=1.0) == 0.6
    assert _temperature(ChatDAMI()) == "unknown"  # which of the two is the estimator's to say
    assert _temperature(ChatDAMI(reasoning_intensity=1.0, policy="frugal")) == "unknown"  # type: ignore[arg-type]  # or the policy's


def test_the_temperature_of_a_pair_on_disk(tmp_path: Path) -> None:
    for side in ("instruct", "thinking"):
        (tmp_path / side).mkdir()
    model = ChatDAMI(model=str(tmp_path))  # type: ignore[call-arg]
    config = tmp_path / "thinking" / "generation_config.json"
    assert _temperature(model) == 0.0  # no file: greedy
    config.write_text(json.dumps({"do_sample": True}))
    assert _temperature(model, reasoning_intensity=1.0) == 1.0
    assert _temperature(model) == "unknown"
    config.write_text(json.dumps({"temperature": "hot"}))  # opening the pair says so
    assert _temperature(model, reasoning_intensity=1.0) == "unknown"
    assert _temperature(ChatDAMI(model="owner/one+owner/two")) == "unknown"  # type: ignore[call-arg]
