"""What the calls inside a ``with`` block did and cost, whether or not a ledger keeps them."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from dami_agent.ledger.row import Row
from dami_agent.ledger.summary import by_tool, totals

_open: ContextVar[tuple[RunTrace, ...]] = ContextVar("dami_traces", default=())


class RunTrace:
    """The calls that ended inside the block; use :func:`trace`. Grows while the block runs and stays readable after.

    It sees calls of its own context only: those of this thread or task, of asyncio tasks started inside, and of the
    threads that LangChain starts, which inherit the context; a bare ``threading.Thread`` does so from Python 3.14 on,
    before that with ``contextvars.copy_context().run``. Traces may be nested; each sees all calls inside itself.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._rows: list[Row] = []
        self._lock = threading.Lock()
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
        """A call has ended; ``values`` are its columns. Nothing is added once the block is left."""
        with self._lock:
            if self._depth > 0:
                self._rows.append(Row.read({"id": len(self._rows) + 1, **values}))

    @property
    def steps(self) -> tuple[Row, ...]:
        """One row per attempt at a call, failed ones too, in the order they ended; ``id`` counts from 1."""
        with self._lock:
            return tuple(self._rows)

    @property
    def totals(self) -> dict[str, Any]:
        """Calls, tokens, seconds and money (by currency), added up."""
        return totals(self.steps)

    def by_tool(self) -> dict[str, dict[str, Any]]:
        """Totals by the tool whose reasoning budget paid, or ``answer``; they add up to :attr:`totals`."""
        return by_tool(self.steps)

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame`` with a row per step and the ledger's columns.

        Raises:
            ImportError: if pandas is not installed.
        """
        try:
            import pandas as pd  # type: ignore[import-untyped,import-not-found,unused-ignore]
        except ModuleNotFoundError as error:
            raise ImportError(f'{error}; pip install "dami-agent[report]"') from error

        return pd.DataFrame([row.to_dict() for row in self.steps], columns=list(Row.__dataclass_fields__))

    def __len__(self) -> int:
        return len(self._rows)

    def __bool__(self) -> bool:
        return True  # an empty trace is still a trace

    def __repr__(self) -> str:
        sums = self.totals
        name = f"{self.name!r}, " if self.name else ""
        return f"RunTrace({name}{sums['calls']} calls, {sums['output_tokens']} output tokens, {sums['seconds']:.2f} s)"

    def _repr_html_(self) -> str:
        """A table and a plot, for notebooks; all text escaped."""
        from dami_agent.ledger.notebook import html

        return html(self.name, self.steps)


def trace(name: str = "") -> RunTrace:
    """Watch the calls of a block::

    with dami_agent.trace("nightly") as t:
        agent.invoke(...)
    t.steps, t.totals, t.by_tool(), t.to_pandas()
    """
    return RunTrace(name)


def listening() -> tuple[RunTrace, ...]:
    """The traces that are open in this context."""
    return _open.get()
