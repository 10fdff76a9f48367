"""List the parts in the order in which they run."""

from __future__ import annotations

from dataclasses import dataclass

from dami_agent.evaluation.gpu_check import compiled, energy, marked_tests, shared, speed_rows
from dami_agent.evaluation.gpu_check.isolation import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Describes a part.

    Attributes:
        what: it finds out.
        seconds: that it may take on a GPU.
        run: yields its rows, each as soon as it is known.
    """

    what: str
    seconds: float
    run: Run


# What tells most first: whether it works, then what is known least about, then the tables.
PARTS = {
    "tests": Part(what="the tests marked gpu", seconds=240, run=marked_tests.run),
    "shared": Part(what="prompts read once for every λ", seconds=60, run=shared.compare),
    "compiled": Part(what="a compiled decode step", seconds=120, run=compiled.measure),
    "energy": Part(what="energy of a call", seconds=60, run=energy.measure),
    "speed": Part(what="the speed table", seconds=120, run=speed_rows.measure),
    "speed-large": Part(what="the speed table of a large pair", seconds=150, run=speed_rows.measure_large),
}
