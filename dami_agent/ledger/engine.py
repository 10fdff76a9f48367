"""How a database is opened: for SQLite, many writers, WAL, and transactions that begin when we say so."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import NoSuchModuleError
from sqlalchemy.pool import QueuePool, StaticPool

from dami_agent.errors import LedgerError

BUSY_MS = 5_000  # how long a write waits for another process's write
BEGIN = "dami_begin"  # execution option: DEFERRED (reading, the default) or IMMEDIATE (writing)


def make_engine(url: URL) -> Engine:
    """An engine for ``url``; touches no disk.

    Raises:
        LedgerError: if the database or its driver is not known here.
    """
    memory = in_memory(url)
    options: dict[str, Any] = {"poolclass": StaticPool if memory else QueuePool}
    if url.get_backend_name() == "sqlite":
        options["connect_args"] = {"check_same_thread": False}
    else:
        options["pool_pre_ping"] = True  # a server that was restarted in between costs no row
    try:
        engine = create_engine(url, **options)
    except (ImportError, NoSuchModuleError) as e:
        raise LedgerError(f"no driver for the ledger at {url}: {e}", hint=_driver_hint(url)) from e
    if url.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _driver_hint(url: URL) -> str:
    extra = url.drivername == "postgresql+psycopg"
    return 'pip install "dami-agent[postgres]"' if extra else f"pip install the driver of {url.drivername}"


def in_memory(url: URL) -> bool:
    """Whether it is an SQLite database in this process's memory."""
    return url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")


def file_of(url: URL) -> Path | None:
    """The SQLite file; None for another database, one in memory, or a ``file:`` URI."""
    if url.get_backend_name() != "sqlite" or in_memory(url) or str(url.database).startswith("file:"):
        return None
    return Path(str(url.database))


def _set_up_sqlite(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself; _begin_sqlite does
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    connection.execute("PRAGMA synchronous = NORMAL")
    with suppress(sqlite3.OperationalError):  # read-only, or another process switches it this moment: the mode stays
        connection.execute("PRAGMA journal_mode = WAL")


def _begin_sqlite(connection: Connection) -> None:
    # A write begins IMMEDIATE: a deferred one that turns from reading to writing fails at once instead of waiting.
    # To the driver itself: SQLAlchemy's way through costs a tenth of what writing a row does.
    driver: Any = connection.connection.dbapi_connection
    driver.execute(f"BEGIN {connection.get_execution_options().get(BEGIN, 'DEFERRED')}")
