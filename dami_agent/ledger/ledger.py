"""The ledger: one committed row per attempt at a call, and questions to it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import URL, ColumnElement, Select, Text, cast, func, or_, select, true
from sqlalchemy.exc import SQLAlchemyError

from dami_agent.errors import LedgerError
from dami_agent.ledger import tracing
from dami_agent.ledger.location import prices_file, resolve, text_wanted
from dami_agent.ledger.prices import Prices
from dami_agent.ledger.row import Row
from dami_agent.ledger.schema import calls
from dami_agent.ledger.store import Store
from dami_agent.ledger.text import Redact, Redaction
from dami_agent.ledger.timing import write_cost
from dami_agent.ledger.values import values_of
from dami_agent.ledger.verify import Verification, verify
from dami_agent.types import CallRecord


class Ledger:
    """Every call on record. Nothing touches the disk before the first ``record``; for threads, processes, forks.

    SQLite runs in WAL mode with ``synchronous=NORMAL``: a killed process loses no committed row; a power cut may lose
    the last ones, and corrupts nothing. Rows that cannot be written wait in memory (the newest ``backlog`` of them) and
    are written with a later call or at exit; that is logged as a warning once per outage, not raised.

    Args:
        url: of the database; None keeps nothing. :meth:`open` takes paths and knows the default.
        backlog: how many unwritten rows are kept.
        keep_text: keep prompts, thoughts and answers too; off unless asked for.
        redact: shown every text that is kept (metadata and errors as well); what it returns is kept instead.
        prices: for the money column; without them it stays empty.

    Raises:
        LedgerError: if the URL's database driver is not installed.
    """

    def __init__(
        self,
        url: URL | None,
        *,
        backlog: int = 10_000,
        keep_text: bool = False,
        redact: Redact | None = None,
        prices: Prices | None = None,
    ) -> None:
        self.url = url
        self.keep_text = keep_text
        self.prices = prices
        self._arguments = (url, backlog, keep_text, redact, prices)
        self._redaction = Redaction(redact)
        self._store = None if url is None else Store(url, backlog)
        if self._store is not None:
            weakref.finalize(self, self._store.close)  # also at exit

    @classmethod
    def open(
        cls,
        location: str | Path | None = None,
        *,
        keep_text: bool | None = None,
        redact: Redact | None = None,
        prices: Prices | str | Path | None = None,
    ) -> Ledger:
        """A ledger as the user set it up.

        Args:
            location: path or SQLAlchemy URL; None is :func:`default_location`, ``"off"`` keeps nothing.
            keep_text: None is what ``DAMI_LEDGER_TEXT`` says (``1`` or ``0``), else False.
            redact: see :class:`Ledger`.
            prices: a table or its JSON file; None is the file that ``DAMI_LEDGER_PRICES`` names, else no prices.

        Raises:
            LedgerError: if the location is no usable path or URL, or the prices do not validate.
        """
        prices = prices_file() if prices is None else prices
        return cls(
            resolve(location),
            keep_text=text_wanted() if keep_text is None else keep_text,
            redact=redact,
            prices=Prices.from_file(prices) if isinstance(prices, (str, Path)) else prices,
        )

    @classmethod
    def disabled(cls) -> Ledger:
        """A ledger that keeps nothing and has no rows."""
        return cls(None)

    def __deepcopy__(self, memo: object) -> Ledger:
        """Share the ledger: a copied chat model or pipeline writes to the same one."""
        return self

    def __reduce__(self) -> tuple[Callable[..., Ledger], tuple[Any, ...]]:
        """Pickle the arguments: another process has its own connections to the same database."""
        return _reopened, self._arguments

    def __repr__(self) -> str:
        return f"Ledger({'off' if self.url is None else str(self.url)!r})"

    @property
    def waiting(self) -> int:
        """Rows that could not be written yet."""
        return 0 if self._store is None else self._store.waiting

    def record(self, record: CallRecord) -> None:
        """Keep one attempt; committed when this returns, if it can be at all. A broken ledger raises nothing.

        Open traces see it too, of a ledger that is off as well.
        """
        listening = tracing.listening()
        if self._store is None and not listening:
            return
        values = values_of(record, prices=self.prices, keep_text=self.keep_text, redact=self._redaction)
        if self._store is not None:
            self._store.add(values)
        for trace in listening:
            trace.add(values)

    def flush(self) -> bool:
        """Write what waits, now; whether nothing waits afterwards."""
        return self._store is None or self._store.flush()

    def close(self) -> None:
        """Write what waits and let go of the file; idempotent, and the ledger may be used again afterwards."""
        if self._store is not None:
            self._store.close()

    def verify(self) -> Verification:
        """Check file, schema, every row and the sums; what is wrong is in the result, not raised."""
        return Verification(rows=0, schema=0, problems=()) if self._store is None else verify(self._store)

    def write_cost(self, rows: int = 500) -> dict[str, float]:
        """What :meth:`record` costs: ``median``, ``p95`` and ``p99`` in µs over ``rows`` calls, and ``rows``.

        Written to a file of its own beside this one's, on the same disk, and deleted; in memory where this is no file.
        """
        return write_cost(self._store, rows)

    def rows(
        self,
        *,
        run: str | None = None,
        call: str | None = None,
        thread: str | None = None,
        tool: str | None = None,
        node: str | None = None,
        since: datetime | None = None,
        after: int | None = None,
        containing: str | None = None,
        limit: int | None = None,
    ) -> list[Row]:
        """Rows that match all filters, oldest first; ``limit`` keeps the newest. A ledger never written to has none.

        Args:
            run: id of the call's run, its parent's or the root's, or how it begins.
            call: call id, or how it begins; gives all its attempts.
            thread: LangGraph thread id.
            tool: name of a tool whose result the call digested, or that it called.
            node: LangGraph node.
            since: rows started at or after it; a naive datetime is local time.
            after: rows with a greater ``id``: what was written since that row.
            containing: text that stands somewhere on record, in any case.
            limit: at most so many.

        Raises:
            LedgerError: if the ledger cannot be read.
        """
        if self._store is None or (limit is not None and limit <= 0) or not self._store.exists():
            return []
        query = select(calls).order_by(calls.c.started_at.desc(), calls.c.id.desc())
        if run is not None:
            places = (calls.c.run_id, calls.c.parent_run_id, calls.c.root_run_id)
            query = query.where(or_(*(_begins(c, run) for c in places)))
        if call is not None:
            query = query.where(_begins(calls.c.call_id, call))
        for column, value in ((calls.c.thread_id, thread), (calls.c.node, node)):
            if value is not None:
                query = query.where(column == value)
        if after is not None:
            query = query.where(calls.c.id > after)
        if since is not None:
            query = query.where(calls.c.started_at >= since.timestamp())
        if tool is not None:
            query = query.where(_may_name(tool))
        try:
            return list(_read(self._store, query, _keeper(tool, containing), limit))[::-1]
        except (SQLAlchemyError, OSError) as e:
            why = str(e).splitlines()[0]
            raise LedgerError(
                f"cannot read the ledger at {self.url}: {why}", hint="is that file a ledger of dami-agent?"
            ) from e


def _begins(column: ColumnElement[Any], text: str) -> ColumnElement[bool]:
    return func.substr(column, 1, len(text)) == text  # not LIKE: SQLite's knows no case


def _may_name(tool: str) -> ColumnElement[bool]:
    """Rows whose lists of tools could hold the name; :func:`_keeper` looks at the names themselves."""
    if not (tool.isascii() and tool.isidentifier()):
        return true()  # JSON may write it with escapes
    lists = (calls.c.tools_called, calls.c.tools_digested)
    return or_(*(cast(c, Text).contains(f'"{tool}"', autoescape=True) for c in lists))


def _keeper(tool: str | None, containing: str | None) -> Callable[[Row], bool] | None:
    """What SQL cannot ask of every database: names in JSON lists, and text whatever its case and script."""
    if tool is None and containing is None:
        return None
    wanted = (containing or "").casefold()

    def keep(row: Row) -> bool:
        named = tool is None or tool in (*row.tools_called, *row.tools_digested)
        return named and (not wanted or any(wanted in str(value).casefold() for value in row.to_dict().values()))

    return keep


def _read(store: Store, query: Select[Any], keep: Callable[[Row], bool] | None, limit: int | None) -> Iterator[Row]:
    if keep is None and limit is not None:
        query = query.limit(limit)
    count = 0
    query = query.execution_options(yield_per=500)
    with store.reading() as connection, connection.execute(query) as result:  # a server's cursor is closed at the limit
        for values in result.mappings():
            row = Row.read(dict(values))
            if keep is not None and not keep(row):
                continue
            yield row
            count += 1
            if count == limit:
                return


def _reopened(url: URL | None, backlog: int, keep_text: bool, redact: Redact | None, prices: Prices | None) -> Ledger:
    return Ledger(url, backlog=backlog, keep_text=keep_text, redact=redact, prices=prices)
