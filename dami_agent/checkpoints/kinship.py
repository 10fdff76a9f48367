"""Measure how near two checkpoints are on a sample of their weights, and whether their roles fit.

Two fine-tunings of one base point the same way, weight by weight; two models that were trained apart do not, though
they may have the same shapes and names. A few megabytes tell: slices are read from where the headers say, so that a
large, sharded checkpoint costs no more than a small one.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from dami_agent.checkpoints.headers import BITS, TensorEntry

if TYPE_CHECKING:
    import numpy as np

    from dami_agent.checkpoints.checkpoint import Checkpoint

TENSORS = 16  # matrices of the sample, evenly spread over the model
SLICES = 8  # of each, evenly spread over it
SLICE_BYTES = 1 << 16
UNRELATED = 0.3  # median cosine below which two models have no base in common
FAR = 0.7  # … below which they are far apart
_NUMBERS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_THINKING_NAME = re.compile(r"think|reason|\br1\b|\bqwq\b", re.IGNORECASE)
_INSTRUCT_NAME = re.compile(r"instruct|\bchat\b|non-?think|no-?think", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Kinship:
    """Holds what the sample says.

    Attributes:
        cosine: median over the sampled tensors of the cosine between both checkpoints' weights; NaN without any.
        distance: ‖T−I‖/‖I‖ over all sampled weights; NaN if Instruct's are all zero.
        equal: no sampled weight differs.
        tensors: how many were sampled.
        nbytes: read of both checkpoints together.
        seconds: that it took.
    """

    cosine: float
    distance: float
    equal: bool
    tensors: int
    nbytes: int
    seconds: float

    @property
    def verdict(self) -> str:
        """Judge: ``equal``, ``unrelated``, ``far``, ``related``, or ``unknown`` where there was nothing to compare."""
        if self.equal:
            return "equal" if self.tensors else "unknown"
        if not self.cosine >= UNRELATED:  # NaN too: one side is all zero
            return "unrelated"
        return "related" if self.cosine >= FAR else "far"

    def __str__(self) -> str:
        return (
            f"cosine {self.cosine:.3f}, ‖T−I‖/‖I‖ {self.distance:.3f} "
            f"({self.tensors} tensors, {self.nbytes / 1e6:.1f} MB read in {self.seconds:.2f} s)"
        )


def measure(instruct: Checkpoint, thinking: Checkpoint) -> Kinship:
    """Compare a sample of the two checkpoints' weights, which must be on disk."""
    began = time.perf_counter()
    names = _sample(instruct.tensors, thinking.tensors)
    readers = _Reader(instruct), _Reader(thinking)
    cosines, same, read = [], True, 0
    total_difference = total_instruct = 0.0
    for name in names:
        itemsize = BITS[instruct.tensors[name].dtype] // 8
        product = left = right = 0.0
        for a, b in zip(readers[0].slices(name), readers[1].slices(name), strict=True):
            read += 2 * a.size * itemsize
            same = same and bool((a == b).all())
            product += float(a @ b)
            left += float(a @ a)
            right += float(b @ b)
            total_difference += float((b - a) @ (b - a))
        total_instruct += left
        cosines.append(product / math.sqrt(left * right) if left and right else math.nan)
    known = [c for c in cosines if not math.isnan(c)]
    return Kinship(
        cosine=median(known) if known else math.nan,
        distance=math.sqrt(total_difference / total_instruct) if total_instruct else math.nan,
        equal=same,
        tensors=len(names),
        nbytes=read,
        seconds=time.perf_counter() - began,
    )


def _sample(a: Mapping[str, TensorEntry], b: Mapping[str, TensorEntry]) -> list[str]:
    """Choose matrices that both have in one shape and dtype, evenly spread over the layers.

    Vectors are left out: norms are near one in every model, so that their cosine says nothing.
    """
    common = [
        name
        for name, entry in a.items()
        if entry.dtype in _NUMBERS and len(entry.shape) > 1 and entry.nbytes
        if name in b and (b[name].shape, b[name].dtype) == (entry.shape, entry.dtype)
    ]
    common.sort(key=lambda name: [int(p) if p.isdecimal() else p for p in re.split(r"(\d+)", name)])
    if len(common) <= TENSORS:
        return common
    return [common[round(k * (len(common) - 1) / (TENSORS - 1))] for k in range(TENSORS)]


class _Reader:
    """Reads slices of one checkpoint's tensors from its files, by the offsets in their headers."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._starts: dict[str, dict[str, int]] = {}

    def slices(self, name: str) -> Iterator[np.ndarray[Any, np.dtype[Any]]]:
        """Read up to ``SLICES`` vectors of float64, evenly spread over the tensor's bytes."""
        import numpy

        entry = self._checkpoint.tensors[name]
        path = self._checkpoint.path / entry.file
        kind = numpy.dtype(_NUMBERS[entry.dtype])
        step = max(SLICE_BYTES, entry.nbytes // SLICES) // kind.itemsize * kind.itemsize
        with path.open("rb") as file:
            for offset in range(0, entry.nbytes, step):
                file.seek(self._start(path, name) + offset)
                raw = numpy.frombuffer(file.read(min(SLICE_BYTES, entry.nbytes - offset)), dtype=kind)
                if entry.dtype == "BF16":
                    raw = (raw.astype("<u4") << 16).view("<f4")
                yield raw.astype("<f8")

    def _start(self, path: Path, name: str) -> int:
        if path.name not in self._starts:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length))
            found = {key: 8 + length + v["data_offsets"][0] for key, v in header.items() if key != "__metadata__"}
            self._starts[path.name] = found
        return self._starts[path.name][name]


def opens_thought(template: str | None) -> bool:
    """Tell whether a chat template's prompt for an answer ends inside a thought, by its text: Thinking's do."""
    tail = (template or "").rsplit("add_generation_prompt", 1)
    return len(tail) == 2 and "<think>" in tail[1] and "</think>" not in tail[1]


def swapped(instruct: Checkpoint, thinking: Checkpoint) -> str | None:
    """Say why the two look as if given the wrong way round, or None. Templates count before names."""
    opens = opens_thought(instruct.chat_template), opens_thought(thinking.chat_template)
    if opens == (True, False):
        return f"the chat template of {instruct.source} (Instruct) opens <think>, that of {thinking.source} does not"
    if opens == (False, True):
        return None
    a, b = (Path(c.source).name or c.source for c in (instruct, thinking))
    if _THINKING_NAME.search(a) and not _THINKING_NAME.search(b) and not _INSTRUCT_NAME.search(a):
        return f"{a} is given as Instruct, {b} as Thinking"
    if _INSTRUCT_NAME.search(b) and not _INSTRUCT_NAME.search(a) and not _THINKING_NAME.search(b):
        return f"{a} is given as Instruct, {b} as Thinking"
    return None
