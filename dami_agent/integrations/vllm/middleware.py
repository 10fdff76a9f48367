"""Let OpenAI's clients say how deeply to reason, and tell agents what is served: in front of vLLM's own API server.

- ``/v1/chat/completions`` takes ``reasoning_effort`` or ``reasoning_intensity`` (λ), renders the template that goes
  with it, fills in the sampling of Instruct (λ = 0) or Thinking, and says λ in ``system_fingerprint`` and in the header
  ``x-reasoning-intensity``.
- ``/v1/completions`` takes λ likewise.
- ``/v1/dami/pair`` and ``/v1/dami/files/...`` hold what a client needs beside the weights.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from dami_agent.checkpoints import CheckpointPair
from dami_agent.errors import DamiError, InvalidRequest
from dami_agent.integrations.vllm.request_arguments import INTENSITY
from dami_agent.integrations.vllm.served_pair import FILES_PATH, PAIR_PATH, describe_pair, served_file
from dami_agent.policy import EFFORTS
from dami_agent.types import Intensity, require_one
from dami_agent.types.intensity import USE_MERGED

__all__ = ["FINGERPRINT", "SERVED", "PairMiddleware", "ServedSettings"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

SERVED = "DAMI_SERVED"
"""Environment variable in which ``dami serve`` tells the server's processes what they serve, as JSON."""

FINGERPRINT = "l0.0000"
"""Ends the ``system_fingerprint`` that vLLM is told to send; λ takes its place, in as many characters."""

DEFAULT_EFFORT = "medium"

_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedSettings:
    """Holds what the processes of a server are told of it; ``instruct`` None is the built-in pair."""

    instruct: str | None
    thinking: str | None
    context_length: int
    device: str
    dtype: str

    def to_json(self) -> str:
        """Return it as the environment carries it."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def from_environment(cls) -> ServedSettings:
        """Read what ``dami serve`` has said."""
        return cls(**json.loads(os.environ[SERVED]))

    def open(self) -> CheckpointPair:
        """Open the pair; no weights are read."""
        return CheckpointPair.named(self.instruct, self.thinking)


class PairMiddleware:
    """Stands before vLLM's application, as its argument ``--middleware`` names it.

    Args:
        app: vLLM's ASGI application.
    """

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app
        self._settings = ServedSettings.from_environment()
        self._pair = self._settings.open()
        self._key = os.environ.get("VLLM_API_KEY", "")
        description = describe_pair(
            self._pair,
            context_length=self._settings.context_length,
            device=self._settings.device,
            dtype=self._settings.dtype,
        )
        self._frontier = description.read_frontier()
        self._description = json.dumps(description.to_dict()).encode()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer what is ours, translate what asks for λ, and pass everything else on as it is."""
        path = scope.get("path", "") if scope["type"] == "http" else ""
        if path == PAIR_PATH or path.startswith(FILES_PATH + "/"):
            await self._tell(scope, path, send)
        elif path in ("/v1/chat/completions", "/v1/completions") and scope.get("method") == "POST":
            await self._translate(scope, receive, send, chat=path == "/v1/chat/completions")
        else:
            await self._app(scope, receive, send)

    async def _tell(self, scope: Message, path: str, send: Send) -> None:
        if not self._admits(scope):
            await _respond(send, 401, b'{"error": "Unauthorized"}')
        elif path == PAIR_PATH:
            await _respond(send, 200, self._description)
        elif (file := served_file(self._pair, path.removeprefix(FILES_PATH + "/"))) is not None:
            await _respond(send, 200, file.read_bytes())
        else:
            await _respond(send, 404, _error("no such file", "NotFoundError", 404))

    def _admits(self, scope: Message) -> bool:
        """Return whether a request bears the server's key, as vLLM itself asks of paths under /v1."""
        if not self._key:
            return True
        said = dict(scope["headers"]).get(b"authorization", b"").removeprefix(b"Bearer ")
        return hmac.compare_digest(said, self._key.encode())

    async def _translate(self, scope: Message, receive: Receive, send: Send, *, chat: bool) -> None:
        body = await _read(receive)
        try:
            data = json.loads(body)
        except ValueError:  # vLLM says what is wrong with it
            data = None
        if not isinstance(data, dict) or not isinstance(data.get("vllm_xargs") or {}, dict):
            await self._app(scope, _replay(body, receive), send)
            return
        try:
            at = self.intensity_of(data)
        except DamiError as error:
            await _respond(send, 400, _error(f"{error.message}; {error.hint or ''}", "BadRequestError", 400))
            return
        translated = json.dumps(self.translated(data, at, chat=chat)).encode()
        headers = [(k, v) for k, v in scope["headers"] if k != b"content-length"]
        headers.append((b"content-length", str(len(translated)).encode()))
        await self._app({**scope, "headers": headers}, _replay(translated, receive), _saying(at, send))

    def intensity_of(self, data: MutableMapping[str, Any]) -> Intensity:
        """Take λ out of a request's body: a number goes before an effort, and neither is ``medium``.

        Raises:
            InvalidIntensity: it is no λ.
            InvalidRequest: the effort is none that is known.
        """
        number, effort = data.pop("reasoning_intensity", None), data.pop("reasoning_effort", None)
        if number is None:
            number = (data.get("vllm_xargs") or {}).get(INTENSITY)
        if number is not None:
            at = Intensity(number)
            require_one(at, "vLLM runs every request at", USE_MERGED)
            return at
        effort = effort or DEFAULT_EFFORT
        if effort not in EFFORTS:
            raise InvalidRequest(f"unknown reasoning_effort {effort!r}", hint=f"one of {', '.join(EFFORTS)}")
        return self._frontier.for_effort(effort)

    def translated(self, data: MutableMapping[str, Any], at: Intensity, *, chat: bool) -> dict[str, Any]:
        """Return the body that vLLM gets: λ, and what goes with it unless the client has said it."""
        side = self._pair.thinking if at > 0 else self._pair.instruct
        usual = {name: side.generation_config.get(name) for name in _SAMPLING}
        body: dict[str, Any] = {
            **{name: value for name, value in usual.items() if value is not None},
            **data,
            "vllm_xargs": {**(data.get("vllm_xargs") or {}), INTENSITY: float(at)},
        }
        body["stop_token_ids"] = sorted({*(data.get("stop_token_ids") or ()), *self._pair.eos_token_ids})
        if chat:
            thinks = self._frontier.template(at) == "thinking"
            body["chat_template_kwargs"] = {"enable_thinking": thinks, **(data.get("chat_template_kwargs") or {})}
        return body


def _saying(at: Intensity, send: Send) -> Send:
    """Return a ``send`` that writes λ into the header and wherever vLLM writes the fingerprint."""
    said = f"l{float(at):.4f}"
    assert len(said) == len(FINGERPRINT)

    async def saying(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"x-reasoning-intensity", f"{float(at):g}".encode())]
        elif message["type"] == "http.response.body":
            message["body"] = message.get("body", b"").replace(f'-{FINGERPRINT}"'.encode(), f'-{said}"'.encode())
        await send(message)

    return saying


async def _read(receive: Receive) -> bytes:
    """Read a request's whole body."""
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body"):
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives this body first, and then what the client does (it may hang up)."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replayed


async def _respond(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _error(message: str, kind: str, code: int) -> bytes:
    """Return an error in OpenAI's shape."""
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()
