"""Keep one committed row per attempt at a call, and answer questions about them."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL

from dami_agent.errors import LedgerError
from dami_agent.ledger import tracing
from dami_agent.ledger.call_text import Redact, Redaction
from dami_agent.ledger.columns import values_of
from dami_agent.ledger.database import first_line
from dami_agent.ledger.location import prices_file, resolve, text_wanted
from dami_agent.ledger.price_table import Prices
from dami_agent.ledger.query import CallRows, Filter, find
from dami_agent.ledger.store import Store
from dami_agent.ledger.verify import Verification, verify
from dami_agent.ledger.write_latency import write_cost
from dami_agent.types import CallRecord

log = logging.getLogger("dami_agent.ledger")
T = TypeVar("T")


class Ledger:
    """Keeps every call on record; touches no disk before the first ``record``; safe for threads, processes and forks.

    SQLite runs in WAL mode with ``synchronous=NORMAL``: a killed process loses no committed row; a power cut may lose
    the last ones, and corrupts nothing. Rows that cannot be written wait in memory (the newest ``backlog`` of them) and
    are written with a later call or at exit; that is logged as a warning once per outage, not raised.

    Args:
        url: of the database; None keeps nothing. :meth:`open` takes paths and knows the default.
        backlog: how many unwritten rows are kept.
        keep_text: keep prompts, thoughts and answers too; off unless asked for.
        redact: shown every text that is kept (tags, metadata, reasons and errors as well; not the ids of calls and runs
            nor the names of tools, nodes, models and rules); what it returns is kept instead.
        prices: price table that fills the ``cost`` column; without one it stays empty.

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
        self.store = None if url is None else Store(url, backlog)
        if self.store is not None:
            weakref.finalize(self, self.store.close)  # also at exit

    @classmethod
    def open(
        cls,
        location: str | Path | None = None,
        *,
        keep_text: bool | None = None,
        redact: Redact | None = None,
        prices: Prices | str | Path | None = None,
    ) -> Ledger:
        """Open a ledger as the user set it up.

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
    def from_environment(cls) -> Ledger:
        """Open the ledger that the environment asks for, for a chat model that was given none.

        An environment that asks for what cannot be costs no answer: the ledger is then off, keeps no text or knows no
        prices, and a warning says why.
        """
        keep_text = _usable(text_wanted, False)
        prices = _usable(_prices_of_the_environment, Prices())
        return _usable(lambda: cls.open(keep_text=keep_text, prices=prices), cls.disabled())

    @classmethod
    def of(cls, ledger: Ledger | str | Path | None) -> Ledger:
        """Find a chat model's ledger: ``ledger`` itself, the one at that place, or what the environment asks for.

        Raises:
            LedgerError: if the place is no usable path or URL.
        """
        if isinstance(ledger, Ledger):
            return ledger
        return cls.from_environment() if ledger is None else cls.open(ledger)

    @classmethod
    def disabled(cls) -> Ledger:
        """Make a ledger that keeps nothing and has no rows."""
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
        """Count the rows that could not be written yet."""
        return 0 if self.store is None else self.store.waiting

    def record(self, record: CallRecord) -> None:
        """Keep one attempt; committed when this returns, if it can be at all. Raises nothing, whatever is in it.

        Open traces see it too, of a ledger that is off as well.
        """
        try:
            self._record(record)
        except Exception as e:  # nothing of a ledger may reach an answer
            log.warning("a call could not be recorded and is lost: %s", first_line(e))

    def _record(self, record: CallRecord) -> None:
        listening = tracing.listening()
        if self.store is None and not listening:
            return
        values = values_of(
            record,
            prices=self.prices,
            keep_text=self.keep_text,
            redact=self._redaction,
            trace_names=tuple(trace.name for trace in listening if trace.name),
        )
        if self.store is not None:
            self.store.add(values)
        for trace in listening:
            trace.add(values)

    def flush(self) -> bool:
        """Write what waits, now; return whether nothing waits afterwards."""
        return self.store is None or self.store.flush()

    def forget_waiting(self) -> None:
        """Give up rows that could not be written, so that closing neither tries them again nor warns of them."""
        if self.store is not None:
            self.store.forget_waiting()

    def close(self) -> None:
        """Write what waits and let go of the file; idempotent, and the ledger may be used again afterwards."""
        if self.store is not None:
            self.store.close()

    def verify(self) -> Verification:
        """Check file, schema, every row and the sums; what is wrong is in the result, not raised."""
        return Verification(rows=0, schema=0, problems=()) if self.store is None else verify(self.store)

    def write_cost(self, rows: int = 500) -> dict[str, float]:
        """Measure what :meth:`record` costs: ``median``, ``p95``, ``p99`` in µs over ``rows`` calls, and ``rows``.

        Written to a file of its own beside this one's, on the same disk, and deleted; in memory where this is no file.
        """
        return write_cost(self.store, rows)

    def exists(self) -> bool:
        """Tell whether there is a ledger to read: False if it is off, or its file was never made."""
        return self.store is not None and self.store.exists()

    def rows(
        self,
        *,
        run: str | None = None,
        call: str | None = None,
        thread: str | None = None,
        tool: str | None = None,
        node: str | None = None,
        name: str | None = None,
        tag: str | None = None,
        user: str | None = None,
        since: datetime | None = None,
        after: int | None = None,
        containing: str | None = None,
        limit: int | None = None,
    ) -> CallRows:
        """Find rows that match all filters, oldest first; ``limit`` keeps the newest. An empty ledger has none.

        Rows with a damaged cell are left out and counted in ``skipped``; :meth:`verify` names them.

        Args:
            run: id of the call's run, its parent's or the root's, or how it begins.
            call: call id, or how it begins; gives all its attempts.
            thread: LangGraph thread id.
            tool: name of a tool whose result the call digested, or that it called.
            node: LangGraph node.
            name: of a trace around the call, of its run, or of the run at the root.
            tag: a LangChain tag of the call.
            user: who asked, see :attr:`Row.user`.
            since: rows started at or after it; a naive datetime is local time.
            after: rows with a greater ``id``: what was written since that row.
            containing: text that stands somewhere on record, in any case.
            limit: at most so many.

        Raises:
            LedgerError: if the ledger cannot be read.
        """
        if not self.exists() or (limit is not None and limit <= 0):
            return CallRows()
        assert self.store is not None
        wanted = Filter(
            run=run, call=call, thread=thread, tool=tool, node=node, name=name, tag=tag, user=user,
            since=since, after=after, containing=containing,
        )  # fmt: skip
        try:
            return find(self.store, wanted, limit)
        except LedgerError:
            raise
        except Exception as e:  # whatever a damaged file does to the driver
            raise LedgerError(
                f"cannot read the ledger at {self.url}: {first_line(e)}",
                hint="check that it is a ledger of dami-agent: `dami logs --verify` says what is wrong with it",
            ) from e


def _prices_of_the_environment() -> Prices:
    file = prices_file()
    return Prices() if file is None else Prices.from_file(file)


def _usable(read: Callable[[], T], otherwise: T) -> T:
    """Return what ``read`` returns; if it raises, ``otherwise``, and warn why."""
    try:
        return read()
    except Exception as e:
        log.warning("the ledger's settings in the environment cannot be used: %s", first_line(e))
        return otherwise


def _reopened(url: URL | None, backlog: int, keep_text: bool, redact: Redact | None, prices: Prices | None) -> Ledger:
    return Ledger(url, backlog=backlog, keep_text=keep_text, redact=redact, prices=prices)
