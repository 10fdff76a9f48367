"""Judge a head by samples that it was not fitted to: calibration, order, and what each price comes to."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch

from dami_agent.estimators.head import Head, PricePoint, with_overhead
from dami_agent.estimators.samples import Samples

__all__ = ["PRICES", "best_mix", "log_loss", "mean_ci", "points", "report", "static_mix"]

PRICES = (0.0, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.37, 0.45, 0.6, 0.8, 1.2)
"""Shares of right replies that a mean reply of Thinking may be worth."""


def report(samples: Samples, right: torch.Tensor, tokens: torch.Tensor) -> dict[str, Any]:
    """Report how good predictions are, with the fixed λs and the oracle beside them, as plain numbers.

    Args:
        samples: what was predicted.
        right, tokens: P(right | λ) and tokens(λ) as predicted, [questions, λs].
    """
    return {
        "log_loss": round(log_loss(right, samples.right), 4),
        "auc": [_auc(right[:, j], samples.right[:, j]) for j in range(len(samples.lambdas))],
        "calibration_error": round(_calibration_error(right, samples.right), 4),
        "log_tokens_error": round(float((tokens.log() - samples.tokens.clamp(min=1).log()).abs().mean()), 4),
        "tokens_q90": round(float((samples.tokens / tokens)[:, 1:].flatten().quantile(0.9)), 3),
        "preferences": round(_preferences_kept(samples, right, tokens), 4),
        "oracle": _oracle(samples),
        "fixed": [
            {"lambda": float(value), "accuracy": round(float(accuracy), 4), "tokens": round(float(count), 2)}
            for value, accuracy, count in zip(
                samples.lambdas, samples.right.mean(dim=0), samples.tokens.mean(dim=0), strict=True
            )
        ],
    }


def points(samples: Samples, head: Head, right: torch.Tensor, tokens: torch.Tensor) -> tuple[PricePoint, ...]:
    """Count what every price of :data:`PRICES` comes to, by rising price.

    Args:
        samples: what really happened.
        head: which chooses.
        right, tokens: as predicted, by a head that was not fitted to these samples.
    """
    expected = with_overhead(tokens, samples.overhead(head.reads))
    spent = with_overhead(samples.tokens, samples.overhead(head.reads))
    return tuple(_point(samples, spent, head.choose(right, expected, price), price) for price in PRICES)


def _point(samples: Samples, spent: torch.Tensor, places: torch.Tensor, price: float) -> PricePoint:
    """Count what the chosen λs come to; ``spent`` are their tokens with what estimating took."""
    rows = torch.arange(len(samples))
    right, tokens = samples.right[rows, places], spent[rows, places]
    gain, gain_ci = mean_ci(right - samples.right[:, -1], samples.groups)
    before, after = (_whole(each, samples.groups) for each in (samples.right[:, -1], right))
    static, static_ci = mean_ci(right - static_mix(samples, float(tokens.mean())), samples.groups)
    return PricePoint(
        price=price,
        accuracy=float(right.mean()),
        tokens=float(tokens.mean()),
        gain=gain,
        gain_ci=gain_ci,
        static_gain=static,
        static_gain_ci=static_ci,
        lost=int((before & ~after).sum()),
        won=int((after & ~before).sum()),
    )


def _whole(right: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """Return for each question or task whether nothing of it is wrong: bool [groups]."""
    names, members = torch.unique(groups, return_inverse=True)
    wrong = torch.zeros(len(names)).index_add(0, members, (right <= 0.5).float())
    return wrong == 0


def static_mix(samples: Samples, budget: float) -> torch.Tensor:
    """Return each question's expected share of right replies under the best mix of two fixed λs within a budget.

    Args:
        samples: what is right and long.
        budget: mean output tokens; where no fixed λ is so cheap, the cheapest is taken.
    """
    return best_mix(list(samples.right.T), samples.tokens.mean(dim=0).tolist(), budget)


def best_mix(right: Sequence[torch.Tensor], costs: Sequence[float], budget: float) -> torch.Tensor:
    """Return each question's expected share of right replies under the best mix of two choices within a budget.

    Args:
        right: share of right replies of each choice, [questions] each.
        costs: mean output tokens of each.
        budget: mean output tokens; where nothing is so cheap, the cheapest is taken.
    """
    accuracies = [float(each.mean()) for each in right]
    cheapest = min(range(len(costs)), key=costs.__getitem__)
    best, mixed = accuracies[cheapest], right[cheapest]
    for i, j in itertools.product(range(len(costs)), repeat=2):
        if costs[i] > budget:
            continue
        share = 1.0 if costs[j] <= budget else (budget - costs[i]) / (costs[j] - costs[i])
        value = (1 - share) * accuracies[i] + share * accuracies[j]
        if value > best:
            best, mixed = value, (1 - share) * right[i] + share * right[j]
    return mixed


def mean_ci(values: torch.Tensor, groups: torch.Tensor) -> tuple[float, float]:
    """Return the mean and half its 95 % interval, prompts of one group being no independent ones; 1 of one group.

    Args:
        values: float [prompts].
        groups: [prompts], equal for prompts that hang together.
    """
    values = values.double()
    mean = values.mean()
    names, members = torch.unique(groups, return_inverse=True)
    count = len(names)
    if count < 2:
        return float(mean), 1.0
    sums = torch.zeros(count, dtype=torch.float64).index_add(0, members, values - mean)
    spread = (count / (count - 1) * sums.square().sum()).sqrt() / len(values)
    return float(mean), float(1.96 * spread)


def log_loss(predicted: torch.Tensor, wanted: torch.Tensor) -> float:
    """Return the mean log loss in nats; ``wanted`` may be shares."""
    return float(torch.nn.functional.binary_cross_entropy(predicted.clamp(1e-6, 1 - 1e-6), wanted))


def _auc(scores: torch.Tensor, wanted: torch.Tensor) -> float | None:
    """Return the chance that a right reply has the higher score; None where all are right, or none is."""
    yes, no = scores[wanted > 0.5], scores[wanted <= 0.5]
    if not len(yes) or not len(no):
        return None
    pairs = yes[:, None] - no[None, :]
    return round(float(((pairs > 0).float() + (pairs == 0).float() / 2).mean()), 4)


def _calibration_error(predicted: torch.Tensor, wanted: torch.Tensor, bins: int = 10) -> float:
    """Return the expected calibration error over all λs: the mean gap of ten bins of equal width, by their share."""
    p, w = predicted.flatten(), wanted.flatten()
    place = (p * bins).long().clamp(max=bins - 1)
    gaps = [
        (p[place == b].mean() - w[place == b].mean()).abs() * (place == b).float().mean()
        for b in range(bins)
        if (place == b).any()
    ]
    return float(torch.stack(gaps).sum())


def _preferences_kept(samples: Samples, right: torch.Tensor, tokens: torch.Tensor) -> float:
    """Return the share of pairs of λs that are ordered as the samples prefer them.

    λ_a is preferred to λ_b where it is right more often, or as often and shorter.
    """
    kept = total = 0
    for a, b in itertools.combinations(range(len(samples.lambdas)), 2):
        more = samples.right[:, a] - samples.right[:, b]
        shorter = samples.tokens[:, b] - samples.tokens[:, a]
        prefers = torch.where(more.abs() > 1e-6, more.sign(), shorter.sign())
        # Where both are right, or both wrong, length decides: a hundredth of a right reply for a mean reply's tokens.
        value = (right[:, a] - right[:, b]) - 0.01 * (tokens[:, a] - tokens[:, b]) / float(samples.tokens[:, -1].mean())
        asked = prefers != 0
        kept += int((value.sign() == prefers)[asked].sum())
        total += int(asked.sum())
    return kept / max(1, total)


def _oracle(samples: Samples) -> dict[str, float]:
    """Choose for every question the shortest of the λs that are right most often."""
    best = samples.right.max(dim=1, keepdim=True).values
    places = torch.where(samples.right >= best - 1e-6, samples.tokens, torch.inf).argmin(dim=1)
    rows = torch.arange(len(samples))
    return {
        "accuracy": round(float(samples.right[rows, places].mean()), 4),
        "tokens": round(float(samples.tokens[rows, places].mean()), 2),
    }
