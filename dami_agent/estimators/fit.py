"""Fit heads to samples: what is known of some prompts, and how right and long a pair's replies were at some λs.

- Features are standardised; of hidden states, the first principal components are taken, each of unit variance. A head
  on both begins with the probe's numbers as they are.
- P(right | λ) is a logistic regression for each λ, L2-regularised, on the share of right tries; tokens(λ) a ridge
  regression on the logarithm of their mean, corrected to the arithmetic mean (Duan's smearing). Both are fitted whole,
  on the CPU, in seconds.
- Replies at neighbouring λs above 0 are much the same, and the differences between their weights are regularised too
  (a fused ridge): fitted apart, the λ that looks best for a prompt is often the one whose noise is greatest.
- Layers, number of components and regularisation are those with the least log loss on folds left out in turn, then how
  far neighbours are pulled together. Prompts that hang together (the steps of one task) are left out together.
- What each price comes to (:class:`~dami_agent.estimators.head.PricePoint`) is counted on the same folds: every
  prompt is judged by a head that was fitted without it (of settings that were chosen with it).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from dami_agent.errors import InvalidRequest
from dami_agent.estimators import judge
from dami_agent.estimators.head import READ_STATES, Head, Kind, Reads, vector_of
from dami_agent.estimators.heads import Heads
from dami_agent.estimators.regression import logistic, ridge
from dami_agent.estimators.samples import Samples

__all__ = ["LEAST", "check_count", "fit_head", "fit_heads"]

READS: tuple[Reads, ...] = ("states", "probe", "joint", "entropy")
KINDS: tuple[Kind, ...] = ("plain", "tools")

_FOLDS = 5
_COMPONENTS = (16, 32, 64)
_PENALTIES = (0.3, 1.0, 3.0, 10.0)
_FUSIONS = (10.0, 100.0, 1000.0)  # beside none
LEAST = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setting:
    """Hold what is chosen on the folds."""

    layers: tuple[int, ...]
    components: int
    penalty: float
    fusion: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Basis:
    """Hold how features become numbers of unit variance: those of probes, then the most telling of hidden states."""

    center: torch.Tensor
    scale: torch.Tensor
    components: torch.Tensor


def fit_heads(samples: Samples, fingerprint: str, *, seed: int = 0) -> Heads:
    """Fit a head for each kind of prompt of which there are enough samples, on all that heads read.

    Args:
        samples: at least a hundred of one kind.
        fingerprint: of the pair.
        seed: of the folds.

    Raises:
        InvalidRequest: there are too few of every kind.
    """
    parts: dict[Kind, Samples] = {kind: samples.of(kind) for kind in KINDS}
    check_count(max(map(len, parts.values())))
    found = [
        fit_head(part, reads, kind, seed=seed) for kind, part in parts.items() if len(part) >= LEAST for reads in READS
    ]
    return Heads(fingerprint=fingerprint, heads=tuple(found))


def fit_head(samples: Samples, reads: Reads, kind: Kind = "plain", *, seed: int = 0) -> Head:
    """Fit one head, and count what it comes to on folds left out.

    Args:
        samples: at least a hundred prompts.
        reads: what of them it reads.
        kind: what prompts they are.
        seed: of the folds.

    Raises:
        InvalidRequest: there are too few.
    """
    check_count(len(samples))
    setting, (right, tokens) = _choose(samples, reads, _folds(samples.groups, seed))
    chosen = torch.ones(len(samples), dtype=torch.bool)
    features = samples.features(reads, setting.layers)
    head = _fit(samples, features, chosen, _basis(features, _told(reads)), setting)
    head = dataclasses.replace(head, reads=reads, kind=kind)
    if reads in READ_STATES:
        head = dataclasses.replace(head, read_at=samples.read_at)
    card = {
        "prompts": len(samples),
        "groups": torch.unique(samples.groups).numel(),
        "layers": list(setting.layers),
        "components": head.components.shape[1],
        "penalty": setting.penalty,
        "fusion": setting.fusion,
        **judge.report(samples, right, tokens),
    }
    return dataclasses.replace(head, prices=judge.points(samples, head, right, tokens), card=card)


def check_count(count: int, told: str = "") -> None:
    """Refuse to fit a head to fewer than a hundred prompts; to be checked before they are answered.

    Args:
        count: prompts.
        told: said of them.

    Raises:
        InvalidRequest: there are fewer.
    """
    if count < LEAST:
        raise InvalidRequest(f"{count} prompts{told} are too few to train a head on", hint=f"give at least {LEAST}")


def _folds(groups: torch.Tensor, seed: int) -> list[torch.Tensor]:
    """Divide the prompts, those of one group together: int64 places of each fold."""
    names, members = torch.unique(groups, return_inverse=True)
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))
    fold = torch.empty(len(names), dtype=torch.long)
    fold[order] = torch.arange(len(names)) % _FOLDS
    return [(fold[members] == number).nonzero().flatten() for number in range(min(_FOLDS, len(names)))]


def _layer_sets(layers: Sequence[int]) -> list[tuple[int, ...]]:
    """Return what is tried: four layers evenly spaced, the last four, the middle four, and the last alone."""
    n = len(layers)
    if n <= 4:
        return list(dict.fromkeys([tuple(layers), (layers[-1],)]))
    even = tuple(layers[round((i + 1) * (n - 1) / 4)] for i in range(4))
    middle = tuple(layers[(n - 4) // 2 : (n - 4) // 2 + 4])
    return list(dict.fromkeys([even, tuple(layers[-4:]), middle, (layers[-1],)]))


def _choose(
    samples: Samples, reads: Reads, folds: Sequence[torch.Tensor]
) -> tuple[_Setting, tuple[torch.Tensor, torch.Tensor]]:
    """Choose the setting with the least log loss on the folds, and return its predictions there."""
    layer_sets = _layer_sets(samples.layers) if reads in READ_STATES else [()]
    told = _told(reads)
    kept = [torch.ones(len(samples), dtype=torch.bool).index_fill(0, fold, False) for fold in folds]
    found = []
    for layers in layer_sets:
        features = samples.features(reads, layers)
        bases = [_basis(features[mask], told) for mask in kept]  # one decomposition serves all settings

        def tried(setting: _Setting, features: torch.Tensor = features, bases: list[_Basis] = bases) -> _Tried:
            right, tokens = torch.empty_like(samples.right), torch.empty_like(samples.tokens)
            for fold, mask, basis in zip(folds, kept, bases, strict=True):
                head = _fit(samples, features, mask, basis, setting)
                right[fold], tokens[fold] = head.predict(features[fold])
            return _Tried(judge.log_loss(right, samples.right), setting, right, tokens)

        most = bases[0].components.shape[1]
        sizes = sorted({min(most, told + size) for size in (_COMPONENTS if reads in READ_STATES else (0,))})
        best = _least(
            tried(_Setting(layers=layers, components=components, penalty=penalty))
            for components, penalty in itertools.product(sizes, _PENALTIES)
        )
        fused = [tried(dataclasses.replace(best.setting, fusion=fusion)) for fusion in _FUSIONS]
        found.append(_least([best, *fused]))
    chosen = _least(found)
    return chosen.setting, (chosen.right, chosen.tokens)


class _Tried(NamedTuple):
    """Hold what a setting came to on the folds left out; right and tokens are float32 [prompts, λs]."""

    log_loss: float
    setting: _Setting
    right: torch.Tensor
    tokens: torch.Tensor


def _least(tried: Iterable[_Tried]) -> _Tried:
    return min(tried, key=lambda each: each.log_loss)


def _told(reads: Reads) -> int:
    """Return how many of what a head reads, the first, are numbers of a probe."""
    return 0 if reads == "states" else len(vector_of(reads, {}))


def _basis(features: torch.Tensor, told: int) -> _Basis:
    """Standardise; of hidden states, find the first principal components, scaled to unit variance.

    Args:
        features: float [prompts, features].
        told: how many of them, the first, are a probe's and stay as they are; the others are hidden states.
    """
    values = features.double()
    center, scale = values.mean(dim=0), values.std(dim=0).clamp(min=1e-6)
    probe = torch.eye(told, dtype=torch.float64)
    normed = ((values - center) / scale)[:, told:]
    states = _principal(normed) if normed.shape[1] else torch.empty(0, 0, dtype=torch.float64)
    return _Basis(center=center, scale=scale, components=torch.block_diag(probe, states))  # type: ignore[no-untyped-call]


def _principal(normed: torch.Tensor) -> torch.Tensor:
    """Return the first principal components of standardised features as columns that make unit variance of them.

    Args:
        normed: float64 [prompts, features].
    """
    k = min(max(_COMPONENTS), *normed.shape)
    # The first singular vectors, by way of the smaller of the two Gram matrices: there are thousands of features.
    wide = normed.shape[1] > normed.shape[0]
    squares, vectors = torch.linalg.eigh(normed @ normed.T if wide else normed.T @ normed)
    singular = squares.flip(0)[:k].clamp(min=1e-12).sqrt()
    vectors = vectors.flip(1)[:, :k]
    vectors = normed.T @ vectors / singular if wide else vectors
    found: torch.Tensor = vectors / (singular / len(normed) ** 0.5).clamp(min=1e-6)
    return found


def _fit(samples: Samples, features: torch.Tensor, chosen: torch.Tensor, basis: _Basis, setting: _Setting) -> Head:
    """Fit one head to the chosen prompts; ``chosen`` is bool [prompts]."""
    components = basis.components[:, : setting.components]
    x = ((features[chosen].double() - basis.center) / basis.scale) @ components
    x = torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], dim=1)
    right = logistic(x, samples.right[chosen].double(), setting.penalty, setting.fusion * _alike(samples.lambdas))
    length = ridge(x, logs := samples.tokens[chosen].double().clamp(min=1).log(), setting.penalty)
    length[-1] += (logs - x @ length).exp().mean(dim=0).log()  # from the geometric to the arithmetic mean (smearing)
    return Head(
        reads="states",  # this and the kind are what the caller says
        kind="plain",
        layers=setting.layers,
        lambdas=samples.lambdas,
        center=basis.center.float(),
        scale=basis.scale.float(),
        components=components.float(),
        right=right.float(),
        length=length.float(),
        thinking_tokens=float(samples.tokens[:, -1].mean()),
    )


def _alike(lambdas: Sequence[float]) -> torch.Tensor:
    """Return 1 for each λ but the last whose replies resemble the next one's, float64 [λs - 1].

    That is for all but λ=0: Instruct alone answers under a template of its own.
    """
    return torch.tensor([float(value > 0) for value in lambdas[:-1]], dtype=torch.float64)
