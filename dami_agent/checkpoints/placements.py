"""List the ways a pair could run: devices, dtypes and weights modes that were requested, best first, with reasons.

Says nothing about what fits; ``plan`` tries these in order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dami_agent.checkpoints.memory import ITEMSIZE, RESERVE, Shapes, computes_bfloat16, gigabytes
from dami_agent.errors import UsageError
from dami_agent.types import WeightsMode

MIXED_FAMILIES = frozenset({"qwen2", "qwen3", "llama"})  # model types whose every linear is mixed by `weights`
SMALL = 256 << 20  # bytes: a model whose float32 weights take less runs in float32 on the CPU
# The same on a CPU without bfloat16 units: it reads prompts four times as fast in float32, and decodes no slower up to
# here. One request of a larger model waits for its weights' bytes, whatever computes.
SMALL_WITHOUT_UNITS = 4 << 30


@dataclass(frozen=True, slots=True)
class Placement:
    """Describes one way to run: where, in which dtype and mode, with reasons, and the bytes free there."""

    device: str
    dtype: str
    mode: WeightsMode
    free: int
    why: Mapping[str, str]
    spread: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{' + '.join(self.spread) or self.device}, {self.mode}, {self.dtype}"


def refuse(dtype: str, mode: str, family: str, context_length: int | None, limit: int | None) -> None:
    """Refuse settings that no machine could satisfy.

    Args:
        dtype, mode: as requested; ``auto`` is always possible.
        family: the model type.
        context_length: tokens requested, if any.
        limit: tokens the checkpoints were made for, if they say.

    Raises:
        UsageError: a setting that is unknown or impossible.
    """
    if dtype != "auto" and dtype not in ITEMSIZE:
        raise UsageError(f"unknown dtype {dtype!r}", hint=f"auto, {', '.join(ITEMSIZE)}")
    if mode not in ("auto", "merged", "mixed"):
        raise UsageError(f"unknown weights mode {mode!r}", hint="auto, merged or mixed")
    if mode == "mixed" and family not in MIXED_FAMILIES:
        raise UsageError(
            f"mixed weights are not available for model type {family!r}",
            hint=f"use mode='merged'; mixed knows {', '.join(sorted(MIXED_FAMILIES))}",
        )
    if context_length is not None and context_length < 1:
        raise UsageError(f"context_length must be at least 1, got {context_length}", hint="omit it to have it chosen")
    if context_length is not None and limit is not None and context_length > limit:
        raise UsageError(
            f"context_length {context_length} is more than the {limit} tokens the checkpoints were made for",
            hint=f"ask for at most {limit}",
        )


def placements(
    shapes: Shapes, family: str, device: str, dtype: str, mode: str, free: Mapping[str, int]
) -> Iterator[Placement]:
    """Yield all placements allowed, best first: one accelerator, several, then the CPU; mixed before merged.

    Args:
        shapes: the pair's sizes.
        family: the model type.
        device, dtype, mode: as requested, or ``auto``.
        free: bytes free per device.

    Raises:
        UsageError: a device that this machine does not have.
    """
    accelerators = [name for name in free if name != "cpu"]
    for name, why_device in _devices(device, free):
        chosen, why_dtype = (dtype, "as asked") if dtype != "auto" else _dtype(shapes, name, free[name])
        for wanted, why_mode in _modes(mode, family):
            why = {"device": why_device, "dtype": why_dtype, "mode": why_mode}
            yield Placement(name, chosen, wanted, free[name], why)
        cudas = tuple(a for a in accelerators if a.startswith("cuda"))
        if len(cudas) > 1 and name == cudas[-1] and ":" not in device and mode != "mixed":
            why = {"device": f"it fits on none of {len(cudas)} GPUs alone: its layers are spread by accelerate"}
            why |= {"dtype": why_dtype, "mode": "merged: mixed runs on one device only"}
            yield Placement(cudas[0], chosen, "merged", sum(free[c] for c in cudas), why, cudas)


def _devices(device: str, free: Mapping[str, int]) -> list[tuple[str, str]]:
    if device == "auto":
        accelerators = [
            (n, f"the accelerator with most free memory ({gigabytes(free[n])})") for n in free if n != "cpu"
        ]
        cpu = "no accelerator found" if not accelerators else "it fits on no accelerator"
        return (
            accelerators[:1]
            + [(n, "the next accelerator") for n, _ in accelerators[1:]]
            + [("cpu", cpu)] * ("cpu" in free)
        )
    named = [n for n in free if n == device or n.startswith(f"{device}:")]
    if not named:
        raise UsageError(f"there is no device {device!r} here", hint=f"auto, {', '.join(free)}")
    return [(n, "as asked") for n in named]


def _dtype(shapes: Shapes, device: str, free: int) -> tuple[str, str]:
    if device == "cpu":
        wide = shapes.weights("float32")
        if wide <= SMALL:
            return "float32", "small enough for float32, which is exact and fast on a CPU"
        if wide <= SMALL_WITHOUT_UNITS and 3 * wide <= free * (1 - RESERVE) and not computes_bfloat16(device):
            return "float32", "this CPU has no bfloat16 units, and float32 fits"
        if shapes.stored in ITEMSIZE:
            return (
                shapes.stored,
                "the files' own dtype: weights stay memory-mapped, and decoding is bound by memory traffic",
            )
        return "float32", f"the files' {shapes.stored} is wider than any dtype run here"
    if computes_bfloat16(device):
        return "bfloat16", f"{device} computes bfloat16 natively"
    if 3 * shapes.weights("float32") <= free * (1 - RESERVE):
        return "float32", f"{device} has no bfloat16 units, and float32 fits"
    return "float16", f"{device} has no bfloat16 units, and float32 does not fit; float16 may overflow on rare inputs"


def _modes(mode: str, family: str) -> list[tuple[WeightsMode, str]]:
    if mode == "mixed":
        return [("mixed", "as asked")]
    if mode == "merged":
        return [("merged", "as asked")]
    if family not in MIXED_FAMILIES:
        return [("merged", f"mixed batches are not available for model type {family!r}: one intensity at a time")]
    return [
        ("mixed", "both endpoints fit: requests of different intensity share a batch, and no switch is needed"),
        ("merged", "mixed does not fit: one working copy, rebuilt when the intensity changes"),
    ]
