"""The profile says what the pair can do, from small files; LangChain's agents choose by it."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.tools import tool
from pydantic import BaseModel

from dami_agent.chat_model import ChatDAMI
from dami_agent.testing import FakeReply, fake_chat_model
from tests.pairs import write_pair


def _profile(**settings: Any) -> Any:
    return ChatDAMI(**settings).profile


def test_the_built_in_pair() -> None:
    profile = _profile()
    assert set(profile) <= set(ModelProfile.__annotations__)
    assert (profile["max_input_tokens"], profile["max_output_tokens"]) == (4096, 4096)
    assert (profile["tool_calling"], profile["tool_choice"], profile["structured_output"]) == (True, True, False)
    assert profile["reasoning_effort_levels"] == ["none", "minimal", "low", "medium", "high", "max"]
    assert profile["reasoning_effort_default"] == "auto"
    assert _profile(context_length=512)["max_input_tokens"] == 512


@pytest.mark.parametrize("arch", ["qwen3", "gpt2", "llama"])
def test_the_window_of_a_pair_on_disk(tmp_path: Path, arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    instruct, thinking = write_pair(tmp_path, arch=arch, context=256)
    for folder in (instruct, thinking):  # a profile needs no weights
        for weights in Path(folder).glob("*.safetensors"):
            weights.unlink()
    profile = _profile(instruct=str(instruct), thinking=str(thinking))
    assert (profile["max_input_tokens"], profile["tool_calling"]) == (256, True)
    config = Path(thinking) / "config.json"
    config.write_text(json.dumps({"text_config": {"max_position_embeddings": 128}}))
    assert _profile(instruct=str(instruct), thinking=str(thinking))["max_input_tokens"] == 128


def test_a_template_without_tools_answers_in_json(tmp_path: Path) -> None:
    instruct, thinking = write_pair(tmp_path)
    for folder in (instruct, thinking):
        plain = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        (Path(folder) / "chat_template.jinja").write_text(plain)
    profile = _profile(instruct=str(instruct), thinking=str(thinking))
    assert (profile["tool_calling"], profile["tool_choice"], profile["structured_output"]) == (False, False, True)


def test_what_is_not_here_is_left_out_and_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("no network here")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in ("owner/name", str(tmp_path / "nowhere"), "no id at all: really?"):
        profile = _profile(instruct=name, thinking=name)
        assert profile["open_weights"] is True
        assert "max_input_tokens" not in profile


def test_a_profile_of_the_users_own_is_kept() -> None:
    assert _profile(profile={"max_input_tokens": 7}) == {"max_input_tokens": 7}


class Total(BaseModel):
    """A total."""

    total: int


class Order(BaseModel):
    """An order."""

    item: str
    count: int


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def test_an_agent_asks_for_structured_output_by_a_call() -> None:
    replies = [FakeReply(tool_calls=[("add", {"a": 3, "b": 4})]), FakeReply(tool_calls=[("Total", {"total": 7})])]
    agent: Any = create_agent(fake_chat_model(replies), [add], response_format=Total)
    assert agent.invoke({"messages": [("user", "3 + 4?")]})["structured_response"] == Total(total=7)


def test_the_built_in_pair_ends_an_agent_with_an_object() -> None:
    model = ChatDAMI(seed=1, reasoning_intensity=1.0, ledger=":memory:", max_tokens=400)
    agent: Any = create_agent(model, [], response_format=Order)
    answer = agent.invoke({"messages": [("user", "Please order 3 lamps.")]}, {"recursion_limit": 12})
    assert answer["structured_response"] == Order(item="lamp", count=3)
