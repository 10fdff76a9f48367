"""Run every batch row at its own λ: both endpoints stay whole, and the modules of one model read from both."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from dami_agent.checkpoints.placements import MIXED_FAMILIES
from dami_agent.errors import UnsupportedCheckpoint, UsageError
from dami_agent.types import Intensity, WeightsMode, require_one
from dami_agent.types.intensity import USE_MERGED
from dami_agent.weights.base import Weights, unique_nbytes
from dami_agent.weights.batch_intensities import BatchIntensities, MixedEmbedding, MixedLinear, MixedRMSNorm
from dami_agent.weights.endpoints import read_config
from dami_agent.weights.norms import NORMS


def supports_mixed(config: Mapping[str, Any] | Any) -> bool:
    """Return whether a model of this configuration (``config.json``, or transformers' object) runs mixed."""
    kind = config.get("model_type") if isinstance(config, Mapping) else getattr(config, "model_type", None)
    return kind in MIXED_FAMILIES


def require_mixed_support(folder: Path) -> None:
    """Raise :class:`UsageError` for a checkpoint whose architecture runs merged only."""
    config = read_config(folder)
    if not supports_mixed(config):
        raise UsageError(
            f"{folder}: {config.get('model_type')!r} runs merged only; mixed needs {', '.join(sorted(MIXED_FAMILIES))}",
            hint="choose mode='merged'",
        )


class MixedWeights(Weights):
    """θ(λ) per row: costs two matmuls where merged costs one, but no switch, whatever λ the rows have."""

    mode: WeightsMode = "mixed"

    def __init__(
        self, instruct: PreTrainedModel, thinking: PreTrainedModel, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__(instruct, device=device, dtype=dtype)
        self._batch = BatchIntensities(device)
        self._ends: list[tuple[torch.Tensor, torch.Tensor]] = []
        replace_modules(instruct, thinking, self._batch)
        for module in instruct.modules():
            if isinstance(module, (MixedLinear, MixedEmbedding, MixedRMSNorm)):
                self._ends.append((module.weight, module.weight_thinking))
            if isinstance(module, MixedLinear) and module.bias is not None and module.bias_thinking is not None:
                self._ends.append((module.bias, module.bias_thinking))

    def nbytes(self) -> dict[str, int]:
        """Return the bytes of the two endpoints; there is no working copy."""
        instruct, thinking = zip(*self._ends, strict=True)
        return {"instruct": unique_nbytes(instruct), "thinking": unique_nbytes(thinking), "working": 0}

    def _prepare(self, intensities: tuple[Intensity, ...]) -> None:
        for intensity in intensities:
            require_one(intensity, "mixed weights run every row at", USE_MERGED)
        start = time.perf_counter()
        self._batch.set(intensities)
        self.switch_seconds += time.perf_counter() - start

    def _leave(self) -> None:
        self._batch.clear()


def replace_modules(instruct: nn.Module, thinking: nn.Module, batch: BatchIntensities) -> None:
    """Put a mixed module in place of every linear, embedding and norm of ``instruct``.

    Raises:
        UnsupportedCheckpoint: a module with parameters or saved buffers that none of the mixed modules stands for.
    """
    others = dict(thinking.named_modules())
    unknown: list[str] = []
    for name, module in list(instruct.named_modules()):
        saved_buffers = module._buffers.keys() - module._non_persistent_buffers_set
        if not module._parameters and not saved_buffers:
            continue
        mixed = _mixed_module(module, others[name], batch)
        if mixed is None:
            unknown.append(f"{name} ({type(module).__name__})")
        else:
            instruct.set_submodule(name, mixed)
    if unknown:
        raise UnsupportedCheckpoint(
            f"no mixed form is known for {', '.join(unknown)}",
            hint="choose mode='merged', and report the architecture and transformers version",
        )


def _mixed_module(instruct: nn.Module, thinking: nn.Module, batch: BatchIntensities) -> nn.Module | None:
    """Return the mixed form of a module, or None. Exact types only: a subclass may compute something else."""
    if type(instruct) is not type(thinking):
        return None
    if type(instruct) is nn.Linear and isinstance(thinking, nn.Linear):
        return MixedLinear(instruct, thinking, batch)
    if type(instruct) is nn.Embedding and isinstance(thinking, nn.Embedding):
        return MixedEmbedding(instruct, thinking, batch)
    if type(instruct) in NORMS:
        return MixedRMSNorm(instruct, thinking, batch)
    return None
