"""Run each part in a process of its own, for a bounded time: what it does to a GPU ends with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from dami_agent.evaluation.gpu_check.setting import PartSkipped, Setting

Rows = Iterator[dict[str, Any]]
Run = Callable[[Setting], Rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Says how a part ended.

    Attributes:
        status: ``passed``, ``failed``, ``skipped`` or ``timed out``.
        error: the traceback, or why it was skipped; None where it passed.
        seconds: by the clock on the wall, the start of its process included.
    """

    status: str
    error: str | None
    seconds: float


def run_apart(run: Run, setting: Setting, seconds: float, take: Callable[[dict[str, Any]], None]) -> Ended:
    """Run a part in a process of its own and take its rows as they come.

    Args:
        run: the part, a function of a module.
        setting: for it.
        seconds: after which it is ended.
        take: called with each row.
    """
    # CUDA does not survive a fork once anything has asked for a device; without it a fork saves the imports.
    context: Any = multiprocessing.get_context("fork" if setting.device == "cpu" else "spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(run, setting, sender), daemon=True)
    began = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, which hold no lock here
        process.start()
    sender.close()
    status, error = "failed", None
    try:
        while (left := began + seconds - time.monotonic()) > 0:
            if not receiver.poll(min(left, 1.0)):
                continue
            try:
                kind, value = receiver.recv()
            except EOFError:
                process.join(10)
                error = f"its process ended with status {process.exitcode}"
                break
            if kind == "row":
                take(value)
            else:
                status, error = kind, value
                break
        else:
            status, error = "timed out", f"it did not end within {seconds:.0f} seconds"
    finally:
        process.join(5 if status in ("passed", "skipped") else 0)
        _end(process)
    return Ended(status=status, error=error, seconds=round(time.monotonic() - began, 1))


def _end(process: Any) -> None:
    """End what is left of a part's process and of those that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)  # its own group, see _work
    except ProcessLookupError:
        process.kill()
    process.join()


def _work(run: Run, setting: Setting, sender: Connection) -> None:
    os.setpgid(0, 0)  # so that all that it starts can be ended with it
    try:
        for row in run(setting):
            sender.send(("row", row))
        sender.send(("passed", None))
    except PartSkipped as error:
        sender.send(("skipped", str(error)))
    except BaseException:  # whatever it is, it is this part's result
        sender.send(("failed", traceback.format_exc()))
