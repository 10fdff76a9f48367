"""Plan where and how a pair will run: device, dtype, weights mode and context length, each with the reason for it.

Nothing is loaded. Explicit settings are honoured or rejected, never adjusted; what is ``"auto"`` is chosen so that
it fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dami_agent.checkpoints.guard import guarded
from dami_agent.checkpoints.memory import ITEMSIZE, RESERVE, MemoryNeed, Shapes, free_memory, gigabytes, shapes_of
from dami_agent.checkpoints.placements import MIXED_FAMILIES, Placement, placements, refuse
from dami_agent.errors import InsufficientMemory
from dami_agent.types import WeightsMode

if TYPE_CHECKING:
    from dami_agent.checkpoints.pair import CheckpointPair

SIZES = "compare config.json with the family's published one"
ENOUGH_CONTEXT = 8192  # tokens: an automatic mode must leave room for this many, or it is passed over
UNSTATED_CONTEXT = 4096  # tokens, for a config that states no maximum


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Says how a pair will be loaded, what it takes, and why.

    Attributes:
        device: ``cpu``, ``cuda:0``, ``mps``…; of the embedding when there is a ``device_map``.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        mode: ``merged`` or ``mixed``.
        context_length: tokens that one request may hold, prompt and output together.
        device_map: module → device when the layers are spread over several accelerators, else None.
        weights_bytes: one model's weights in ``dtype``.
        needs: what each weights mode would take on this device; a mode the architecture lacks is left out.
        kv_bytes_per_token: of one request.
        activation_bytes: an estimate for one prefill.
        available: bytes free per device; a tenth of it is left alone.
        reasons: why, for ``device``, ``dtype``, ``mode`` and ``context_length``.
    """

    device: str
    dtype: str
    mode: WeightsMode
    context_length: int
    device_map: Mapping[str, int | str] | None = None
    weights_bytes: int
    needs: Mapping[WeightsMode, MemoryNeed]
    kv_bytes_per_token: int
    activation_bytes: int
    available: Mapping[str, int]
    reasons: Mapping[str, str] = field(default_factory=dict)

    @property
    def kv_bytes(self) -> int:
        """Count the bytes of the KV cache of one request at its full context length."""
        return self.kv_bytes_per_token * self.context_length

    @property
    def total_bytes(self) -> int:
        """Add up what must be in memory: the mode's weights, one full request's KV cache, activations."""
        return self.needs[self.mode].resident + self.kv_bytes + self.activation_bytes


def plan(
    pair: CheckpointPair,
    *,
    device: str = "auto",
    dtype: str = "auto",
    mode: str = "auto",
    context_length: int | None = None,
    memory: Mapping[str, int] | None = None,
) -> Plan:
    """Choose device, dtype, weights mode and context length for ``pair``; no weight is read.

    Args:
        pair: a verified pair.
        device: ``auto``, ``cpu``, ``cuda`` (the freest one), ``cuda:1``, ``mps``…
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        mode: ``auto``, ``merged`` or ``mixed``.
        context_length: tokens of one request; None: as many as the pair knows and the memory holds.
        memory: bytes free per device, instead of asking the machine.

    Raises:
        UsageError: an unknown device, dtype or mode, mixed for a family that has none, a context beyond the pair's.
        InsufficientMemory: nothing fits; says what was tried, and what would fit.
    """
    with guarded(f"{pair.name}: config.json does not say how large the model is", hint=SIZES):
        shapes, limit = shapes_of(pair), pair.context_length
    family = str(pair.config.get("model_type"))
    refuse(dtype, mode, family, context_length, limit)
    free = free_memory(memory)
    tried: list[str] = []
    fallback: Plan | None = None
    for placement in placements(shapes, family, device, dtype, mode, free):
        found = _fit(pair, shapes, placement, context_length, limit, free, tried)
        if found is None:
            continue
        cramped = context_length is None and found.context_length < min(limit or UNSTATED_CONTEXT, ENOUGH_CONTEXT)
        if not cramped:
            return _explained(found, fallback)
        tried.append(f"{placement}: fits, but leaves room for {found.context_length} tokens of context only")
        if fallback is None or found.context_length > fallback.context_length:
            fallback = found
    if fallback is not None:
        return _explained(fallback, None)
    raise InsufficientMemory(
        f"{pair.name} does not fit on this machine:" + "".join(f"\n  - {line}" for line in tried),
        hint=_what_would_fit(shapes, family, context_length, free),
    )


def _explained(found: Plan, passed_over: Plan | None) -> Plan:
    """Add what only comes to light at the end: what was passed over for the plan, and what a switch may cost."""
    why = found.reasons["mode"]
    if passed_over is not None and passed_over.mode == "mixed" and found.mode == "merged" and why != "as asked":
        why = (
            f"mixed would leave room for only {passed_over.context_length} tokens of context: one working copy instead"
        )
    mapped, free = found.needs[found.mode].mapped, found.available[found.device] * (1 - RESERVE)
    if mapped and found.total_bytes + mapped > free:
        why += f"; the endpoints' {gigabytes(mapped)} do not stay in memory beside it, so a switch may read the disk"
    return replace(found, reasons={**found.reasons, "mode": why})


def _fit(
    pair: CheckpointPair,
    shapes: Shapes,
    placement: Placement,
    wanted: int | None,
    limit: int | None,
    free: Mapping[str, int],
    tried: list[str],
) -> Plan | None:
    """Make the plan for one placement, or return None (and a line in ``tried``) when it does not fit."""
    need = shapes.need(placement.mode, placement.dtype, placement.device)
    per_token = shapes.kv_per_token(placement.dtype)
    usable = int(placement.free * (1 - RESERVE))
    ceiling = wanted or limit or UNSTATED_CONTEXT
    activations = shapes.activations(placement.dtype, placement.mode, ceiling)
    parts = max(1, len(placement.spread))
    room = usable - need.resident - activations * parts
    context = min(ceiling, room // per_token if per_token else ceiling)
    if room <= 0 or context < (wanted or min(ceiling, 256)):
        asked = need.resident + activations * parts + per_token * (wanted or min(ceiling, 256))
        tried.append(f"{placement}: needs {gigabytes(asked)}, {gigabytes(usable)} usable")
        return None
    if wanted is None and context < ceiling:
        context = max(context // 256 * 256, 1)
    device_map = None
    while placement.spread and device_map is None:
        device_map = _spread(pair, shapes, placement, free, activations, per_token * context)
        if device_map is None and (wanted is not None or context <= ENOUGH_CONTEXT):
            tried.append(f"{placement}: accelerate cannot distribute whole layers")
            return None
        context = context if device_map else max(context // 512 * 256, 256)  # whole layers leave gaps: try half
    return Plan(
        device=placement.device,
        dtype=placement.dtype,
        mode=placement.mode,
        context_length=context,
        device_map=device_map,
        weights_bytes=shapes.weights(placement.dtype),
        needs=_needs(shapes, str(pair.config.get("model_type")), placement),
        kv_bytes_per_token=per_token,
        activation_bytes=activations * parts,
        available=free,
        reasons={**placement.why, "context_length": _why_context(context, wanted, limit)},
    )


def _needs(shapes: Shapes, family: str, placement: Placement) -> dict[WeightsMode, MemoryNeed]:
    modes: tuple[WeightsMode, ...] = ("merged", "mixed") if family in MIXED_FAMILIES else ("merged",)
    return {mode: shapes.need(mode, placement.dtype, placement.device) for mode in modes}


def _why_context(context: int, wanted: int | None, limit: int | None) -> str:
    if wanted is not None:
        return "as asked"
    if limit is None:
        return f"the configs state no maximum; {UNSTATED_CONTEXT} is assumed"
    if context == limit:
        return "all that both checkpoints were made for"
    return f"what the memory left holds for one request, of the {limit} that both checkpoints were made for"


def _spread(
    pair: CheckpointPair, shapes: Shapes, placement: Placement, free: Mapping[str, int], activations: int, kv: int
) -> dict[str, int | str] | None:
    """Compute accelerate's distribution of whole layers; every device holds three tensors where it plans for one."""
    from accelerate import infer_auto_device_map

    from dami_agent.checkpoints.layout import empty_model

    model = empty_model(pair.model_config())
    share = kv // len(placement.spread)
    room = {int(d.partition(":")[2]): int(free[d] * (1 - RESERVE)) - activations - share for d in placement.spread}
    budget: dict[int | str, int] = {index: max(size, 0) // 3 for index, size in sorted(room.items())}
    blocks = list(getattr(model, "_no_split_modules", None) or [])
    found = infer_auto_device_map(model, max_memory=budget, no_split_module_classes=blocks, dtype=placement.dtype)
    return None if {"cpu", "disk"} & {str(d) for d in found.values()} else dict(found)


def _what_would_fit(shapes: Shapes, family: str, context_length: int | None, free: Mapping[str, int]) -> str:
    context = context_length or ENOUGH_CONTEXT
    modes: tuple[WeightsMode, ...] = ("merged", "mixed") if family in MIXED_FAMILIES else ("merged",)
    lines = []
    for device in ("cpu", "cuda"):
        for mode in modes:
            dtype = shapes.stored if shapes.stored in ITEMSIZE else "bfloat16"
            need = shapes.need(mode, dtype, device).resident + shapes.activations(dtype, mode, context)
            total = (need + shapes.kv_per_token(dtype) * context) / (1 - RESERVE)
            lines.append(
                (total, f"{gigabytes(total)} free for {mode} in {dtype} on {'the CPU' if device == 'cpu' else 'a GPU'}")
            )
    least = "; ".join(text for _, text in sorted(lines))
    shorter = ", ask for a shorter context_length" if context_length else ""
    return f"with {context} tokens of context it takes {least}: free some memory{shorter}, or choose a smaller pair"
