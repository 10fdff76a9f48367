"""Hold what heads are fitted to and judged by: features of prompts, and how right and long replies to them were."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from typing_extensions import Self

from dami_agent.errors import InvalidRequest
from dami_agent.estimators.head import READ_STATES, Kind, Reads
from dami_agent.types import Intensity

__all__ = ["Samples"]

_FORMAT = "dami-samples-2"
_TENSORS = ("states", "probes", "entropies", "probe_tokens", "tools", "groups", "right", "tokens")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """Holds features of prompts, and the replies to them at several λs.

    Attributes:
        layers: whose states were read.
        states: float32 [prompts, layers, 2 · hidden size], of each layer the last token's state and the mean.
        probes: float32 [prompts, features], as :func:`~dami_agent.estimators.head.probe_vector` has them.
        entropies: float32 [prompts, features], as :func:`~dami_agent.estimators.head.entropy_vector` has them.
        probe_tokens: float32 [prompts], tokens of Instruct's probe.
        tools: float32 [prompts], 1 where tools are bound.
        groups: float32 [prompts], equal for prompts that hang together: the steps of one task, a question asked twice.
        lambdas: ascending; the last is Thinking's.
        right: float32 [prompts, λs], share of the tries whose reply was right.
        tokens: float32 [prompts, λs], mean output tokens.
        read_at: λ that the states were read at.

    Raises:
        InvalidRequest: the shapes do not belong together.
    """

    layers: tuple[int, ...]
    states: torch.Tensor
    probes: torch.Tensor
    entropies: torch.Tensor
    probe_tokens: torch.Tensor
    tools: torch.Tensor
    groups: torch.Tensor
    lambdas: tuple[Intensity, ...]
    right: torch.Tensor
    tokens: torch.Tensor
    read_at: Intensity = Intensity(0)

    def __post_init__(self) -> None:
        n, wide = len(self.states), (len(self.states), len(self.lambdas))
        rows = {name: (n, *getattr(self, name).shape[1:]) for name in ("probes", "entropies")}
        shapes = {**rows, "probe_tokens": (n,), "tools": (n,), "groups": (n,)}
        for name, shape in {**shapes, "right": wide, "tokens": wide}.items():
            if tuple(getattr(self, name).shape) != shape:
                raise InvalidRequest(f"{name} has the shape {tuple(getattr(self, name).shape)}, not {shape}")
        if self.states.shape[1] != len(self.layers):
            raise InvalidRequest(f"states are of {self.states.shape[1]} layers, and {len(self.layers)} are named")

    def __len__(self) -> int:
        return len(self.states)

    def features(self, reads: Reads, layers: Sequence[int] = ()) -> torch.Tensor:
        """Return what a head reads: numbers of probes, the states of some layers in a row, or both; float32."""
        if reads not in READ_STATES:
            return self.probes if reads == "probe" else self.entropies
        states = self.states[:, [self.layers.index(layer) for layer in layers]].flatten(1)
        return states if reads == "states" else torch.cat([self.probes, states], dim=1)

    def overhead(self, reads: Reads) -> torch.Tensor:
        """Return the output tokens that reading costs, unless λ=0 is chosen: float32 [prompts]."""
        return torch.zeros(len(self)) if reads == "states" else self.probe_tokens

    def of(self, kind: Kind) -> Self:
        """Return the samples of prompts with tools, or of those without."""
        return self.chosen((self.tools > 0.5) == (kind == "tools"))

    def chosen(self, mask: torch.Tensor) -> Self:
        """Return the samples of some prompts; ``mask`` is bool [prompts]."""
        parts = {name: getattr(self, name)[mask] for name in _TENSORS}
        return dataclasses.replace(self, **parts)

    def save(self, path: Path, of: str) -> None:
        """Write a safetensors file; ``of`` identifies what was sampled: the pair, what it was asked, and how."""
        said = {
            "format": _FORMAT,
            "of": of,
            "layers": " ".join(map(str, self.layers)),
            "lambdas": " ".join(f"{float(value)!r}" for value in self.lambdas),
            "read_at": repr(float(self.read_at)),
        }
        save_file({name: getattr(self, name).float().contiguous() for name in _TENSORS}, path, metadata=said)

    @classmethod
    def load(cls, path: Path, of: str) -> Self:
        """Read what :meth:`save` wrote of the same.

        Raises:
            InvalidRequest: it is no such file, or holds something else.
        """
        try:
            with safe_open(str(path), framework="pt") as file:
                said = file.metadata() or {}
                if said.get("format") != _FORMAT:
                    raise ValueError(f"its format is {said.get('format')!r}, not {_FORMAT!r}")
                found = cls(
                    layers=tuple(map(int, said["layers"].split())),
                    lambdas=tuple(Intensity(float(value)) for value in said["lambdas"].split()),
                    read_at=Intensity(float(said.get("read_at", 0))),  # samples of before were read at 0
                    **{name: file.get_tensor(name) for name in _TENSORS},
                )
                same = said["of"] == of
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise InvalidRequest(
                f"{path} cannot be read as samples: {type(error).__name__}: {error}",
                hint="name another file, to sample anew",
            ) from error
        if not same:
            raise InvalidRequest(
                f"the samples in {path} are of another pair, of other prompts, or were drawn at other settings",
                hint="name another file, to sample anew",
            )
        return found
