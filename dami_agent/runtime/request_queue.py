"""Bounded queue between callers and the worker; safe to use from any thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import Future
from typing import TypeVar

from dami_agent.errors import EngineBusy, EngineClosed
from dami_agent.runtime.reading import ReadRequest
from dami_agent.runtime.sequence import SequenceState

__all__ = ["RequestQueue"]

T = TypeVar("T")

_GATHER_SECONDS = 0.002


class RequestQueue:
    """Holds rows to decode, requests that are only read, and calls for the weights until the worker takes them.

    The three queues live as long as this object: they are changed in place and under the lock, never replaced, so
    that a caller who waits for the lock still appends to the queue that the worker reads.

    Args:
        limit: waiting items of each kind; more are refused.
        on_first: called once, before the first item is queued, by the thread that brings it.
    """

    def __init__(self, limit: int, on_first: Callable[[], None]) -> None:
        self._limit = limit
        self._on_first: Callable[[], None] | None = on_first
        self.changed = threading.Condition()
        self._rows: deque[SequenceState] = deque()
        self._reads: deque[ReadRequest] = deque()
        self._loads: deque[Future[None]] = deque()
        self._arriving = 0
        self._closed: EngineClosed | None = None

    # --- any thread --------------------------------------------------------------------------------------------------

    def announce(self, count: int) -> None:
        """Announce (+1) or withdraw (-1) a caller who is about to bring something."""
        with self.changed:
            self._arriving += count
            if count < 0:
                self.changed.notify_all()

    def add_row(self, row: SequenceState) -> None:
        """Queue a row. Raises ``EngineBusy`` or ``EngineClosed``."""
        self._add(self._rows, row)

    def add_read(self, request: ReadRequest) -> None:
        """Queue a request that is read and not decoded. Raises ``EngineBusy`` or ``EngineClosed``."""
        self._add(self._reads, request)

    def add_load(self) -> Future[None]:
        """Ask for the weights; the future is done when they are loaded, or holds why not."""
        future: Future[None] = Future()
        self._add(self._loads, future)
        return future

    @property
    def closed(self) -> bool:
        """Return whether nothing is taken in any more."""
        return self._closed is not None

    def close(self, reason: EngineClosed | None = None) -> None:
        """Take nothing in any more, and say ``reason`` to who still comes; the first one counts."""
        with self.changed:
            self._closed = self._closed or reason or EngineClosed("the engine is closed", hint="open a new one")
            self.changed.notify_all()

    def _add(self, queue: deque[T], item: T) -> None:
        with self.changed:
            if self._closed is not None:
                raise EngineClosed(self._closed.message, hint=self._closed.hint) from self._closed.__cause__
            if len(queue) >= self._limit:
                raise EngineBusy(
                    f"{len(queue)} requests are waiting already",
                    hint="try again later, or raise the engine's max_queue",
                )
            if self._on_first is not None:  # the worker waits for the lock; a thread that cannot start leaves no item
                self._on_first()
                self._on_first = None
            queue.append(item)
            self.changed.notify_all()

    # --- the worker --------------------------------------------------------------------------------------------------

    def wait(self, *, busy: bool) -> bool:
        """Sleep until there is something to do (not at all when ``busy``); False once closed.

        A worker that was idle waits a moment longer for callers who are on their way, and only for them.
        """
        with self.changed:
            while not (busy or self._closed or self._rows or self._reads or self._loads):
                self.changed.wait()
            if not busy and self._arriving and not self._closed:
                self.changed.wait_for(lambda: self._closed or not self._arriving, _GATHER_SECONDS)
            return self._closed is None

    def rows(self) -> list[SequenceState]:
        """Return the waiting rows, oldest first."""
        with self.changed:
            return list(self._rows)

    def remove(self, rows: Collection[SequenceState]) -> None:
        """Take these rows out."""
        self._discard(self._rows, rows)

    def requeue(self, row: SequenceState) -> None:
        """Put a row at the head, whether or not there is room."""
        with self.changed:
            self._rows.appendleft(row)

    def reads(self) -> list[ReadRequest]:
        """Return the waiting requests that are read and not decoded, oldest first."""
        with self.changed:
            return list(self._reads)

    def remove_reads(self, requests: Collection[ReadRequest]) -> None:
        """Take these requests out."""
        self._discard(self._reads, requests)

    def take_loads(self) -> list[Future[None]]:
        """Take out all calls for the weights."""
        with self.changed:
            taken = list(self._loads)
            self._loads.clear()
        return taken

    def _discard(self, queue: deque[T], items: Collection[T]) -> None:
        gone = set(map(id, items))
        with self.changed:
            kept = [item for item in queue if id(item) not in gone]
            queue.clear()
            queue.extend(kept)
