"""What is solved is the minimum: the gradient that autograd finds of the loss as it is written down is zero there."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dami_agent.estimators.regression import logistic, ridge


def drawn(seed: int, prompts: int, k: int, outcomes: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(prompts, k, generator=rng, dtype=torch.float64)
    x[:, -1] = 1
    chance = torch.sigmoid(2 * x[:, :1] + torch.arange(outcomes) - 1)
    return x, (torch.rand(prompts, outcomes, generator=rng, dtype=torch.float64) < chance).double()


def loss(
    x: torch.Tensor, wanted: torch.Tensor, weights: torch.Tensor, penalty: float, fusion: torch.Tensor
) -> torch.Tensor:
    z, free = x @ weights, weights[:-1]
    lost = -(wanted * torch.nn.functional.logsigmoid(z) + (1 - wanted) * torch.nn.functional.logsigmoid(-z)).sum()
    return lost + penalty / 2 * free.square().sum() + ((free[:, 1:] - free[:, :-1]).square() * fusion / 2).sum()


@given(
    seed=st.integers(0, 2**31 - 1),
    prompts=st.integers(20, 80),
    k=st.integers(2, 12),
    outcomes=st.integers(1, 6),
    penalty=st.sampled_from([0.3, 1.0, 10.0]),
    strength=st.sampled_from([0.0, 10.0, 1000.0]),
)
def test_no_direction_leads_down_from_what_is_found(
    seed: int, prompts: int, k: int, outcomes: int, penalty: float, strength: float
) -> None:
    x, wanted = drawn(seed, prompts, k, outcomes)
    mixed = [0 < float(column.mean()) < 1 for column in wanted.T]
    fusion = strength * (torch.arange(outcomes - 1) % 2).double()
    weights = logistic(x, wanted, penalty, fusion).requires_grad_()
    assert weights.shape == (k, outcomes)
    (slope,) = torch.autograd.grad(loss(x, wanted, weights, penalty, fusion), weights)
    assert slope[:-1].abs().max() < 1e-3
    assert all(abs(float(slope[-1, at])) < 1e-3 for at, both in enumerate(mixed) if both)


def test_outcomes_that_are_all_alike_end_in_finite_numbers() -> None:
    x, wanted = drawn(1, 50, 4, 3)
    wanted[:, 0], wanted[:, 2] = 0, 1
    for fusion in (torch.zeros(2, dtype=torch.float64), torch.full((2,), 100.0, dtype=torch.float64)):
        p = torch.sigmoid(x @ logistic(x, wanted, 1.0, fusion))
        assert torch.isfinite(p).all()
        assert p[:, 0].max() < 0.01
        assert p[:, 2].min() > 0.99


def test_a_ridge_is_least_squares_with_a_free_bias() -> None:
    x, _ = drawn(2, 60, 5, 1)
    wanted = x @ torch.tensor([[1.0], [2.0], [0.0], [-1.0], [30.0]], dtype=torch.float64)
    assert torch.allclose(ridge(x, wanted, 1e-9)[:, 0], torch.tensor([1, 2, 0, -1, 30], dtype=torch.float64), atol=1e-6)
    held = ridge(x, wanted, 1e9)[:, 0]
    assert held[:-1].abs().max() < 1e-3
    assert float(held[-1]) == pytest.approx(float(wanted.mean()), abs=0.01)
