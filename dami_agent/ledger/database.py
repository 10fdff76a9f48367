"""Open a database: for SQLite, many writers, WAL, and transactions that begin when we say so."""

from __future__ import annotations

import json
import sqlite3
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    NoSuchModuleError,
    ProgrammingError,
    StatementError,
)
from sqlalchemy.pool import QueuePool, StaticPool

from dami_agent.errors import LedgerError

READ_BUSY_MS = 5_000  # how long a reader waits for another process
WRITE_BUSY_MS = 20  # a writer waits in small steps, so that its caller decides for how long; see Store
LOCK_MS = 400  # how long a statement of a writer waits for a lock in PostgreSQL
CONNECT_SECONDS = 2  # how long connecting to a database server may take
LOCATION_HINT = "a file path, an SQLAlchemy URL such as sqlite:////home/me/ledger.sqlite, or 'off'"
BEGIN = "dami_begin"  # execution option: DEFERRED (reading, the default) or IMMEDIATE (writing)


class JSONText(str):
    """Marks JSON text that is stored as it is; see :func:`to_json`."""

    __slots__ = ()


def to_json(value: Any) -> str:
    """Serialize ``value`` for a JSON column, unless that was done already. Passed to SQLAlchemy."""
    return value if isinstance(value, JSONText) else JSONText(json.dumps(value))


# Bytes that are not UTF-8 come out as lone surrogates; one such cell must not end the reading of all rows.
DECODE = partial(str, encoding="utf-8", errors="surrogateescape")


def make_engine(url: URL, *, patient: bool = True) -> Engine:
    """Make an engine for ``url``; touches no disk.

    Args:
        url: of the database.
        patient: wait for other processes' locks for seconds; False, for writing, gives up within half a second.

    Raises:
        LedgerError: if the database or its driver is not known here, or the URL does not fit it.
    """
    memory = in_memory(url)
    options: dict[str, Any] = {"poolclass": StaticPool if memory else QueuePool}
    if url.get_backend_name() == "sqlite":
        options["connect_args"] = {"check_same_thread": False}
    else:
        options["pool_pre_ping"] = True  # a server that was restarted in between costs no row
        if not patient and url.drivername == "postgresql+psycopg" and "connect_timeout" not in url.query:
            options["connect_args"] = {"connect_timeout": CONNECT_SECONDS}
    try:
        engine = create_engine(url, json_serializer=to_json, **options)
    except (ImportError, NoSuchModuleError) as e:
        raise LedgerError(f"no driver for the ledger at {url}: {e}", hint=_driver_hint(url)) from e
    except Exception as e:  # dialects check their URLs each in its own way
        raise LedgerError(f"the ledger cannot be kept at {url}: {first_line(e)}", hint=LOCATION_HINT) from e
    if url.get_backend_name() == "sqlite":
        event.listen(engine, "connect", partial(_set_up_sqlite, READ_BUSY_MS if patient else WRITE_BUSY_MS))
        event.listen(engine, "begin", _begin_sqlite)
    elif url.drivername == "postgresql+psycopg" and not patient:
        event.listen(engine, "connect", _set_up_postgresql)
    return engine


def _set_up_postgresql(connection: Any, _: object) -> None:
    connection.execute(f"SET lock_timeout = {LOCK_MS}")
    connection.commit()


def _driver_hint(url: URL) -> str:
    extra = url.drivername == "postgresql+psycopg"
    return 'pip install "dami-agent[postgres]"' if extra else f"pip install the driver of {url.drivername}"


def first_line(error: BaseException) -> str:
    """Return what ``error`` says, as one line without control characters; never raises."""
    try:
        lines = str(error).splitlines()
    except Exception:  # a foreign exception's own text
        lines = []
    line = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line[:500])


def is_busy(error: BaseException) -> bool:
    """Tell whether another process held an SQLite database, so that the same may work a moment later."""
    cause = getattr(error, "orig", None) or error
    return isinstance(cause, sqlite3.OperationalError) and "locked" in str(cause)


def is_rows_fault(error: BaseException) -> bool:
    """Tell whether a row was refused for what it holds: the next try would fail like this one."""
    if isinstance(error, (DataError, IntegrityError, OverflowError, ValueError, TypeError)):
        return True
    if isinstance(error, (ProgrammingError, InterfaceError)):  # a server says so of a missing table too
        return isinstance(error.orig, sqlite3.Error)
    return isinstance(error, StatementError) and not isinstance(error, DBAPIError)


def immutable(file: Path) -> URL:
    """Return the URL that reads an SQLite file without locks and without its log, as on a read-only disk."""
    query = {"mode": "ro", "immutable": "1", "uri": "true"}
    return URL.create("sqlite", database=f"file:{quote(str(file.absolute()))}", query=query)


def in_memory(url: URL) -> bool:
    """Tell whether it is an SQLite database in this process's memory."""
    return url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")


def file_of(url: URL) -> Path | None:
    """Return the SQLite file; None for another database, one in memory, or a ``file:`` URI."""
    if url.get_backend_name() != "sqlite" or in_memory(url) or str(url.database).startswith("file:"):
        return None
    return Path(str(url.database))


def _set_up_sqlite(busy_ms: int, connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself; _begin_sqlite does
    connection.text_factory = DECODE
    connection.execute(f"PRAGMA busy_timeout = {busy_ms}")
    connection.execute("PRAGMA synchronous = NORMAL")
    with suppress(sqlite3.OperationalError):  # read-only, or another process switches it this moment: the mode stays
        connection.execute("PRAGMA journal_mode = WAL")


def _begin_sqlite(connection: Connection) -> None:
    # A write begins IMMEDIATE: a deferred one that turns from reading to writing fails at once instead of waiting.
    # To the driver itself: SQLAlchemy's way through costs a tenth of what writing a row does.
    driver: Any = connection.connection.dbapi_connection
    driver.execute(f"BEGIN {connection.get_execution_options().get(BEGIN, 'DEFERRED')}")
