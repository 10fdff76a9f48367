"""Write rows so that a broken disk never breaks an answer: what cannot be written waits in memory, bounded."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, insert
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from dami_agent.ledger.archive import archived
from dami_agent.ledger.cells import encoded
from dami_agent.ledger.database import BEGIN, file_of, first_line, in_memory, is_busy, is_rows_fault, make_engine
from dami_agent.ledger.plain import plain
from dami_agent.ledger.schema import calls, migrate

log = logging.getLogger("dami_agent.ledger")

INSERT = insert(calls)
NAMES = [column.name for column in calls.columns if column.name != "id"]
LONGEST_PAUSE = 60.0  # seconds between two tries of a ledger that cannot be written
PATIENCE = 0.4  # seconds that keeping a call may delay its answer while another process holds the database
FLUSH_PATIENCE = 5.0  # the same at flush and close, where no answer waits
REPLACED = 3  # how often a row is written anew because its file was replaced meanwhile

Values = dict[str, Any]
_stores: weakref.WeakSet[Store] = weakref.WeakSet()


class Store:
    """Wraps one database: :meth:`add` writes rows, :meth:`reading` answers questions; thread-safe, survives a fork.

    Args:
        url: of the database; not touched before the first row.
        backlog: how many unwritten rows are kept; beyond it the oldest go.
    """

    def __init__(self, url: URL, backlog: int) -> None:
        self.url = url
        self.engine = make_engine(url, patient=False)
        self._reader = self.engine if in_memory(url) else make_engine(url)
        self._file = file_of(url)
        self._direct = str(INSERT.compile(dialect=self.engine.dialect, column_keys=NAMES))
        self._waiting: deque[tuple[int, Values]] = deque(maxlen=backlog)
        self._added = 0
        self._inherited: list[Any] = []
        self._start()
        _stores.add(self)

    def _start(self) -> None:
        """Begin as a process does that has written nothing yet."""
        self._lock = threading.RLock()  # around the database
        self._queue_lock = threading.Lock()  # around what waits; held for no longer than a list takes
        self._dropped = 0
        self._failures = 0
        self._next_try = 0.0
        self._prepared = False
        self._identity: tuple[int, int] | None = None

    def after_fork(self) -> None:
        """Let go of the parent's locks, connections and unwritten rows; called in the child."""
        # The parent's connections are neither used nor closed here: closing one can drop the parent's locks.
        self._inherited += [self.engine.pool, self._reader.pool]
        self.engine.dispose(close=False)
        self._reader.dispose(close=False)
        self.forget_waiting()
        self._start()

    @property
    def waiting(self) -> int:
        """Count the rows not written yet."""
        return len(self._waiting)

    def forget_waiting(self) -> None:
        """Give up the rows that are not written yet."""
        self._waiting.clear()

    def pause(self, seconds: float) -> None:
        """Let rows wait for so long, as after a failure; `flush` writes them all the same."""
        self._next_try = time.monotonic() + seconds

    def add(self, values: Values) -> None:
        """Write a row and all that wait; when it returns the row is committed or waits. Raises nothing."""
        deadline = time.monotonic() + PATIENCE
        try:
            row = encoded(values)
        except Exception as e:  # whatever a value does, it costs its own row alone
            self._lose(values, e)
            return
        with self._queue_lock:
            self._dropped += len(self._waiting) == self._waiting.maxlen
            self._added += 1
            self._waiting.append((self._added, row))
        if time.monotonic() < self._next_try or not self._lock.acquire(timeout=PATIENCE):
            return
        try:
            if time.monotonic() >= self._next_try:  # another thread may have found out meanwhile
                self._write_all(deadline)
        finally:
            self._lock.release()

    def flush(self) -> bool:
        """Write what waits, now; return whether nothing waits afterwards."""
        with self._lock:
            self._write_all(time.monotonic() + FLUSH_PATIENCE)
            return not self._waiting

    def close(self) -> None:
        """Write what waits and let go of the file; usable again afterwards."""
        if not self.flush():
            log.warning("%d calls could not be written to the ledger at %s before it closed", self.waiting, self.url)
        if not in_memory(self.url):
            self.engine.dispose()
            self._reader.dispose()

    def exists(self) -> bool:
        """Tell whether there is something to read; a database on a server is taken to exist."""
        return self._file is None or os.path.exists(self._file)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection in a transaction, schema in place. Raises ``SQLAlchemyError``, ``LedgerError``."""
        if in_memory(self.url):  # one connection for all threads
            with self._lock, self._reader.connect() as connection:
                self._prepare(connection)
                with connection.begin():
                    yield connection
            return
        with self._lock:
            self._follow_file()
            if self._file is not None and self._identity is None:
                self._identity = _identity(self._file)
        with archived(self._file, self._reader) as engine, engine.connect() as connection:
            migrate(connection)
            with connection.begin():
                yield connection

    # ---- writing, under the lock ------------------------------------------------------------------------------------

    def _write_all(self, deadline: float) -> None:
        """Write what waits, and what comes meanwhile: a thread that waits too long for the lock leaves that to us."""
        self._write(deadline)
        while self._waiting and not self._failures:
            self._write(deadline)

    def _write(self, deadline: float) -> None:
        """Write all waiting rows in one transaction; on failure they stay, one warning is logged, and a try follows."""
        if not self._waiting:
            return
        try:
            try:
                count = self._write_waiting()
            except Exception as e:
                if not is_busy(e):
                    raise
                count = self._write_when_free(deadline)
        except Exception as e:  # nothing of a ledger may reach an answer
            self._failures += 1
            self.pause(min(2.0**self._failures, LONGEST_PAUSE))
            if self._failures == 1:
                log.warning(
                    "the ledger at %s cannot be written (%s); calls are kept in memory and written later",
                    self.url,
                    first_line(e),
                )
            return
        if self._failures:
            lost = f"; {self._dropped} older ones were lost" if self._dropped else ""
            log.warning("the ledger at %s is written again, %d calls caught up%s", self.url, count, lost)
        self._failures = self._dropped = 0
        self._next_try = 0.0

    def _write_when_free(self, deadline: float) -> int:
        """Try again in small steps, so that many writers take turns, until the deadline."""
        left = max(deadline - time.monotonic(), 0.0)
        return Retrying(
            stop=stop_after_delay(left),
            wait=wait_random(0.0005, 0.004),
            retry=retry_if_exception(is_busy),
            reraise=True,
        )(self._write_waiting)

    def _write_waiting(self) -> int:
        """Write all rows that wait; return how many."""
        with self._queue_lock:
            waiting = list(self._waiting)
        rows = [row for _, row in waiting]
        for _ in range(REPLACED):
            self._follow_file()
            if not self._write_one(rows):
                with self.engine.connect() as connection:
                    self._prepare(connection)
                    self._insert(connection.execution_options(**{BEGIN: "IMMEDIATE"}), rows)
            if self._file is None or _identity(self._file) == self._identity:
                break
        else:
            raise OSError("the file is being replaced all the time")
        with self._queue_lock:
            while self._waiting and self._waiting[0][0] <= waiting[-1][0]:
                self._waiting.popleft()
        return len(rows)

    def _write_one(self, rows: Sequence[Values]) -> bool:
        """Write one row to an SQLite file, the usual case, straight to the driver; False where it is not that case.

        SQLAlchemy's way there takes longer than the row itself, at each call of a model. A row that the database
        refuses is left to that way.
        """
        if not self._prepared or len(rows) != 1 or self.engine.dialect.name != "sqlite":
            return False
        connection = self.engine.raw_connection()
        driver: Any = connection.dbapi_connection
        try:
            driver.execute("BEGIN IMMEDIATE")
            driver.execute(self._direct, [rows[0][name] for name in NAMES])
            driver.commit()
        except (sqlite3.OperationalError, sqlite3.InternalError):
            raise
        except Exception as e:
            if type(e) is sqlite3.DatabaseError:  # the file is damaged; all other classes speak of the row
                raise
            return False
        finally:
            connection.close()  # rolls back what was not committed
        return True

    def _insert(self, connection: Connection, rows: Sequence[Values]) -> None:
        """Insert all in one transaction; if the database refuses a value, one by one, so that no row blocks others."""
        try:
            with connection.begin():
                connection.execute(INSERT, rows)
        except Exception as e:
            if not is_rows_fault(e):
                raise
            with connection.begin():
                for row in rows:
                    self._insert_or_lose(connection, row)

    def _insert_or_lose(self, connection: Connection, row: Values) -> None:
        try:
            with connection.begin_nested():
                connection.execute(INSERT, row)
        except Exception as e:
            if not is_rows_fault(e):
                raise
            self._lose(row, e)

    def _lose(self, row: Values, error: Exception) -> None:
        call = plain(row.get("call_id"))
        log.warning("the ledger at %s refuses call %s, which is lost: %s", self.url, call, first_line(error))

    def _prepare(self, connection: Connection) -> None:
        if not self._prepared:
            migrate(connection)
            self._identity = None if self._file is None else _identity(self._file)
            self._prepared = True

    def _follow_file(self) -> None:
        """Let go of a file that was deleted, or replaced by another process: nobody would see its rows."""
        if self._file is None or (self._identity is not None and _identity(self._file) == self._identity):
            return
        self.engine.dispose()
        self._reader.dispose()
        self._prepared, self._identity = False, None
        if not self.exists():
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)


def _identity(file: Path) -> tuple[int, int] | None:
    """Return device and inode; None where there is no file."""
    try:
        found = os.stat(file)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _after_fork() -> None:
    for store in list(_stores):
        store.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
