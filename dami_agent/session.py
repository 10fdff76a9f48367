"""Open checkpoint pairs once per process, and share each (engine, dialogue, frontier) among all who name it.

LangChain builds chat models freely (``configurable_fields`` builds one per call); weights must not be loaded each time.
"""

from __future__ import annotations

import importlib
import inspect
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dami_agent.errors import DamiError, InvalidRequest
from dami_agent.estimators.head_files import offer_heads
from dami_agent.frontiers import find_frontier
from dami_agent.plugins import Plugin, find_plugin, plugin_names, unknown_name
from dami_agent.policy import Frontier
from dami_agent.types import Engine, EngineFactory

if TYPE_CHECKING:
    from dami_agent.checkpoints import CheckpointPair
    from dami_agent.dialogue import Dialogue


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionKey:
    """The settings that distinguish one opened pair from another."""

    engine: str = "local"
    instruct: str | None = None
    thinking: str | None = None
    revision: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    weights_mode: str = "auto"
    context_length: int | None = None
    max_batch_size: int | None = None
    keep_reasoning: str = "template"
    closing_words: str | None = None
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One opened pair: the engine that generates, the dialogue that renders and parses, the measured frontier.

    Attributes:
        max_tokens: the pair's own default cap of a reply, from its generation config; None where it states none.
    """

    engine: Engine
    dialogue: Dialogue
    frontier: Frontier
    max_tokens: int | None = None


# By name, for the second stands above this module, as any distribution's engine does.
_BUILT_IN = {"local": "dami_agent.runtime:LocalEngine", "vllm": "dami_agent.integrations.vllm:VllmEngine"}

_open: dict[SessionKey, Session] = {}
_lock = threading.Lock()
_read: dict[tuple[str | None, ...], tuple[CheckpointPair, Dialogue]] = {}
_read_lock = threading.Lock()  # not the other: an engine may take minutes to open, and tokens can be counted meanwhile


def _forget() -> None:
    """Forget all sessions in a forked child: the parent's engines have no thread there, and its lock may be held."""
    global _lock, _read_lock
    _lock, _read_lock = threading.Lock(), threading.Lock()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def open_session(key: SessionKey) -> Session:
    """Return the session of ``key``, opened on first use; weights are read later, at the first token.

    A session whose engine was closed, or broke, is opened anew.

    Raises:
        CheckpointError: the pair cannot be used.
        InvalidRequest: no engine of that name is installed, or the distribution that publishes it is broken.
    """
    with _lock:
        if key not in _open or getattr(_open[key].engine, "closed", False):  # not every engine can tell
            _open[key] = _build(key)
        return _open[key]


def close_session(key: SessionKey) -> None:
    """Close the session's engine and free its memory; the next use opens it again."""
    with _lock:
        session = _open.pop(key, None)
    with _read_lock:
        _read.pop(_files(key), None)
    if session is not None:
        session.engine.close()


def dialogue_of(key: SessionKey) -> Dialogue:
    """Return the pair's tokenizer and templates without opening an engine.

    Raises:
        CheckpointError: the pair cannot be used.
    """
    return _read_pair(key)[1] if key.base_url is None else open_session(key).dialogue


def _files(key: SessionKey) -> tuple[str | None, ...]:
    return key.instruct, key.thinking, key.revision, key.keep_reasoning


def _read_pair(key: SessionKey) -> tuple[CheckpointPair, Dialogue]:
    """Read the pair and its dialogue once per process."""
    with _read_lock:
        if _files(key) not in _read:
            _read[_files(key)] = _open_pair(key)
        return _read[_files(key)]


def _open_pair(key: SessionKey) -> tuple[CheckpointPair, Dialogue]:
    from dami_agent.checkpoints import CheckpointPair
    from dami_agent.dialogue import Dialogue

    pair = CheckpointPair.named(key.instruct, key.thinking, revision=key.revision)
    templates = {"instruct": pair.instruct.chat_template, "thinking": pair.thinking.chat_template}
    missing = [name for name, template in templates.items() if not template]
    if missing:
        raise InvalidRequest(
            f"the {' and '.join(missing)} checkpoint has no chat template",
            hint="use a chat checkpoint, or put its chat_template.jinja into the folder",
        )
    return pair, Dialogue(pair.instruct.tokenizer(), templates=templates, keep_reasoning=key.keep_reasoning)  # type: ignore[arg-type]


def _build(key: SessionKey) -> Session:
    if key.base_url is not None:
        return _connect(key)
    pair, dialogue = _read_pair(key)
    options: dict[str, Any] = {"device": key.device, "dtype": key.dtype, "mode": key.weights_mode}
    options["context_length"] = key.context_length
    if key.max_batch_size is not None:
        options["max_batch_size"] = key.max_batch_size
    if key.closing_words is not None:
        options["closing_words"] = key.closing_words
    if pair.heads_path is not None:
        offer_heads(pair.fingerprint, pair.heads_path)
    return Session(
        engine=_open_engine(key.engine, pair, options),
        dialogue=dialogue,
        frontier=find_frontier(pair),
        max_tokens=pair.thinking.generation_config.get("max_new_tokens"),
    )


def _connect(key: SessionKey) -> Session:
    """Open a session whose engine is a server; tokenizer, templates and frontier are the server's."""
    from dami_agent.dialogue import Dialogue

    connect = importlib.import_module("dami_agent.integrations.vllm.remote_engine").RemoteVllmEngine.connect
    engine, served = connect(key.base_url, api_key=key.api_key, closing_words=key.closing_words)
    said = served.description
    return Session(
        engine=engine,
        dialogue=Dialogue(served.tokenizer(), templates=said.templates, keep_reasoning=key.keep_reasoning),  # type: ignore[arg-type]
        frontier=said.read_frontier(),
        max_tokens=said.generation["thinking"].get("max_new_tokens"),
    )


def _open_engine(name: str, pair: CheckpointPair, options: dict[str, Any]) -> Engine:
    """Open the built-in engine, or that of the distribution that publishes ``name`` (:mod:`dami_agent.plugins`)."""
    plugin = find_plugin("engine", name, built_in=_BUILT_IN)
    if plugin is not None:
        return _open_published(plugin, pair, options)
    if name not in _BUILT_IN:
        raise unknown_name(
            "engine",
            name,
            {*_BUILT_IN, *plugin_names("engine")},
            hint="; a distribution adds others by an entry point of the group dami_agent.engines",
        )
    module, _, factory_name = _BUILT_IN[name].partition(":")
    factory: EngineFactory = getattr(importlib.import_module(module), factory_name)  # imports torch
    return factory.open(pair, **options)


def _open_published(plugin: Plugin, pair: CheckpointPair, options: dict[str, Any]) -> Engine:
    factory: EngineFactory = plugin.load()
    if not callable(getattr(factory, "open", None)):
        raise plugin.refuse("has no open()", hint="the entry point names a dami_agent.types.EngineFactory: a class")
    try:
        inspect.signature(factory.open).bind(pair, **options)
    except ValueError:  # written in C: there is no signature to check
        pass
    except TypeError as error:
        raise plugin.refuse(
            f"cannot be opened with these settings: {error}", hint=f"it was given {', '.join(options)}"
        ) from error
    try:
        engine = factory.open(pair, **options)
    except DamiError:
        raise
    except Exception as error:
        raise plugin.refuse(f"cannot be opened: {type(error).__name__}: {error}", hint="tell its authors") from error
    if not isinstance(engine, Engine):
        raise plugin.refuse(
            f"opened an object of type {type(engine).__name__}",
            hint="open() returns a dami_agent.types.Engine; see engine_contract",
        )
    return engine
