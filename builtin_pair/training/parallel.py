"""Data-parallel training on one machine: a process and a thread per core, gradients averaged over gloo.

With matrices this small two threads mostly wait for one another: on two cores, two processes of one thread each trained
2.4 M parameters at 17,000 tokens a second, one process of two threads at 11,700.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import distributed
from torch.multiprocessing.spawn import spawn

from dami_agent.processes import end_with_parent

KEEP_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
}
"""For glibc in the processes: without it a virtual machine spent half of the time on page faults."""


@dataclass(frozen=True)
class Group:
    """The processes that train one model; every one of them calls the same methods in the same order."""

    rank: int = 0
    size: int = 1

    def average_gradients(self, model: torch.nn.Module) -> None:
        """Replace every gradient by its mean over the processes."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.size
        for gradient, mean in zip(gradients, torch.split(flat, [each.numel() for each in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def first(self, value: float) -> float:
        """Return the first process's value, in all of them."""
        if self.size == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64)
        distributed.broadcast(shared, 0)
        return float(shared)

    def least(self, value: int) -> int:
        """Return the smallest of the processes' values."""
        if self.size == 1:
            return value
        shared = torch.tensor(value)
        distributed.all_reduce(shared, distributed.ReduceOp.MIN)
        return int(shared)


def launch(size: int, rendezvous: Path, work: Callable[[Group], None]) -> None:
    """Run `work` in `size` processes of one thread each; with one, in this process and with its threads.

    `work` must be picklable. An exception in one process ends all of them and is raised here.
    """
    if size == 1:
        work(Group())
        return
    os.environ.update(KEEP_MEMORY)
    rendezvous.parent.mkdir(parents=True, exist_ok=True)
    rendezvous.unlink(missing_ok=True)
    spawn(_enter, args=(size, str(rendezvous.resolve()), work), nprocs=size)  # type: ignore[no-untyped-call]


def _enter(rank: int, size: int, rendezvous: str, work: Callable[[Group], None]) -> None:
    begin()
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=size)
    work(Group(rank, size))
    distributed.destroy_process_group()


def begin() -> None:
    """Return what a spawned process does first: it takes one thread, and will end with its parent."""
    end_with_parent()
    torch.set_num_threads(1)
