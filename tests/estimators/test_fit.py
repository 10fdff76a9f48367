"""Heads of neighbouring λs share what they learn, where the λs are alike, and only there."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from dami_agent.estimators import fit
from dami_agent.estimators.fit import fit_head
from dami_agent.estimators.samples import Samples
from dami_agent.types import Intensity
from tests.estimators.support import drawn

LAMBDAS = tuple(map(Intensity, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)))


def alike(seed: int, *, differing: bool = False) -> tuple[Samples, torch.Tensor]:
    """Prompts whose replies are as often right at every λ above 0 (or, ``differing``, ever more often), and how often.

    Each was tried once: what sets one λ above another for a prompt is chance.
    """
    found = drawn(400, seed=seed)
    rng = torch.Generator().manual_seed(seed + 100)
    z = found.states[:, 3, 2] / 3
    shift = torch.tensor([0.0, 0.0, 0.8, 1.6, 2.4, 3.2]) if differing else torch.tensor([0.0, 2.0, 2.0, 2.0, 2.0, 2.0])
    chance = torch.sigmoid(shift - 2 * z[:, None])
    right = (torch.rand(chance.shape, generator=rng) < chance).float()
    tokens = torch.tensor([10.0, 50, 90, 130, 170, 210]).expand(len(z), 6).clone()
    return dataclasses.replace(found, lambdas=LAMBDAS, right=right, tokens=tokens), chance


def spread(samples: Samples, fused: bool, monkeypatch: pytest.MonkeyPatch) -> float:
    """Return how far a prompt's predictions at λs above 0 lie apart, on average."""
    if not fused:
        monkeypatch.setattr(fit, "_FUSIONS", ())
    head = fit_head(samples, "states")
    right, _ = head.predict(samples.features("states", head.layers))
    return float(right[:, 1:].std(dim=1).mean())


def test_what_chance_set_apart_is_pulled_together(monkeypatch: pytest.MonkeyPatch) -> None:
    samples, _ = alike(0)
    assert fit_head(samples, "states").card["fusion"] > 0
    assert spread(samples, True, monkeypatch) < 0.6 * spread(samples, False, monkeypatch)


def test_what_differs_stays_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    samples, chance = alike(1, differing=True)
    head = fit_head(samples, "states")
    right, _ = head.predict(samples.features("states", head.layers))
    gap = (right[:, -1] - right[:, 1]).mean()
    assert gap == pytest.approx(float((chance[:, -1] - chance[:, 1]).mean()), abs=0.05)


def test_instruct_is_not_pulled_towards_its_neighbour() -> None:
    samples, _ = alike(2)
    hopeless = samples.right.clone()
    hopeless[:, 0] = (samples.states[:, 3, 2] > 0).float()  # λ=0 is right just where the others are wrong
    head = fit_head(dataclasses.replace(samples, right=hopeless), "states")
    right, _ = head.predict(samples.features("states", head.layers))
    assert torch.corrcoef(torch.stack([right[:, 0], right[:, 1]]))[0, 1] < -0.5
