"""Compute the few statistics the tables need: intervals, a paired bootstrap, the area under a ROC curve.

All intervals are 95 %. Nothing here knows a model or a task.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")

Z = 1.959963984540054
"""0.975 quantile of the standard normal distribution."""


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean; 0.0 of nothing."""
    return math.fsum(values) / len(values) if values else 0.0


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Compute Wilson's score interval of a proportion (Wilson 1927): unlike Wald's it is honest near 0 and 1.

    Returns:
        (low, high); (0, 1) without trials.
    """
    if trials == 0:
        return 0.0, 1.0
    p, n = successes / trials, trials
    centre = p + Z * Z / (2 * n)
    spread = Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    scale = 1 + Z * Z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def half_width(successes: int, trials: int) -> float:
    """Return half of Wilson's interval: what the tables print after ±."""
    low, high = wilson(successes, trials)
    return (high - low) / 2


def mean_half_width(values: Sequence[float]) -> float:
    """Return half of the normal interval of a mean, or of a paired mean difference; infinite below two."""
    n = len(values)
    return Z * math.sqrt(variance(values) / n) if n > 1 else math.inf


def variance(values: Sequence[float]) -> float:
    """Return the unbiased sample variance; infinite for fewer than two values."""
    n = len(values)
    if n < 2:
        return math.inf
    centre = mean(values)
    return math.fsum((value - centre) ** 2 for value in values) / (n - 1)


def bootstrap(
    items: Sequence[T], statistic: Callable[[Sequence[T]], float | None], *, resamples: int = 2000, seed: int = 0
) -> tuple[float, float] | None:
    """Compute a percentile bootstrap interval: whole ``items`` are drawn, so that paired values stay paired.

    Args:
        items: the independent units, for example one tuple of outcomes a task.
        statistic: of a resample; None where it is not defined there (such resamples are left out).
        resamples: how many.
        seed: of the resampling; equal seeds give equal intervals.

    Returns:
        (low, high), or None if the statistic was defined on less than half of the resamples.
    """
    if not items:
        return None
    rng = Random(seed)
    drawn = (statistic([items[place] for place in _with_replacement(rng, len(items))]) for _ in range(resamples))
    values = sorted(value for value in drawn if value is not None)
    if 2 * len(values) < resamples:
        return None
    return quantile(values, 0.025), quantile(values, 0.975)


def _with_replacement(rng: Random, count: int) -> list[int]:
    """Draw ``count`` places below ``count``: those that as many calls of ``randrange`` give, in a third of the time."""
    places: list[int] = []
    bits, draw = count.bit_length(), rng.getrandbits
    while missing := count - len(places):
        places += [place for place in [draw(bits) for _ in range(missing)] if place < count]
    return places


def quantile(ordered: Sequence[float], q: float) -> float:
    """Interpolate linearly between order statistics of sorted values (numpy's default)."""
    place = q * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def ranks(values: Sequence[float]) -> list[float]:
    """Return the rank of each value from 1, tied values sharing their mean rank."""
    order = sorted(range(len(values)), key=lambda place: values[place])
    found = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for place in order[start:end]:
            found[place] = (start + 1 + end) / 2
        start = end
    return found


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Compute Spearman's rank correlation; None where one of the two does not vary."""
    a, b = ranks(one), ranks(other)
    centre = (len(a) + 1) / 2  # the mean of any ranks
    spread = math.sqrt(math.fsum((x - centre) ** 2 for x in a) * math.fsum((y - centre) ** 2 for y in b))
    return math.fsum((x - centre) * (y - centre) for x, y in zip(a, b, strict=True)) / spread if spread else None


def auc(scores: Sequence[float], labels: Sequence[bool]) -> float | None:
    """Return the chance that a random positive scores above a random negative, ties half; None without both."""
    positives = sum(labels)
    negatives = len(labels) - positives
    if not positives or not negatives:
        return None
    rank_sum = math.fsum(rank for rank, positive in zip(ranks(scores), labels, strict=True) if positive)
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)
