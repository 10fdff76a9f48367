"""Pools of documents for a run, drawn when they are needed or ahead of that in processes of their own.

A GPU takes documents faster than one process draws them. A pool depends on its number alone, so that it is the same
whoever draws it, and a resumed run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Protocol

from torch.utils.data import DataLoader, Dataset

from builtin_pair.training import parallel
from builtin_pair.training.data import Encoded, Packed, packed

AHEAD = 2
"""Pools that each process keeps ready."""


class Drawn(Protocol):
    """A run that pools are drawn for: a run (`loop.TrainingRun`)."""

    position: dict[str, float]
    workers: int

    def groups(self, number: int) -> list[list[Encoded]]:
        """Return a pool as batches of documents."""


class _Pools(Dataset[Packed]):
    """Pools by their number; ids beyond any count are fine."""

    def __init__(self, run: Drawn) -> None:
        self.run = run

    def __getitem__(self, number: int) -> Packed:
        return packed(self.run.groups(number))


def pools(run: Drawn) -> Iterator[Packed]:
    """Yield the run's pools from the next one on, in order and without end."""
    numbers, dataset = count(int(run.position["pool"])), _Pools(run)
    if not run.workers:
        yield from map(dataset.__getitem__, numbers)  # without end
    yield from DataLoader(
        dataset,
        batch_size=None,
        sampler=numbers,
        num_workers=run.workers,
        prefetch_factor=AHEAD,
        multiprocessing_context="fork",  # a run's mixture is a function, which cannot be sent
        worker_init_fn=_begin,
    )


def _begin(_worker: int) -> None:
    parallel.begin()
