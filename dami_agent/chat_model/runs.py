"""Which run a call belongs to: the root of LangChain's run tree, and the thread.

A call's own callbacks know its parent only. LangChain lets a handler be added to every callback manager of the process
(``register_configure_hook``); ours keeps the root of each run that is open. It costs a dictionary entry per run, and
works for chains, tools, LangGraph (subgraphs and parallel branches too), sync and async.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.runnables.config import var_child_runnable_config
from langchain_core.tracers.context import register_configure_hook

from dami_agent.types import Trace

_MOST_RUNS = 100_000  # open runs; an iterator that is dropped half-way never says that its run has ended


class RunTree(BaseCallbackHandler):
    """The root of every open run; safe to use from many threads."""

    run_inline = True  # in order with the run it is about, async too
    ignore_llm = True  # a model call has no children
    ignore_chat_model = True

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._roots: OrderedDict[UUID, UUID] = OrderedDict()
        self._calls: dict[UUID, int] = {}

    def root(self, run_id: UUID, parent_run_id: UUID | None) -> UUID:
        """The topmost run above ``run_id`` that is known; a run without a parent is its own root."""
        if parent_run_id is None:
            return run_id
        with self._lock:
            return self._roots.get(parent_run_id, parent_run_id)

    def call(self, root: UUID) -> int | None:
        """Number of a model call that begins now within its run, from 1; None for a call alone."""
        with self._lock:
            if root not in self._roots:
                return None
            self._calls[root] = self._calls.get(root, 0) + 1
            return self._calls[root]

    def _begin(self, *_: Any, run_id: UUID, parent_run_id: UUID | None = None, **__: Any) -> None:
        root = self.root(run_id, parent_run_id)
        with self._lock:
            self._roots[run_id] = root
            if len(self._roots) > _MOST_RUNS:
                self._calls.pop(self._roots.popitem(last=False)[0], None)

    def _end(self, *_: Any, run_id: UUID, **__: Any) -> None:
        with self._lock:
            self._roots.pop(run_id, None)
            self._calls.pop(run_id, None)

    on_chain_start = on_tool_start = on_retriever_start = _begin
    on_chain_end = on_tool_end = on_retriever_end = _end
    on_chain_error = on_tool_error = on_retriever_error = _end


_TREE = RunTree()
_TREE_VAR: ContextVar[RunTree | None] = ContextVar("dami_agent_run_tree", default=_TREE)
register_configure_hook(_TREE_VAR, inheritable=True)


def trace_of(manager: Any = None, *, calling: bool = False) -> Trace:
    """Where in a run a call happens, as LangChain's callbacks and LangGraph's metadata tell it.

    The step is LangGraph's in a graph, elsewhere the number of the call in its run. The thread is
    ``configurable["thread_id"]`` of a chain or graph around the model, or ``metadata["thread_id"]``.

    Args:
        manager: the call's callbacks. LangChain passes none where ``invoke`` streams for a listener (LangGraph's
            ``stream_mode="messages"``); then the run around the call tells all but the call's own run id and tags.
        calling: a model call begins here, and is counted.
    """
    config = var_child_runnable_config.get() or {}
    around = config.get("callbacks")
    run: UUID | None = None
    if manager is not None:
        run, parent, tags, metadata = manager.run_id, manager.parent_run_id, manager.tags, dict(manager.metadata or {})
    elif isinstance(around, BaseCallbackManager) and around.parent_run_id is not None:
        parent, tags = around.parent_run_id, around.inheritable_tags
        metadata = {**config.get("metadata", {}), **around.inheritable_metadata}
    else:
        return Trace()
    root = _TREE.root(run or parent, parent)
    step = metadata.get("langgraph_step")
    if step is None and calling:
        step = _TREE.call(root)
    thread = metadata.get("thread_id", config.get("configurable", {}).get("thread_id"))
    return Trace(
        run_id=str(run) if run else None,
        parent_run_id=str(parent) if parent else None,
        root_run_id=str(root),
        thread_id=str(thread) if thread is not None else None,
        node=metadata.get("langgraph_node"),
        step=step if isinstance(step, int) else None,
        tags=tuple(tags or ()),
        metadata=metadata,
    )
