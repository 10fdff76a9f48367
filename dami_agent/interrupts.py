"""Carry Ctrl-C from the main thread, the only one Python tells, to calls that run on other threads.

``batch``, ``RunnableParallel``, parallel graph branches and a user's own pool run calls on worker threads. On Ctrl-C
Python raises ``KeyboardInterrupt`` in the main thread, which leaves its ``with executor:`` block and waits there until
every worker has finished by itself. While calls run on other threads, one daemon thread therefore looks at the main
thread ten times a second: if it handles a ``KeyboardInterrupt`` and waits for threads, the calls are cancelled.

A main thread that handles the interrupt and goes on (a REPL that prints a traceback, an ``except KeyboardInterrupt:``
block that makes new calls) cancels nothing. No signal handler is installed.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["cancel_on_interrupt"]

_POLL_SECONDS = 0.1
# Functions in which a main thread waits for other threads; in the last one the interpreter ends.
_EXIT = ("threading", "_shutdown")
_WAITS = {("concurrent.futures.thread", "shutdown"), ("concurrent.futures._base", "wait"), ("threading", "join"), _EXIT}


class _Watcher:
    """The running calls, and the thread that watches the main thread while there are any."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._changed = threading.Condition()
        self._calls: dict[object, tuple[Callable[[], None], int, int | None]] = {}
        self._cancelled: dict[int, int] = {}  # thread -> the interrupt that cancelled a call of it
        self._running = False

    @contextmanager
    def watch(self, cancel: Callable[[], None]) -> Iterator[None]:
        key, thread, interrupt = object(), threading.get_ident(), waiting_interrupt()
        with self._changed:
            # An executor that was interrupted still hands out what was queued, to the threads whose calls ended.
            queued = interrupt is not None and self._cancelled.get(thread) == interrupt
            self._calls[key] = (cancel, thread, interrupt)
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="dami-interrupts", daemon=True).start()
            self._changed.notify()
        try:
            if queued:
                cancel()
            yield
        finally:
            with self._changed:
                del self._calls[key]

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._calls:
                    self._changed.wait()
                calls = list(self._calls.values())
            interrupt = waiting_interrupt()
            if interrupt is None:
                self._cancelled.clear()
            else:
                for cancel, thread, at_start in calls:
                    if at_start != interrupt:  # a call begun while it was handled already is meant to run
                        self._cancelled[thread] = interrupt
                        cancel()
            with self._changed:
                self._changed.wait_for(lambda: False, _POLL_SECONDS)


_watcher: _Watcher | None = None
_making = threading.Lock()
_listing = threading.Lock()


@contextmanager
def cancel_on_interrupt(cancel: Callable[[], None]) -> Iterator[None]:
    """Call ``cancel`` if Ctrl-C comes while the block runs on a thread other than the main one.

    Args:
        cancel: stops the call; from another thread, more than once perhaps, and must not raise.
    """
    if threading.current_thread() is threading.main_thread():
        yield  # Python raises KeyboardInterrupt right here
        return
    with _of_this_process().watch(cancel):
        yield


def _of_this_process() -> _Watcher:
    global _watcher
    if _watcher is None or _watcher.pid != os.getpid():
        with _making:
            if _watcher is None or _watcher.pid != os.getpid():
                _watcher = _Watcher()
    return _watcher


def _forget() -> None:
    """Begin anew in a forked child: the thread is gone there, and the lock may be held for ever."""
    global _watcher, _making, _listing
    _watcher, _making, _listing = None, threading.Lock(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def waiting_interrupt() -> int | None:
    """Identify the ``KeyboardInterrupt`` that the main thread handles while it waits for threads, or None."""
    main = threading.main_thread().ident
    assert main is not None
    with _without_collection():
        frame = sys._current_frames().get(main)
    waits = _WAITS & set(_calls(frame))
    if not waits:
        return None
    with _without_collection():
        active: object = sys._current_exceptions().get(main)
    if isinstance(active, tuple):  # Python < 3.12
        active = active[1]
    if active is None and _EXIT in waits:  # the interpreter ends, perhaps after an interrupt that nobody caught
        active = getattr(sys, "last_value", None)
    while isinstance(active, BaseException) and not isinstance(active, KeyboardInterrupt):
        active = active.__context__
    return id(active) if active is not None else None


@contextmanager
def _without_collection() -> Iterator[None]:
    """Keep the garbage collector off while the interpreter lists its threads.

    Before 3.12 Python lists them under its lock of threads; a collection in there lets another thread run, which may
    wait for that lock: the process then stands still (gh-106883). Since then it collects elsewhere.
    """
    if sys.version_info >= (3, 12):
        yield
        return
    with _listing:
        collecting = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if collecting:
                gc.enable()


def _calls(frame: FrameType | None) -> Iterator[tuple[str, str]]:
    """Yield module and function of every call on a thread's stack."""
    while frame is not None:
        yield str(frame.f_globals.get("__name__")), frame.f_code.co_name
        frame = frame.f_back
