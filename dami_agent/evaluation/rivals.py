"""Replay on sampled replies what λ per question is held against: each method's curve, accuracy against tokens.

What the methods are is told in :mod:`dami_agent.evaluation.quality`, which compares them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from dami_agent.estimators import ConfidenceEstimator
from dami_agent.estimators.fit import fit_head
from dami_agent.estimators.head import Head, Reads, with_overhead
from dami_agent.estimators.judge import PRICES
from dami_agent.estimators.samples import Samples
from dami_agent.evaluation.early_exit import THRESHOLDS, Trials, exits
from dami_agent.evaluation.synthesis import Syntheses, synthesised
from dami_agent.evaluation.votes import RETRIES, Votes, adaptive, majority, retried
from dami_agent.tasks import FAMILIES

__all__ = [
    "ACCEPTS",
    "ENTROPIES",
    "FINE_PRICES",
    "Curve",
    "Point",
    "chosen_places",
    "gated",
    "head_curve",
    "left_out",
    "oracle",
    "point_of",
    "ruled",
    "shuffled",
    "stopped",
    "told",
    "voted",
]

ACCEPTS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0)
"""Confidences from which on the rule takes λ=0."""

ENTROPIES = (0.001, 0.003, 0.01, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8)
"""Nats a token above which the gate takes λ=1."""


FINE_PRICES = (*(a + (b - a) * step / 4 for a, b in pairwise(PRICES) for step in range(4)), PRICES[-1])
"""The prices that heads are judged at, and three between each two of them: tokens fall steeply between some."""


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """Holds what one setting of a method comes to, question by question: float64 [questions] each."""

    right: torch.Tensor
    tokens: torch.Tensor

    @property
    def cost(self) -> float:
        """Return mean tokens."""
        return float(self.tokens.mean())


Curve = Sequence[Point]
"""A method's points, as its own knob turns."""


def point_of(samples: Samples, places: int | torch.Tensor, overhead: torch.Tensor | None = None) -> Point:
    """Return what the λs at ``places`` come to; ``overhead`` is what estimating has cost, lost unless λ=0 is chosen."""
    rows = torch.arange(len(samples))
    at = torch.as_tensor(places).expand(len(samples))
    tokens = samples.tokens if overhead is None else with_overhead(samples.tokens, overhead)
    return Point(samples.right[rows, at].double(), tokens[rows, at].double())


def head_curve(samples: Samples, head: Head, *, ends: bool = False) -> Curve:
    """Return a head's points, by rising price; with ``ends``, of λ=0 and λ=1 alone."""
    overhead = samples.overhead(head.reads)
    return [point_of(samples, places, overhead) for places in chosen_places(samples, head, ends=ends)]


def chosen_places(samples: Samples, head: Head, *, ends: bool = False) -> list[torch.Tensor]:
    """Return the places of the λs that a head chooses, int64 [questions], at each of :data:`FINE_PRICES`."""
    right, tokens = head.predict(samples.features(head.reads, head.layers))
    tokens = with_overhead(tokens, samples.overhead(head.reads))
    found = []
    for price in FINE_PRICES:
        value = head.values(right, tokens, price)
        if ends:
            value[:, 1:-1] = -math.inf
        found.append(value.argmax(dim=1))
    return found


def shuffled(samples: Samples, head: Head) -> Curve:
    """Return what each price's λs come to on average over all ways to deal them to the questions."""
    found = []
    costs = with_overhead(samples.tokens, samples.overhead(head.reads))
    for places in chosen_places(samples, head):
        shares = torch.bincount(places, minlength=len(samples.lambdas)).double() / len(samples)
        found.append(Point(samples.right.double() @ shares, costs.double() @ shares))
    return found


def left_out(
    learned: Samples, tested: Samples, of_learned: Sequence[str], of_tested: Sequence[str], reads: Reads
) -> Curve:
    """Choose for each family by a head that was fitted to the others."""
    places = torch.zeros(len(FINE_PRICES), len(tested), dtype=torch.int64)
    for family in FAMILIES:
        theirs = torch.tensor([each == family for each in of_tested])
        if not theirs.any():
            continue
        head = fit_head(learned.chosen(torch.tensor([each != family for each in of_learned])), reads)
        for row, chosen in zip(places, chosen_places(tested.chosen(theirs), head), strict=True):
            row[theirs] = chosen
    return [point_of(tested, row, tested.overhead(reads)) for row in places]


def ruled(samples: Samples, accept: float) -> Point:
    """Go by 1 − c, taken to the nearest λ that was sampled."""
    weight = ConfidenceEstimator().thinking_weight
    c = torch.exp((1 - weight) * samples.probes[:, 0] + weight * samples.probes[:, 1])
    wanted = torch.where(c >= accept, torch.zeros_like(c), 1 - c)
    grid = torch.tensor([float(value) for value in samples.lambdas])
    return point_of(samples, (grid[None] - wanted[:, None]).abs().argmin(dim=1), samples.probe_tokens)


def gated(samples: Samples, threshold: float) -> Point:
    """Take λ=1 where the mean entropy of Instruct's probe, in nats a token, is above a threshold."""
    places = torch.where(samples.entropies[:, 0] > threshold, len(samples.lambdas) - 1, 0)
    return point_of(samples, places, samples.probe_tokens)


def stopped(samples: Samples, trials: Trials) -> dict[str, Curve]:
    """Return what Thinking comes to under caps, and by early exits."""
    caps = [(trials.right[:, at], trials.tokens[:, at]) for at in range(trials.right.shape[1])]
    early = [exits(trials, samples.right[:, -1], samples.tokens[:, -1], threshold) for threshold in THRESHOLDS]
    return {"caps": _points(caps), "early exit": _points(early)}


def voted(votes: Votes) -> dict[str, Curve]:
    """Return what several replies of Thinking come to, by votes of all numbers of them and by second tries."""
    counts = range(2, votes.replies + 1)
    return {
        "majority": _points(majority(votes, count) for count in counts),
        "adaptive votes": _points(adaptive(votes, count) for count in counts[1:]),
        "retry": _points(retried(votes, threshold) for threshold in RETRIES),
    }


def told(syntheses: Syntheses) -> dict[str, Curve]:
    """Return what exploring low and synthesising high comes to, a point for each λ that explores."""
    explorers = range(syntheses.right.shape[1])
    return {
        name: _points(synthesised(syntheses, place, on_doubt=on_doubt) for place in explorers)
        for name, on_doubt in (("a2r", False), ("a2r on doubt", True))
    }


def _points(found: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> Curve:
    return [Point(right.double(), tokens.double()) for right, tokens in found]


def oracle(samples: Samples, price: float) -> Point:
    """Choose by which replies are right, and how long they are."""
    value = samples.right - price * samples.tokens / samples.tokens[:, -1].mean() - 1e-6 * samples.tokens
    return point_of(samples, value.argmax(dim=1))
