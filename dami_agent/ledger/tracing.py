"""Collect what the calls inside a ``with`` block did and cost, whether or not a ledger keeps them."""

from __future__ import annotations

import itertools
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from dami_agent.ledger.row import CallRow
from dami_agent.ledger.summary import by_called_tool, by_node, by_tool, totals

_open: ContextVar[tuple[RunTrace, ...]] = ContextVar("dami_traces", default=())


class RunTrace:
    """Collects the calls that end inside the block; use :func:`trace`. Grows while it runs and stays readable after.

    It sees calls of its own context only: those of this thread or task, of asyncio tasks started inside, and of the
    threads that LangChain starts, which inherit the context; a bare ``threading.Thread`` does so from Python 3.14 on,
    before that with ``contextvars.copy_context().run``. Traces may be nested; each sees all calls inside itself.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._rows: list[CallRow] = []
        self._ids = itertools.count(1)  # no lock, which a forked process could inherit locked for ever
        self._depth = 0

    def __enter__(self) -> RunTrace:
        self._depth += 1
        _open.set((*_open.get(), self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._depth -= 1
        kept = list(_open.get())
        if self in kept:  # not if the block is left in another context than it was entered in
            kept.reverse()
            kept.remove(self)
            kept.reverse()
        _open.set(tuple(kept))

    def add(self, values: dict[str, Any]) -> None:
        """Add a call that has ended; ``values`` are its columns. Nothing is added once the block is left."""
        if self._depth > 0:
            self._rows.append(CallRow.read({"id": next(self._ids), **values}))

    @property
    def steps(self) -> tuple[CallRow, ...]:
        """List one row per attempt at a call, failed ones too, in the order they ended; ``id`` counts from 1."""
        return tuple(sorted(self._rows, key=lambda row: row.id))

    @property
    def totals(self) -> dict[str, Any]:
        """Add up calls, tokens, seconds and cost (by currency)."""
        return totals(self.steps)

    def by_tool(self) -> dict[str, dict[str, Any]]:
        """Add up by the tool whose result was read and whose reasoning budget paid, or ``answer``; they add up."""
        return by_tool(self.steps)

    def by_called_tool(self) -> dict[str, dict[str, Any]]:
        """Add up by the tool that a step ended up calling, or ``answer``; one that called several is under each."""
        return by_called_tool(self.steps)

    def by_node(self) -> dict[str, dict[str, Any]]:
        """Add up by LangGraph node, ``""`` for calls outside a graph; they add up to :attr:`totals`."""
        return by_node(self.steps)

    def to_pandas(self) -> Any:
        """Build a ``pandas.DataFrame`` with a row per step and the ledger's columns.

        Raises:
            ImportError: if pandas is not installed.
        """
        try:
            import pandas as pd  # type: ignore[import-untyped,import-not-found,unused-ignore]
        except ModuleNotFoundError as error:
            raise ImportError(f'{error}; pip install "dami-agent[report]"') from error

        return pd.DataFrame([row.to_dict() for row in self.steps], columns=list(CallRow.__dataclass_fields__))

    def __len__(self) -> int:
        return len(self._rows)

    def __bool__(self) -> bool:
        return True  # an empty trace is still a trace

    def __repr__(self) -> str:
        sums = self.totals
        name = f"{self.name!r}, " if self.name else ""
        return f"RunTrace({name}{sums['calls']} calls, {sums['output_tokens']} output tokens, {sums['seconds']:.2f} s)"

    def _repr_html_(self) -> str:
        """Draw a table and a plot, for notebooks; all text escaped."""
        from dami_agent.ledger.notebook import html

        return html(self.name, self.steps)


def trace(name: str = "") -> RunTrace:
    """Watch the calls of a block.

    ::

        with dami_agent.trace("nightly") as t:
            agent.invoke(...)
        t.steps, t.totals, t.by_tool(), t.by_called_tool(), t.by_node(), t.to_pandas()

    The name stands in the ledger beside each of the calls, in the column ``trace_names``.
    """
    return RunTrace(name)


def listening() -> tuple[RunTrace, ...]:
    """Return the traces that are open in this context."""
    return _open.get()
