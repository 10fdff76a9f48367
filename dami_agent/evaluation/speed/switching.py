"""Measure changes of λ: against what memory bandwidth allows, and against merged files that are loaded again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from dami_agent.evaluation.speed.bench import Bench, synchronize
from dami_agent.evaluation.speed.comparison import Work
from dami_agent.evaluation.speed.reference import TransformersModel, merge_files
from dami_agent.weights import Weights

LAMBDAS = (0.3, 0.6)
"""λs that are switched between, in turn: both need every weight rebuilt."""
SWITCHES = 5
"""In each measurement."""
_LARGEST = 2**27
"""Elements of the flat tensors that bandwidth is measured with, at most: beyond any cache, and small beside a model."""


def switch_rows(bench: Bench, weights: Weights, folder: Path) -> list[dict[str, Any]]:
    """Measure ``switch_floor`` and, unless the workload leaves reloads out, ``switch_vs_reload``.

    Args:
        bench: what to measure.
        weights: merged ones.
        folder: where the reference keeps its merged files; they are left there.
    """
    floor, note = _floor(weights, bench.device)
    found = bench.compare("switch_floor", lambda _: _switch(weights), floor)
    rows = [bench.row("switch_floor", found.seconds(), note)]

    def reload(_: int) -> Work:
        began = time.perf_counter()
        merge_files(bench.pair.instruct.path, bench.pair.thinking.path, 0.5, folder)
        TransformersModel(folder, bench.device, bench.dtype)
        synchronize(bench.device)
        return Work(seconds=time.perf_counter() - began)

    if not bench.workload.reloads:
        merge_files(bench.pair.instruct.path, bench.pair.thinking.path, 0.5, folder)
        return rows
    found = bench.compare("switch_vs_reload", lambda _: _switch(weights), reload)
    note = "reference: both checkpoints' files merged, written and loaded with transformers"
    return [*rows, bench.row("switch_vs_reload", found.seconds(), note)]


def _switch(weights: Weights) -> Work:
    """Change λ a few times; the seconds are those of one change, as the weights count them."""
    before = weights.switch_seconds
    version = weights.version
    for number in range(SWITCHES):
        with weights.at([_next(weights, number)]):
            pass
    assert weights.version == version + SWITCHES
    return Work(seconds=(weights.switch_seconds - before) / SWITCHES)


def _next(weights: Weights, number: int) -> float:
    """Return a λ that the weights do not have now."""
    return LAMBDAS[number % 2] if weights.intensity != LAMBDAS[number % 2] else LAMBDAS[1 - number % 2]


def _floor(weights: Weights, device: str) -> tuple[Any, str]:
    """Return what measures the least a switch can take, and a note: its bytes over the bandwidth of a flat lerp.

    The flat tensors are as large as the model's, up to a bound, so that caches help both alike.
    """
    with weights.at([LAMBDAS[0]]):  # the working copy's memory is taken now
        size = weights.nbytes()["working"]
    elements = size // weights.dtype.itemsize
    count = min(elements, _LARGEST)
    one, other = (torch.full((count,), value, dtype=weights.dtype, device=device) for value in (0.5, 0.25))
    out = torch.empty_like(one)

    def lerp(_: int) -> Work:
        synchronize(device)
        began = time.perf_counter()
        for number in range(SWITCHES):
            torch.lerp(one, other, LAMBDAS[number % 2], out=out)
        synchronize(device)
        return Work(seconds=(time.perf_counter() - began) / SWITCHES * elements / count)

    note = (
        f"reference: {3 * size / 1e6:.4g} MB read and written, {3 * weights.dtype.itemsize} bytes a parameter, "
        f"at the bandwidth of torch.lerp on flat tensors of {count * weights.dtype.itemsize / 1e6:.4g} MB"
    )
    return lerp, note
