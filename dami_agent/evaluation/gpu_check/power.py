"""Read a GPU's power while something runs, with NVML where Python has it, else with ``nvidia-smi``."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

PAUSE = 0.05
"""Seconds between two readings; the driver's own average is about as long."""


@dataclass(slots=True)
class Readings:
    """Holds (seconds, watts) in the order in which they were read."""

    points: list[tuple[float, float]] = field(default_factory=list)

    def joules(self, begin: float, end: float) -> float:
        """Integrate the power over a stretch of time, by trapezoids; before the first and after the last it is theirs.

        Args:
            begin, end: ``time.perf_counter`` seconds.
        """
        inside = [(at, watts) for at, watts in self.points if begin < at < end]
        corners = [(begin, self._at(begin)), *inside, (end, self._at(end))]
        return sum((b - a) * (p + q) / 2 for (a, p), (b, q) in pairwise(corners))

    def _at(self, when: float) -> float:
        """Return the power at a time, between the two readings around it."""
        before = [point for point in self.points if point[0] <= when]
        after = [point for point in self.points if point[0] > when]
        if not before or not after:
            return (after[0] if after else before[-1])[1]
        (a, p), (b, q) = before[-1], after[0]
        return p + (q - p) * (when - a) / (b - a)


@dataclass(frozen=True, slots=True)
class Meter:
    """Reads watts.

    Attributes:
        source: what is asked.
        read: returns watts; takes some milliseconds, with nvidia-smi some tens.
    """

    source: str
    read: Callable[[], float]

    @contextmanager
    def reading(self) -> Iterator[Readings]:
        """Read again and again, in a thread, from before the block to after it."""
        found, ended = Readings(), threading.Event()

        def watch() -> None:
            while not ended.is_set():
                began = time.perf_counter()
                watts = self.read()
                found.points.append(((began + time.perf_counter()) / 2, watts))
                ended.wait(PAUSE)

        found.points.append((time.perf_counter(), self.read()))
        thread = threading.Thread(target=watch, name="power", daemon=True)
        thread.start()
        try:
            yield found
        finally:
            ended.set()
            thread.join()


def find_meter(uuid: str | None) -> tuple[Meter | None, str]:
    """Find what answers here.

    Args:
        uuid: of the GPU as torch writes it; None: the only one.

    Returns:
        A meter that has answered once, or None; and why others did not.
    """
    name = None if uuid is None else f"GPU-{uuid.removeprefix('GPU-')}"
    why: list[str] = []
    for make in (_nvml, _nvidia_smi):
        meter, error = _tried(make, name)
        if meter is not None:
            return meter, "; ".join(why)
        why.append(f"{make.__name__.strip('_')}: {error}")
    return None, "; ".join(why)


def _tried(make: Callable[[str | None], Meter], uuid: str | None) -> tuple[Meter | None, str]:
    """Return a meter that has answered, or None and why it did not."""
    try:
        meter = make(uuid)
        meter.read()
    except Exception as error:  # of whatever kind: a library, a driver or a command that is not there
        return None, f"{type(error).__name__}: {error}"
    return meter, ""


def _nvml(uuid: str | None) -> Meter:
    import importlib

    library: Any = importlib.import_module("pynvml")
    library.nvmlInit()
    handle = library.nvmlDeviceGetHandleByUUID(uuid) if uuid else library.nvmlDeviceGetHandleByIndex(0)
    return Meter("NVML", lambda: library.nvmlDeviceGetPowerUsage(handle) / 1000)


def _nvidia_smi(uuid: str | None) -> Meter:
    command = ["nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits", *(["-i", uuid] if uuid else [])]
    return Meter("nvidia-smi", lambda: _watts(command))


def _watts(command: Sequence[str]) -> float:
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    return float(done.stdout.split()[0])  # ValueError for [N/A]
