"""Measure the rows of ``dami bench speed`` for a random pair, with workloads that fit a few tens of seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from dami_agent.evaluation.gpu_check.setting import PartSkipped, Setting


def measure(setting: Setting) -> Iterator[dict[str, Any]]:
    """Yield all rows and the points of the curves, at the shape of most parts."""
    yield from _measure(setting, setting.shape, reloads=True)


def measure_large(setting: Setting) -> Iterator[dict[str, Any]]:
    """Yield the rows that a large pair has time for: no merged files that are loaded again, no curves.

    Raises:
        PartSkipped: it is the shape that was measured already.
    """
    if setting.large == setting.shape:
        raise PartSkipped(f"shape {setting.large} is measured by the part 'speed'")
    yield from _measure(setting, setting.large, reloads=False)


def _measure(setting: Setting, shape: str, *, reloads: bool) -> Iterator[dict[str, Any]]:
    from dami_agent.evaluation.speed.goals import judged
    from dami_agent.evaluation.speed.measure import bench_of, measured
    from dami_agent.evaluation.speed.workload import QUICK

    workload = replace(QUICK, repetitions=2, concurrencies=(1, 32, 128), distinct=(1, 32))
    if not reloads:
        workload = replace(workload, repetitions=1, reloads=False, concurrencies=(), distinct=())
    if setting.rehearsal:
        small: dict[str, Any] = {"new_tokens": 6, "requests": 4, "lambdas": 2, "steps": 2, "arrivals": 4, "longest": 16}
        workload = replace(workload, repetitions=1, history=48, growth=16, **small)
        workload = replace(workload, concurrencies=(1, 4) if reloads else (), distinct=(2,) if reloads else ())
    bench = bench_of(setting.pair(shape), workload, lambda *_: None, device=setting.place)
    for found in measured(bench, setting.scratch):
        for row, goal in zip(found.rows, judged(found.rows, shape), strict=True):
            yield row | {"dtype": bench.dtype, "met": goal["met"]}
        yield from found.points
