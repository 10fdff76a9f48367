"""Run vLLM's own API server over a pair: what ``dami serve`` starts."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dami_agent.integrations.vllm.middleware import FINGERPRINT, SERVED, ServedSettings
from dami_agent.integrations.vllm.settings import check_installed, engine_arguments_of

if TYPE_CHECKING:
    from dami_agent.checkpoints import CheckpointPair

__all__ = ["chat_template", "serve", "server_flags"]

_MIDDLEWARE = "dami_agent.integrations.vllm.middleware.PairMiddleware"

_PARSERS = {"qwen3": ("qwen3", "hermes"), "qwen2": ("deepseek_r1", "hermes"), "llama": ("deepseek_r1", "hermes")}
"""By the model type: vLLM's parsers of thoughts and of tool calls."""


def serve(
    pair: CheckpointPair, *, host: str, port: int, api_key: str | None, given: Sequence[str], **settings: Any
) -> None:
    """Serve a pair until the process is told to end.

    Args:
        pair: verified.
        host, port: to listen at.
        api_key: that clients must bear; None: none.
        given: further flags of ``vllm serve``; they go before ours.
        settings: ``device``, ``dtype``, ``context_length`` and ``max_batch_size``, as :meth:`VllmEngine.open` has them.

    Raises:
        UsageError: vLLM is not installed, or a setting cannot be honoured.
        UnsupportedCheckpoint: no form of this architecture holds two endpoints.
    """
    check_installed()
    arguments = engine_arguments_of(pair, given={}, **settings)
    from vllm.platforms import current_platform

    folders = _folders(pair)
    served = ServedSettings(
        instruct=folders[0],
        thinking=folders[1],
        context_length=_context_length(pair, arguments),
        device=str(current_platform.device_type),
        dtype=str(arguments["dtype"]),
    )
    os.environ[SERVED] = served.to_json()
    if api_key:
        os.environ["VLLM_API_KEY"] = api_key  # not a flag: those can be read by everybody on this machine
    with tempfile.TemporaryDirectory(prefix="dami-serve-") as scratch:
        template = Path(scratch) / "chat_template.jinja"
        template.write_text(chat_template(pair), encoding="utf-8")
        ours = server_flags(pair, arguments, template)
        sys.argv = ["dami serve", *ours, "--host", host, "--port", str(port), *given]
        from vllm.entrypoints.launchers.api_server.entry import main

        main()


def server_flags(pair: CheckpointPair, arguments: Mapping[str, Any], template: Path) -> list[str]:
    """Return the flags of vLLM's API server for engine arguments, and those of its clients' side.

    Args:
        pair: that is served.
        arguments: of the engine.
        template: file with the chat template of both sides.
    """
    kind = str(pair.model_config().get_text_config().model_type)
    reasoning, tools = next((each for name, each in _PARSERS.items() if kind.startswith(name)), _PARSERS["qwen2"])
    flags = [flag for name, value in arguments.items() for flag in _flag(name, value)]
    return [
        *flags,
        *("--served-model-name", pair.name),
        *("--middleware", _MIDDLEWARE),
        "--enable-scale-out",
        "--enable-prompt-tokens-details",
        *("--chat-template", str(template)),
        *("--reasoning-parser", reasoning),
        *("--enable-auto-tool-choice", "--tool-call-parser", tools),
        *("--fingerprint-mode", "custom", "--fingerprint-value", f"dami-{pair.fingerprint}-{FINGERPRINT}"),
    ]


def chat_template(pair: CheckpointPair) -> str:
    """Return one template of both sides': Thinking's where ``enable_thinking`` says so, else Instruct's."""
    return (
        "{% if enable_thinking is defined and enable_thinking %}"
        f"{pair.thinking.chat_template}"
        "{% else %}"
        f"{pair.instruct.chat_template}"
        "{% endif %}"
    )


def _flag(name: str, value: Any) -> list[str]:
    """Return one engine argument as a flag of the command line."""
    flag = "--" + name.replace("_", "-")
    if isinstance(value, bool):
        return [flag if value else "--no-" + name.replace("_", "-")]
    if isinstance(value, Mapping):
        return [flag, json.dumps(value)]
    if isinstance(value, list):
        return [flag, *map(str, value)]
    return [flag, str(value)]


def _folders(pair: CheckpointPair) -> tuple[str | None, str | None]:
    from dami_agent.types import BUILTIN

    if pair.name == BUILTIN:
        return None, None
    return str(pair.instruct.path), str(pair.thinking.path)


def _context_length(pair: CheckpointPair, arguments: Mapping[str, Any]) -> int:
    """Return how long a conversation may be, as far as it is known before vLLM has measured its memory."""
    length = int(arguments["max_model_len"])
    return (length if length > 0 else pair.context_length or 4096) - 1
