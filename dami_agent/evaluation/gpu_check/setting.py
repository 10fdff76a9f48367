"""Say where parts run, at which shapes, and make the pairs of random weights that they run on."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dami_agent.errors import DamiError

if TYPE_CHECKING:
    from dami_agent.checkpoints import CheckpointPair

BYTES = {"0.6b": 1.2e9, "4b": 8.1e9, "tiny": 1e6}
"""Of one checkpoint of a shape, on disk."""


class PartSkipped(DamiError):
    """A part that cannot run here, through no fault of its own."""


class PartFailed(DamiError):
    """A result that is not what it must be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Says where parts run and on what.

    Attributes:
        device: ``cuda`` or ``cpu``.
        shape: of the pair that most parts run on.
        large: of the pair of the tests and of the last part.
        scratch: a folder for pairs, which parts share.
        repository: the folder that holds ``tests``.
    """

    device: str
    shape: str
    large: str
    scratch: Path
    repository: Path

    @property
    def rehearsal(self) -> bool:
        """Return whether all of it is only to be seen to run: workloads are then as small as they can be."""
        return self.device == "cpu"

    @property
    def place(self) -> str:
        """Return the one device that parts run on, as plans name it."""
        return "cpu" if self.device == "cpu" else "cuda:0"

    def pair(self, shape: str) -> CheckpointPair:
        """Open the pair of random weights of this shape, which is written once for all parts.

        Raises:
            PartSkipped: the disk has no room for it and for a merged copy.
        """
        from dami_agent.evaluation.speed.random_pair import open_random_pair, write_random_pair

        folder = self.scratch / shape
        if folder.exists():
            return open_random_pair(folder, shape)
        self.scratch.mkdir(parents=True, exist_ok=True)
        need, free = 3.1 * BYTES[shape], shutil.disk_usage(self.scratch).free
        if free < need:
            raise PartSkipped(
                f"{self.scratch} has {free / 1e9:.1f} GB free, a pair of shape {shape} takes {need / 1e9:.1f}",
                hint="name another folder with --scratch",
            )
        begun = self.scratch / f".{shape}"  # under this name until it is whole
        shutil.rmtree(begun, ignore_errors=True)
        begun.mkdir()
        write_random_pair(begun, shape)
        begun.rename(folder)
        return open_random_pair(folder, shape)
