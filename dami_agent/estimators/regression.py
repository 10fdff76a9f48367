"""Solve the two regressions that a head is made of: logistic ones whose weights hang together, and a ridge one."""

from __future__ import annotations

import torch

__all__ = ["logistic", "ridge"]

_STEPS = 50  # Newton's; ten or so are taken, but where all outcomes are alike the bias grows without end
_DONE = 1e-9  # of the loss, in a step
_SHORTEST = 1e-4


def logistic(x: torch.Tensor, wanted: torch.Tensor, penalty: float, fusion: torch.Tensor) -> torch.Tensor:
    """Minimise the summed log loss and the penalties on weights and on the differences of neighbouring outcomes'.

    These are ``penalty / 2`` times the squared weights, ``fusion / 2`` times the squared differences. By Newton's
    method, on all weights at once, a step being halved as long as it leads up.

    Args:
        x: float64 [prompts, k], the last column of ones, whose weight (the bias) is left free.
        wanted: float64 [prompts, outcomes], shares of right tries.
        penalty: on all weights.
        fusion: float64 [outcomes - 1], on the squared difference of each outcome's weights and the next one's.

    Returns:
        float64 [k, outcomes].
    """
    k, outcomes = x.shape[1], wanted.shape[1]
    free = torch.ones(k, dtype=x.dtype)
    free[-1] = 0
    steps = torch.eye(outcomes, dtype=x.dtype).diff(dim=0)  # of neighbours, [outcomes - 1, outcomes]
    pull = penalty * torch.eye(outcomes, dtype=x.dtype) + steps.T @ (fusion[:, None] * steps)

    def loss(weights: torch.Tensor) -> float:
        lost = torch.nn.functional.binary_cross_entropy_with_logits(x @ weights, wanted, reduction="sum")
        return float(lost + ((weights @ pull) * weights * free[:, None]).sum() / 2)

    weights = torch.zeros(k, outcomes, dtype=x.dtype)
    now = loss(weights)
    for _ in range(_STEPS):
        step = _newton_step(x, wanted, weights, pull, free)
        size = 1.0
        while (then := loss(weights - size * step)) > now and size > _SHORTEST:
            size /= 2
        if now - then < _DONE:
            break
        weights, now = weights - size * step, then
    return weights


def _newton_step(
    x: torch.Tensor, wanted: torch.Tensor, weights: torch.Tensor, pull: torch.Tensor, free: torch.Tensor
) -> torch.Tensor:
    """Return the inverse Hessian times the gradient, float64 [k, outcomes].

    Args:
        x, wanted, weights: as :func:`logistic` has them.
        pull: float64 [outcomes, outcomes], the penalties' quadratic form, the same for each weight.
        free: float64 [k], 0 where none is put on the weight.
    """
    k, outcomes = weights.shape
    p = torch.sigmoid(x @ weights)
    gradient = x.T @ (p - wanted) + (weights @ pull) * free[:, None]
    hessian = torch.zeros(outcomes, k, outcomes, k, dtype=x.dtype)
    each = torch.arange(k)
    hessian[:, each, :, each] = pull * free[:, None, None]
    for j, spread in enumerate((p * (1 - p)).T):
        hessian[j, :, j, :] += (x * spread[:, None]).T @ x
    square = hessian.reshape(outcomes * k, outcomes * k)
    square.diagonal().add_(1e-9)  # of biases whose outcomes are all alike
    step: torch.Tensor = torch.linalg.solve(square, gradient.T.reshape(-1))
    return step.reshape(outcomes, k).T


def ridge(x: torch.Tensor, wanted: torch.Tensor, penalty: float) -> torch.Tensor:
    """Solve the ridge regression in closed form, the bias left free: float64 [k, outcomes].

    Args:
        x: as :func:`logistic` has it.
        wanted: float64 [prompts, outcomes].
        penalty: on squared weights.
    """
    kept = torch.full((x.shape[1],), penalty, dtype=x.dtype)
    kept[-1] = 0
    solved: torch.Tensor = torch.linalg.solve(x.T @ x + kept.diag(), x.T @ wanted)
    return solved
