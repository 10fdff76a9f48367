"""Measure what a claim about λ is held against: as many samples of Thinking, the most confident of n, one retry.

A part of the held-out questions is tried k times in two ways, k being the number of λs in the frontier's grid:

- the **oracle** tries each λ of the grid once and is right if any of them is; it costs the tokens of the smallest right
  λ (``tokens``), which nobody could know beforehand, or those of all tries (``all_tokens``);
- **pass@k** samples Thinking (λ=1) k times and is right if any sample is; it costs the first right sample, or all.

Where no try is right, ``tokens`` are those of the last try. Try i has a random stream of its own, the same in both (the
last is the same sample), so that the tries of neither are more alike than the other's. From Thinking's samples also:

- **best of n**: the sample with the highest mean log-probability of the first n, at the tokens of n;
- **retry**: the first sample; the tenth with the lowest mean log-probability is sampled once more, and the more
  probable of the two is kept, at the tokens of both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dami_agent.evaluation.call_batches import AnswerOutcome, QuestionBatch, SeededQuestions
from dami_agent.evaluation.rows import rounded
from dami_agent.evaluation.stats import half_width, mean, mean_half_width
from dami_agent.types import Intensity

RETRIED = 0.1
"""Share of the answers, the least probable ones, that is sampled again."""

Tries = Sequence[Sequence[AnswerOutcome]]
"""Try by try, each over all questions."""


def part(asked: SeededQuestions, count: int) -> list[tuple[int, Any]]:
    """Choose ``count`` of the questions: the first ones of every seed, so that kinds stay balanced."""
    seeds = sorted({seed for seed, _ in asked})
    share = -(-count // len(seeds))
    taken = [item for seed in seeds for item in [pair for pair in asked if pair[0] == seed][:share]]
    return taken[:count]


def batches(asked: SeededQuestions, grid: Sequence[Intensity], **settings: Any) -> list[QuestionBatch]:
    """Make the tries of the oracle below λ=1, then Thinking's k samples; ``settings`` are those of the sweep.

    Args:
        asked: the questions.
        grid: rising, its last λ is 1.
        settings: ``temperature``, ``max_tokens`` and ``switch`` of :class:`QuestionBatch`.
    """
    return [
        QuestionBatch(
            name="controls",
            asked=asked,
            intensity=value,
            stream=("try", place),
            logprobs=value == Intensity(1),
            **settings,
        )
        for values in (grid[:-1], [Intensity(1)] * len(grid))
        for place, value in enumerate(values)
    ]


def compare(grid: Sequence[Intensity], found: Tries) -> dict[str, Any]:
    """Report on the outcomes of :func:`batches`, in their order."""
    below, samples = found[: len(grid) - 1], found[len(grid) - 1 :]
    oracle, repeated = first_right([*below, samples[-1]]), first_right(samples)
    gains = [float(a) - float(b) for (a, _, _), (b, _, _) in zip(oracle, repeated, strict=True)]
    spared = [float(a - b) for (_, a, _), (_, b, _) in zip(oracle, repeated, strict=True)]
    once = [outcome for sample in samples for outcome in sample]
    return {
        "questions": len(oracle),
        "lambdas": [float(value) for value in grid],
        "tries": len(grid),
        "thinking": {
            "accuracy": round(mean([outcome.right for outcome in once]), 4),
            "tokens": round(mean([outcome.tokens for outcome in once]), 2),
            "tokens_ci": rounded(mean_half_width([float(outcome.tokens) for outcome in once]), 2),
        },
        "oracle": _totals(oracle),
        "pass_at_k": _totals(repeated),
        "difference": round(mean(gains), 4),
        "difference_ci": rounded(mean_half_width(gains), 4),
        "tokens_difference": round(mean(spared), 2),
        "tokens_difference_ci": rounded(mean_half_width(spared), 2),
        "best_of": [{"n": n, **_kept(_best(samples[:n]))} for n in range(1, len(samples) + 1)],
        "retry": _kept(_retried(samples)),
    }


def first_right(tries: Tries) -> list[tuple[bool, int, int]]:
    """Return for each question whether any try is right, the tokens of the first right one (else the last), of all."""
    rows = []
    for column in zip(*tries, strict=True):
        chosen = next((outcome for outcome in column if outcome.right), column[-1])
        rows.append((chosen.right, chosen.tokens, sum(outcome.tokens for outcome in column)))
    return rows


def _totals(rows: Sequence[tuple[bool, int, int]]) -> dict[str, Any]:
    kept = _kept([(right, tokens) for right, tokens, _ in rows])
    return kept | {"all_tokens": round(mean([tokens for _, _, tokens in rows]), 2)}


def _logprob(outcome: AnswerOutcome) -> float:
    return outcome.logprob if outcome.logprob is not None else -math.inf


def _best(samples: Tries) -> list[tuple[bool, int]]:
    """Return for each question whether its most probable sample is right, and the tokens of all samples."""
    return [
        (max(column, key=_logprob).right, sum(outcome.tokens for outcome in column))
        for column in zip(*samples, strict=True)
    ]


def _retried(samples: Tries) -> list[tuple[bool, int]]:
    once = _best(samples[:1])
    twice = _best(samples[:2])
    doubtful = sorted(range(len(once)), key=lambda i: _logprob(samples[0][i]))[: round(RETRIED * len(once))]
    return [twice[i] if i in set(doubtful) else once[i] for i in range(len(once))]


def _kept(rows: Sequence[tuple[bool, int]]) -> dict[str, Any]:
    right = [row[0] for row in rows]
    return {
        "accuracy": round(mean(right), 4),
        "accuracy_ci": round(half_width(sum(right), len(right)), 4),
        "tokens": round(mean([row[1] for row in rows]), 2),
        "tokens_ci": rounded(mean_half_width([float(row[1]) for row in rows]), 2),
    }
