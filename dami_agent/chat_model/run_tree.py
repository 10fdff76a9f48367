"""Which run a call belongs to: the root of LangChain's run tree, and the thread.

A call's own callbacks know its parent only. LangChain lets a handler be added to every callback manager of the process
(``register_configure_hook``); ours keeps the root of each run that is open. It costs a dictionary entry per run, and
works for chains, tools, LangGraph (subgraphs and parallel branches too), sync and async.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.runnables.config import RunnableConfig, ensure_config, var_child_runnable_config
from langchain_core.tracers.context import register_configure_hook
from langchain_core.utils.uuid import uuid7

from dami_agent.types import RunContext

T = TypeVar("T")
_MOST_RUNS = 100_000  # open runs; an iterator that is dropped half-way never says that its run has ended


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedCall:
    """What LangChain told its callbacks when a model call began."""

    run_id: UUID
    parent_run_id: UUID | None = None
    tags: Sequence[str] = ()
    metadata: Mapping[str, Any]
    name: str | None = None


class RunTree(BaseCallbackHandler):
    """The root of every open run, and every open model call; safe to use from many threads."""

    run_inline = True  # in order with the run it is about, async too

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._roots: OrderedDict[UUID, UUID] = OrderedDict()
        self._calls: dict[UUID, int] = {}
        self._started: OrderedDict[UUID, StartedCall] = OrderedDict()
        self._threads: OrderedDict[UUID, Any] = OrderedDict()
        self._names: OrderedDict[UUID, str] = OrderedDict()  # of root runs

    def announce(self, run_id: UUID, thread_id: Any) -> None:
        """Note the thread of a model call that is about to begin."""
        if thread_id is not None:
            with self._lock:
                _put(self._threads, run_id, thread_id)

    def thread(self, run_id: UUID | None) -> Any:
        """Return what was announced of an open model call."""
        with self._lock:
            return self._threads.get(run_id) if run_id is not None else None

    def started(self, run_id: UUID | None) -> StartedCall | None:
        """Return the open model call of that run id, if there is one."""
        with self._lock:
            return self._started.get(run_id) if run_id is not None else None

    def sizes(self) -> dict[str, int]:
        """Count the entries kept of open calls and runs; all are 0 when nothing runs."""
        kept = {"calls": self._started, "threads": self._threads, "runs": self._roots, "names": self._names}
        with self._lock:
            return {name: len(entries) for name, entries in {**kept, "numbers": self._calls}.items()}

    def on_chat_model_start(
        self,
        *_: Any,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        name: str | None = None,
        **__: Any,
    ) -> None:
        """Remember a call until it ends: LangChain passes its callbacks to some calls and not to others.

        Args:
            run_id, parent_run_id: of the call, as LangChain gives them.
            tags, metadata: of the call.
            name: its ``run_name``, if it has one.
        """
        call = StartedCall(
            run_id=run_id, parent_run_id=parent_run_id, tags=tags or (), metadata=metadata or {}, name=name
        )
        with self._lock:
            _put(self._started, run_id, call)

    def _end_call(self, *_: Any, run_id: UUID, **__: Any) -> None:
        with self._lock:
            self._started.pop(run_id, None)
            self._threads.pop(run_id, None)

    on_llm_end = on_llm_error = _end_call

    def root(self, run_id: UUID, parent_run_id: UUID | None) -> UUID:
        """Return the topmost run above ``run_id`` that is known; a run without a parent is its own root."""
        if parent_run_id is None:
            return run_id
        with self._lock:
            return self._roots.get(parent_run_id, parent_run_id)

    def names(self, run_id: UUID | None, root: UUID) -> tuple[str | None, str | None]:
        """Return the names of a model call (its ``run_name``, if it has one) and of the run at its root."""
        call = self.started(run_id)
        own = call.name if call is not None else None
        with self._lock:
            return own, self._names.get(root, own if root == run_id else None)

    def call(self, root: UUID) -> int | None:
        """Return the number of a model call that begins now within its run, from 1; None for a call alone."""
        with self._lock:
            if root not in self._roots:
                return None
            self._calls[root] = self._calls.get(root, 0) + 1
            return self._calls[root]

    def _begin(
        self, *_: Any, run_id: UUID, parent_run_id: UUID | None = None, name: str | None = None, **__: Any
    ) -> None:
        root = self.root(run_id, parent_run_id)
        with self._lock:
            if root == run_id and name is not None:
                _put(self._names, run_id, name)
            self._roots[run_id] = root
            if len(self._roots) > _MOST_RUNS:
                self._calls.pop(self._roots.popitem(last=False)[0], None)

    def _end(self, *_: Any, run_id: UUID, **__: Any) -> None:
        with self._lock:
            self._roots.pop(run_id, None)
            self._calls.pop(run_id, None)
            self._names.pop(run_id, None)

    on_chain_start = on_tool_start = on_retriever_start = _begin
    on_chain_end = on_tool_end = on_retriever_end = _end
    on_chain_error = on_tool_error = on_retriever_error = _end


def _put(runs: OrderedDict[UUID, T], run_id: UUID, value: T) -> None:
    runs[run_id] = value
    if len(runs) > _MOST_RUNS:
        runs.popitem(last=False)


TREE = RunTree()
_TREE_VAR: ContextVar[RunTree | None] = ContextVar("dami_agent_run_tree", default=TREE)
register_configure_hook(_TREE_VAR, inheritable=True)


_CURRENT_CALL: ContextVar[UUID | None] = ContextVar("dami_agent_current_call", default=None)


@contextmanager
def current_call(run_id: UUID | None) -> Iterator[None]:
    """Name the model call that begins inside, for a ``_stream`` that LangChain calls without callbacks."""
    before = _CURRENT_CALL.get()
    _CURRENT_CALL.set(run_id)
    try:
        yield
    finally:
        _CURRENT_CALL.set(before)  # not reset(): a cancelled async stream may be left in another context


def announce(config: RunnableConfig | None) -> tuple[RunnableConfig, UUID]:
    """Give a call that is about to begin its run id, and note its config's ``thread_id`` for :func:`run_context_of`.

    LangChain shows a chat model the tags and metadata of its config, but not what is in ``configurable``.
    """
    config = ensure_config(config)
    run_id = config.get("run_id") or uuid7()
    TREE.announce(run_id, (config.get("configurable") or {}).get("thread_id"))
    return {**config, "run_id": run_id}, run_id


def run_context_of(manager: Any = None, *, calling: bool = False) -> RunContext:
    """Read where in a run a call happens, from LangChain's callbacks and LangGraph's metadata.

    The step is LangGraph's in a graph, elsewhere the number of the call in its run. The thread is
    ``metadata["thread_id"]``, else ``configurable["thread_id"]`` of the call or of the chain or graph around it.

    Args:
        manager: the call's callbacks. LangChain passes none where it streams; then the call named by
            :func:`current_call` counts, and without one what the run around it says.
        calling: a model call begins here, and is counted.
    """
    config = var_child_runnable_config.get() or {}
    around = config.get("callbacks")
    call = manager if manager is not None or not calling else TREE.started(_CURRENT_CALL.get())
    run: UUID | None = None
    parent: UUID | None
    if call is not None:
        run, parent, tags, metadata = call.run_id, call.parent_run_id, call.tags, dict(call.metadata or {})
        root = TREE.root(call.run_id, parent)
    elif isinstance(around, BaseCallbackManager) and around.parent_run_id is not None:
        parent, tags = around.parent_run_id, around.inheritable_tags
        metadata = {**config.get("metadata", {}), **around.inheritable_metadata}
        root = TREE.root(around.parent_run_id, parent)
    else:
        return RunContext()
    step = metadata.get("langgraph_step")
    if step is None and calling:
        step = TREE.call(root)
    threads = metadata.get("thread_id"), TREE.thread(run), config.get("configurable", {}).get("thread_id")
    thread = next((each for each in threads if each is not None), None)
    name, root_name = TREE.names(run, root)
    return RunContext(
        run_id=str(run) if run else None,
        parent_run_id=str(parent) if parent else None,
        root_run_id=str(root),
        thread_id=str(thread) if thread is not None else None,
        node=metadata.get("langgraph_node"),
        step=step if isinstance(step, int) else None,
        tags=tuple(tags or ()),
        metadata=metadata,
        run_name=name,
        root_run_name=root_name,
    )
