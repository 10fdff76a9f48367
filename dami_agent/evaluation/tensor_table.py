"""Keep a table of tensors in a safetensors file, so that what was sampled once is read from then on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from safetensors.torch import load_file, save_file
from typing_extensions import Self

__all__ = ["TensorTable"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TensorTable:
    """Has tensors for fields, and nothing else."""

    def save(self, path: Path) -> None:
        """Write a safetensors file, each tensor under its field's name."""
        save_file({field.name: getattr(self, field.name).contiguous() for field in dataclasses.fields(self)}, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote."""
        return cls(**load_file(path))
