"""``dami serve`` answers agents and OpenAI's clients, each request at its own λ."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from dami_agent import ChatDAMI
from dami_agent.checkpoints import CheckpointPair
from dami_agent.errors import EngineClosed, InvalidRequest
from dami_agent.testing.engine_contract import EngineContract

KEY = "sk-of-the-test"
SECONDS_TO_START = 240
TOOL = {
    "type": "function",
    "function": {
        "name": "get_price",
        "description": "Look up the price of an item.",
        "parameters": {"type": "object", "properties": {"item": {"type": "string"}}, "required": ["item"]},
    },
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start ``dami serve`` over the built-in pair, once for this file; yields its base URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    command = [str(Path(sys.executable).with_name("dami")), "serve", "--port", str(port)]
    command += ["--dtype", "float32", "--context-length", "256", "--", "--enforce-eager"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "DAMI_API_KEY": KEY},
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(process, url, log)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    ends = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < ends and process.poll() is None:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health").status_code == 200:
                return
        time.sleep(0.5)
    pytest.fail(f"the server did not start:\n{log.read_text(errors='replace')[-3000:]}")


@pytest.fixture(scope="module")
def client(server: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server, headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as client:
        yield client


class TestRemoteEngine(EngineContract):
    """An engine that asks a server does what every engine is expected to."""

    @pytest.fixture(scope="class")
    @classmethod
    def open_engine(cls, server: str) -> Callable[[], Any]:
        from dami_agent.integrations.vllm.remote_engine import RemoteVllmEngine

        return lambda: RemoteVllmEngine.connect(server, api_key=KEY)[0]

    @pytest.fixture(scope="class")
    @classmethod
    def tokenizer(cls) -> Any:
        return CheckpointPair.builtin().instruct.tokenizer()


def test_a_model_needs_the_address_alone(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokenizer, templates and frontier are fetched; policy, budgets and ledger stay here."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    llm = ChatDAMI(base_url=f"{server}/v1", api_key=KEY, ledger=str(tmp_path / "ledger.sqlite"), seed=1)
    reply = llm.invoke("Start with 8. Add 5.")
    pair = CheckpointPair.builtin()
    assert "13" in reply.content
    assert reply.response_metadata["fingerprint"] == pair.fingerprint
    assert "confidence" in reply.response_metadata["reason"]
    assert llm.profile["max_input_tokens"] == 256
    assert llm.get_num_tokens("Start with 8.") == len(pair.instruct.tokenizer()("Start with 8.")["input_ids"])
    pieces = list(llm.stream("Start with 8. Add 5.", reasoning_intensity=1.0, max_reasoning_tokens=9))
    whole = sum(pieces[1:], pieces[0])
    assert whole.usage_metadata["output_token_details"]["reasoning"] == 9
    assert "</think>" not in whole.content
    assert (tmp_path / "dami-agent" / "served" / pair.fingerprint / "tokenizer.json").is_file()


def test_a_wrong_key_and_a_wrong_address_are_said(server: str) -> None:
    with pytest.raises(InvalidRequest, match="refuses the API key"):
        ChatDAMI(base_url=server, api_key="sk-wrong", ledger="off").invoke("Hello")
    with pytest.raises(EngineClosed, match="cannot be reached"):
        ChatDAMI(base_url="http://127.0.0.1:9", ledger="off").invoke("Hello")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"reasoning_effort": "none"}, "0.0000"),
        ({"reasoning_intensity": 0.6}, "0.6000"),
        ({"reasoning_effort": "low", "reasoning_intensity": 1}, "1.0000"),
        ({"vllm_xargs": {"reasoning_intensity": 0.3}}, "0.3000"),
    ],
)
def test_openai_clients_say_how_deeply(client: httpx.Client, asked: dict[str, Any], said: str) -> None:
    message = {"role": "user", "content": "Start with 8. Add 5."}
    body = {"model": "dami-builtin", "messages": [message], "max_tokens": 150, "seed": 1, **asked}
    response = client.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    reply = response.json()
    assert reply["system_fingerprint"].endswith(f"-l{said}")
    assert float(response.headers["x-reasoning-intensity"]) == float(said)
    thought = reply["choices"][0]["message"].get("reasoning")
    assert bool(thought) == (said != "0.0000"), "a thought is apart from the answer, and there is none at λ=0"
    assert "13" in reply["choices"][0]["message"]["content"]
    assert "think>" not in reply["choices"][0]["message"]["content"]
    with client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as stream:
        chunks = [line for line in stream.iter_lines() if line.startswith("data: {")]
    assert len(chunks) > 3
    assert all(f'-l{said}"' in chunk for chunk in chunks if "system_fingerprint" in chunk)


def test_openai_clients_call_tools(client: httpx.Client) -> None:
    body = {"model": "dami-builtin", "tools": [TOOL], "reasoning_effort": "none", "max_tokens": 60}
    body["messages"] = [{"role": "user", "content": "What does a lamp cost?"}]
    reply = client.post("/v1/chat/completions", json=body).json()
    (call,) = reply["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "get_price", "arguments": '{"item": "lamp"}'}


@pytest.mark.parametrize(
    "bad",
    [
        {"reasoning_intensity": "abc"},
        {"reasoning_intensity": 1.5},
        {"reasoning_effort": "huge"},
        {"vllm_xargs": {"reasoning_intensity": -1}},
        {"vllm_xargs": {"prefix_tokens": 4}},
        {"vllm_xargs": "abc"},
        {"messages": "abc"},
    ],
)
def test_a_bad_request_is_refused_in_openais_shape_and_harms_no_other(
    client: httpx.Client, bad: dict[str, Any]
) -> None:
    good = {"model": "dami-builtin", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    response = client.post("/v1/chat/completions", json={**good, **bad})
    assert response.status_code == 400, response.text
    assert response.json()["error"]["message"]
    assert client.post("/v1/chat/completions", json=good).status_code == 200
    assert client.post("/v1/chat/completions", content=b"{").status_code == 400


def test_only_the_tokenizers_files_are_given_and_only_to_those_with_the_key(server: str, client: httpx.Client) -> None:
    assert client.get("/v1/dami/files/tokenizer.json").status_code == 200
    for name in ("model.safetensors", "../instruct/model.safetensors", "..%2Fframe", "config.json", ""):
        assert client.get(f"/v1/dami/files/{name}").status_code == 404
    for path in ("/v1/dami/pair", "/v1/dami/files/tokenizer.json"):
        assert httpx.get(f"{server}{path}").status_code == 401
