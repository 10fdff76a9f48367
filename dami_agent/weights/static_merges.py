"""Merge two checkpoints once and for all, in the ways that people merge models: what a λ per request has to beat.

Every way maps the tensors of one name (Instruct's, Thinking's and, where it starts from there, the base model's) to
the merged one, in float32:

- ``linear``: θ_I + λ·(θ_T − θ_I), the path of this package.
- ``slerp``: along the arc between the two, taken as vectors (Shoemake 1985); straight where they are parallel.
- ``task arithmetic``: θ_B + a·(θ_I − θ_B) + b·(θ_T − θ_B) (arXiv 2212.04089).
- ``ties``: of both differences from the base the largest entries are kept, each entry takes the sign of their weighted
  sum, and the mean of those that have it is added to the base (arXiv 2306.01708).
- ``null space``: θ_I + (1 − P)·(θ_T − θ_I), P being the projection on the leading left singular directions of θ_I
  (S³, arXiv 2609.37976; our reading: a share of the directions, vectors added whole).
- ``split``: linear, with a λ for attention and one for the feed-forward layers; their mean elsewhere.
- :func:`by_layer`: linear, with a λ for each layer, that something measured has chosen; their mean elsewhere.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from dami_agent.checkpoints import CheckpointPair
from dami_agent.errors import UsageError
from dami_agent.weights.modules import place_of

__all__ = ["MERGES", "StaticMerge", "by_layer", "write_merge"]

_PARALLEL = 0.9995
"""Cosine from which on two vectors are taken as parallel."""
_TINY = 1e-8

Rule = Callable[[str, Tensor, Tensor, Tensor | None], Tensor]
"""Name of a tensor, Instruct's, Thinking's and the base's, float32 all three -> the merged one."""


@dataclass(frozen=True, slots=True)
class StaticMerge:
    """Say how to merge.

    Attributes:
        method: as the module's docstring calls it.
        settings: its numbers, for people.
        rule: what is done to each tensor.
        needs_base: it starts from the base model.
    """

    method: str
    settings: str
    rule: Rule = field(repr=False, compare=False)
    needs_base: bool = False

    @property
    def name(self) -> str:
        """Return method and settings: ``slerp t=0.4``."""
        return f"{self.method} {self.settings}"


def linear(instruct: Tensor, thinking: Tensor, weight: float) -> Tensor:
    """Interpolate on the straight line; ``weight`` 0 is Instruct."""
    return torch.lerp(instruct, thinking, weight)


def slerp(instruct: Tensor, thinking: Tensor, t: float) -> Tensor:
    """Interpolate on the arc between two tensors taken as vectors; on the line where they are parallel or one is 0."""
    norms = [max(float(torch.linalg.vector_norm(each)), _TINY) for each in (instruct, thinking)]
    cosine = float((instruct.flatten() / norms[0]) @ (thinking.flatten() / norms[1]))
    if abs(cosine) > _PARALLEL:
        return linear(instruct, thinking, t)
    angle = math.acos(max(-1.0, min(1.0, cosine)))
    return (math.sin((1 - t) * angle) * instruct + math.sin(t * angle) * thinking) / math.sin(angle)


def task_arithmetic(base: Tensor, instruct: Tensor, thinking: Tensor, a: float, b: float) -> Tensor:
    """Add both differences from the base, ``a`` times Instruct's and ``b`` times Thinking's."""
    return base + a * (instruct - base) + b * (thinking - base)


def trimmed(delta: Tensor, density: float) -> Tensor:
    """Zero all but the largest entries; ``density``, above 0, is the share that stays, at least one of them."""
    if density >= 1:
        return delta
    count = max(1, int(density * delta.numel()))
    kept = torch.zeros(delta.numel(), dtype=torch.bool)
    kept[delta.abs().flatten().topk(count).indices] = True
    return delta * kept.view(delta.shape)


def ties(base: Tensor, instruct: Tensor, thinking: Tensor, density: float, t: float) -> Tensor:
    """Trim, elect signs and take the weighted mean of what agrees with them.

    Args:
        base, instruct, thinking: of one shape.
        density: share of the entries of each difference that are kept.
        t: weight of Thinking's difference; Instruct's is 1 − t.
    """
    deltas = torch.stack([trimmed(each - base, density) for each in (instruct, thinking)])
    weights = torch.tensor([1 - t, t]).view(2, *[1] * base.dim())
    weighted = deltas * weights
    elected = torch.where(weighted.sum(dim=0) >= 0, 1.0, -1.0)
    agrees = weighted.sign() == elected
    total = (weights * agrees).sum(dim=0)
    return base + (weighted * agrees).sum(dim=0) / torch.where(total == 0, 1.0, total)


def null_space(instruct: Tensor, thinking: Tensor, share: float) -> Tensor:
    """Add of the difference what lies outside the leading left singular directions of Instruct's matrix.

    Args:
        instruct, thinking: matrices; tensors of another rank are Thinking's as they are.
        share: of the directions that are left to Instruct, in [0, 1].
    """
    if instruct.dim() != 2:
        return thinking
    directions, _, _ = torch.linalg.svd(instruct, full_matrices=False)
    leading = directions[:, : round(share * directions.shape[1])]
    delta = thinking - instruct
    kept: Tensor = instruct + delta - leading @ (leading.T @ delta)
    return kept


def split(name: str, instruct: Tensor, thinking: Tensor, attention: float, ffn: float) -> Tensor:
    """Interpolate at one λ in attention, at another one in feed-forward layers, at their mean elsewhere."""
    weight = {"attention": attention, "ffn": ffn}.get(place_of((name,)).kind, (attention + ffn) / 2)
    return linear(instruct, thinking, weight)


def _linear(value: float) -> StaticMerge:
    return StaticMerge("linear", f"λ={value:g}", lambda _name, i, t, _base: linear(i, t, value))


def _slerp(value: float) -> StaticMerge:
    return StaticMerge("slerp", f"t={value:g}", lambda _name, i, t, _base: slerp(i, t, value))


def _arithmetic(a: float, b: float) -> StaticMerge:
    def rule(_name: str, instruct: Tensor, thinking: Tensor, base: Tensor | None) -> Tensor:
        assert base is not None
        return task_arithmetic(base, instruct, thinking, a, b)

    return StaticMerge("task arithmetic", f"a={a:g} b={b:g}", rule, needs_base=True)


def _ties(density: float, t: float) -> StaticMerge:
    def rule(_name: str, instruct: Tensor, thinking: Tensor, base: Tensor | None) -> Tensor:
        assert base is not None
        return ties(base, instruct, thinking, density, t)

    return StaticMerge("ties", f"density={density:g} t={t:g}", rule, needs_base=True)


def _null_space(share: float) -> StaticMerge:
    return StaticMerge("null space", f"ρ={share:g}", lambda _name, i, t, _base: null_space(i, t, share))


def _split(attention: float, ffn: float) -> StaticMerge:
    settings = f"attention={attention:g} ffn={ffn:g}"
    return StaticMerge("split", settings, lambda name, i, t, _base: split(name, i, t, attention, ffn))


def by_layer(method: str, settings: str, weights: Sequence[float]) -> StaticMerge:
    """Interpolate each layer at a λ of its own.

    Args:
        method, settings: what people know it by.
        weights: λ of each layer, from the first; their mean is taken outside of layers.
    """
    mean = sum(weights) / len(weights)

    def rule(name: str, instruct: Tensor, thinking: Tensor, _base: Tensor | None) -> Tensor:
        layer = place_of((name,)).layer
        return linear(instruct, thinking, mean if layer is None else weights[layer])

    return StaticMerge(method, settings, rule)


MERGES: tuple[StaticMerge, ...] = (
    *map(_linear, (0.2, 0.4, 0.6, 0.8, 1.0)),
    *map(_slerp, (0.2, 0.4, 0.6, 0.8)),
    *(_arithmetic(a, b) for a, b in ((0.5, 0.7), (0.3, 1.0), (0.6, 1.0), (1.0, 1.0))),
    *(_ties(density, t) for density in (0.2, 0.5, 0.8) for t in (0.5, 0.8)),
    *map(_null_space, (0.2, 0.5, 0.8)),
    *(_split(a, f) for a, f in ((0.3, 0.7), (0.7, 0.3), (0.6, 1.0), (1.0, 0.6))),
)
"""What is tried: each way from little to much of Thinking."""


def write_merge(merge: StaticMerge, pair: CheckpointPair, base: Path | None, folder: Path) -> None:
    """Write a merged checkpoint, tensor by tensor in Instruct's dtype, with Thinking's texts beside it.

    Args:
        merge: how.
        pair: verified, both from local folders.
        base: folder of the checkpoint that both were tuned from, where the way starts from it.
        folder: is made.

    Raises:
        UsageError: the way needs the base, and there is none, or it lacks a tensor or has one of another shape.
    """
    if merge.needs_base and base is None:
        raise UsageError(f"{merge.name} starts from the base model", hint="--base names its folder")
    instruct, thinking = (_Tensors(Path(each.path)) for each in (pair.instruct, pair.thinking))
    below = _Tensors(base) if merge.needs_base and base is not None else None
    merged: dict[str, Tensor] = {}
    for name in instruct.files:
        own = instruct.get(name)
        if not own.is_floating_point():
            merged[name] = own
            continue
        start = None if below is None else below.get(name)
        if start is not None and start.shape != own.shape:
            raise UsageError(f"{base}: {name} has the shape {tuple(start.shape)}, in the pair {tuple(own.shape)}")
        found = merge.rule(name, own.float(), thinking.get(name).float(), None if start is None else start.float())
        merged[name] = found.to(own.dtype).contiguous()
    folder.mkdir(parents=True)
    for text in Path(pair.thinking.path).iterdir():
        if text.suffix in (".json", ".jinja", ".txt", ".model") and not text.name.endswith(".index.json"):
            shutil.copy(text, folder / text.name)
    save_file(merged, folder / "model.safetensors", metadata={"format": "pt"})


class _Tensors:
    """Reads tensors by name from all safetensors files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.files: dict[str, Path] = {}
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(str(path), framework="pt") as file:
                self.files |= dict.fromkeys(file.keys(), path)
        if not self.files:
            raise UsageError(f"{folder} holds no safetensors weights", hint="name the folder of a checkpoint")

    def get(self, name: str) -> Tensor:
        """Return a tensor as it is stored.

        Raises:
            UsageError: there is none of that name.
        """
        if name not in self.files:
            raise UsageError(f"{self._folder} has no tensor {name!r}", hint="all three must be of one architecture")
        with safe_open(str(self.files[name]), framework="pt") as file:
            found: Tensor = file.get_tensor(name)
            return found
