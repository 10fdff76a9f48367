"""Writing rows so that a broken disk never breaks an answer: what cannot be written waits in memory, bounded."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import JSON, URL, Connection, insert
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from dami_agent.errors import LedgerError
from dami_agent.ledger.engine import BEGIN, file_of, in_memory, make_engine
from dami_agent.ledger.schema import calls, migrate

log = logging.getLogger("dami_agent.ledger")

REFUSED = (DataError, IntegrityError, OverflowError)  # it is the row: the next try would fail like this one
INSERT = insert(calls)
NAMES = [column.name for column in calls.columns if column.name != "id"]
JSONS = frozenset(column.name for column in calls.columns if isinstance(column.type, JSON))
LONGEST_PAUSE = 60.0  # seconds between two tries of a ledger that cannot be written


def _encode(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


class Store:
    """One database: rows go in through :meth:`add`, questions through :meth:`reading`. For threads; survives a fork.

    Args:
        url: of the database; not touched before the first row.
        backlog: how many unwritten rows are kept; beyond it the oldest go.
    """

    def __init__(self, url: URL, backlog: int) -> None:
        self.url = url
        self.engine = make_engine(url)
        self._file = file_of(url)
        self._direct = str(INSERT.compile(dialect=self.engine.dialect, column_keys=NAMES))
        self._lock = threading.RLock()
        self._waiting: deque[dict[str, Any]] = deque(maxlen=backlog)
        self._dropped = 0
        self._failures = 0
        self._next_try = 0.0
        self._prepared = False
        self._pid = os.getpid()

    @property
    def waiting(self) -> int:
        """Rows not written yet."""
        return len(self._waiting)

    def add(self, values: dict[str, Any]) -> None:
        """Write a row and all that wait; when it returns the row is committed or waits."""
        with self._own_lock():
            self._dropped += len(self._waiting) == self._waiting.maxlen
            self._waiting.append(values)
            if time.monotonic() >= self._next_try:
                self._write()

    def flush(self) -> bool:
        """Write what waits, now; whether nothing waits afterwards."""
        with self._own_lock():
            if self._waiting:
                self._write()
            return not self._waiting

    def close(self) -> None:
        """Write what waits and let go of the file; usable again afterwards."""
        if not self.flush():
            log.warning("%d calls could not be written to the ledger at %s before it closed", self.waiting, self.url)
        if not in_memory(self.url):
            self.engine.dispose()

    def exists(self) -> bool:
        """Whether there is something to read; a database on a server is taken to exist."""
        file = file_of(self.url)
        return file is None or file.exists()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection in a transaction, schema in place. Raises ``SQLAlchemyError``, ``LedgerError``."""
        lock = self._own_lock()
        with lock:
            connection = self.engine.connect()
        with connection:
            self._prepare(connection)
            if not in_memory(self.url):
                with connection.begin():
                    yield connection
            else:  # one connection for all threads
                with lock, connection.begin():
                    yield connection

    def _write(self) -> None:
        """All waiting rows in one transaction; on failure they stay, it is said once, and the next try is later."""
        try:
            self._make_room()
            if not self._write_one():
                with self.engine.connect() as connection:
                    self._prepare(connection)
                    self._insert(connection.execution_options(**{BEGIN: "IMMEDIATE"}))
        except (SQLAlchemyError, sqlite3.Error, LedgerError, OSError) as e:
            self._failures += 1
            self._next_try = time.monotonic() + min(2.0**self._failures, LONGEST_PAUSE)
            if self._failures == 1:
                why = str(e).splitlines()[0]
                log.warning(
                    "the ledger at %s cannot be written (%s); calls are kept in memory and written later", self.url, why
                )
            return
        if self._failures:
            lost = f"; {self._dropped} older ones were lost" if self._dropped else ""
            log.warning("the ledger at %s is written again, %d calls caught up%s", self.url, len(self._waiting), lost)
        self._waiting.clear()
        self._failures = self._dropped = 0
        self._next_try = 0.0

    def _write_one(self) -> bool:
        """The usual case, one row more in an SQLite file, straight to the driver; False where it is not that case.

        SQLAlchemy's way there takes longer than the row itself, at each call of a model. A row that the database
        refuses is left to that way.
        """
        if not self._prepared or len(self._waiting) != 1 or self.engine.dialect.name != "sqlite":
            return False
        row = self._waiting[0]
        connection = self.engine.raw_connection()
        driver: Any = connection.dbapi_connection
        try:
            driver.execute("BEGIN IMMEDIATE")
            driver.execute(self._direct, [_encode(row[n]) if n in JSONS else row[n] for n in NAMES])
            driver.commit()
        except (sqlite3.IntegrityError, sqlite3.DataError, OverflowError):
            return False
        finally:
            connection.close()  # rolls back what was not committed
        return True

    def _insert(self, connection: Connection) -> None:
        """All in one transaction; where the database refuses a value, one by one, so that one row blocks no other."""
        rows = list(self._waiting)
        try:
            with connection.begin():
                connection.execute(INSERT, rows)
        except REFUSED:
            with connection.begin():
                for row in rows:
                    self._insert_or_lose(connection, row)

    def _insert_or_lose(self, connection: Connection, row: dict[str, Any]) -> None:
        try:
            with connection.begin_nested():
                connection.execute(INSERT, row)
        except REFUSED as e:
            why = str(e).splitlines()[0]
            log.warning("the ledger at %s refuses call %s, it is lost: %s", self.url, row["call_id"], why)

    def _prepare(self, connection: Connection) -> None:
        if not self._prepared:
            migrate(connection)
            self._prepared = True

    def _make_room(self) -> None:
        file = self._file
        if file is not None and not os.path.exists(file):
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.engine.dispose()  # if it was deleted while open: let go of the old one, make schema and all anew
            self._prepared = False

    def _own_lock(self) -> threading.RLock:
        """The lock; after a fork a new one, without the parent's unwritten rows and connections (not to be shared)."""
        if self._pid != os.getpid():
            self._lock = threading.RLock()
            self.engine.dispose(close=False)
            self._waiting.clear()
            self._prepared = False
            self._pid = os.getpid()
        return self._lock
