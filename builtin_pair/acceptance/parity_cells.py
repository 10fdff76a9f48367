"""On how much of the questions Instruct is as good as Thinking, and for what share of the tokens.

The questions are taken by cells, one family at one level, in which Instruct's tokens are at most a fifth of Thinking's:
those in which it loses least, as many as can be taken while it loses at most one point on all of them together and at
most three in any. A cell of some eighty questions cannot be judged to a point (one wrong answer is 1.2), all of them
can; ``alone`` counts the cells that are at most a point behind by themselves. The choice is also tried out: cells are
chosen on all seeds but one, and what Instruct loses in them is counted on that one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from dami_agent.evaluation.call_batches import AnswerOutcome, SeededQuestions
from dami_agent.evaluation.rows import Cell, rounded, rounded_interval
from dami_agent.evaluation.stats import bootstrap, mean, mean_half_width

BEHIND = 0.01 + 1e-9
"""Instruct may be so far behind Thinking, on all the questions taken."""

ALONE = 0.03 + 1e-9
"""And so far in any cell: two or three wrong answers of eighty."""

SHARE = 0.2
"""Of Thinking's tokens there, at most."""


class Pair(NamedTuple):
    """Hold one question: its cell, its seed, what Instruct loses on it (1, 0 or -1), and both models' tokens."""

    cell: Cell
    seed: int
    loss: int
    instruct: int
    thinking: int


def parity_cells(
    asked: SeededQuestions, instruct: Sequence[AnswerOutcome], thinking: Sequence[AnswerOutcome]
) -> dict[str, Any]:
    """Find the cells, the share of the questions in them, Instruct's share of Thinking's tokens there, and the trial.

    ``share_ci`` is a bootstrap over the questions in which the cells are chosen anew each time. ``tokens_ratio`` is
    None without cells; ``elsewhere`` (Instruct less Thinking, paired, in cells chosen on the other seeds) is None with
    one seed or without cells.
    """
    pairs = [
        Pair((question.family, question.level), seed, b.right - a.right, a.tokens, b.tokens)
        for (seed, question), a, b in zip(asked, instruct, thinking, strict=True)
    ]
    chosen = _chosen(pairs)
    inside = [pair for pair in pairs if pair.cell in chosen]
    spent = sum(pair.thinking for pair in inside)
    elsewhere = _tried(pairs)
    return {
        "share": round(len(inside) / len(pairs), 4),
        "share_ci": rounded_interval(bootstrap(pairs, _share, resamples=500)),
        "cells": [{"family": family, "level": level} for family, level in sorted(chosen)],
        "all_cells": len({pair.cell for pair in pairs}),
        "alone": sum(loss <= BEHIND for loss in chosen.values()),
        "tokens_ratio": round(sum(pair.instruct for pair in inside) / spent, 4) if spent else None,
        "elsewhere": round(mean(elsewhere), 4) if elsewhere else None,
        "elsewhere_ci": rounded(mean_half_width(elsewhere), 4),
        "elsewhere_questions": len(elsewhere),
    }


def _chosen(pairs: Iterable[Pair]) -> Mapping[Cell, float]:
    """Choose the cells that count, and what Instruct loses in each."""
    cells: dict[Cell, list[int]] = {}  # questions, what Instruct loses, its tokens, Thinking's
    for pair in pairs:
        sums = cells.setdefault(pair.cell, [0, 0, 0, 0])
        sums[0] += 1
        sums[1] += pair.loss
        sums[2] += pair.instruct
        sums[3] += pair.thinking
    losses = sorted(
        (loss / questions, cell)
        for cell, (questions, loss, instruct, thinking) in cells.items()
        if instruct <= SHARE * thinking
    )
    chosen: dict[Cell, float] = {}
    lost = taken = 0.0
    for loss, cell in losses:
        lost, taken = lost + loss * cells[cell][0], taken + cells[cell][0]
        if lost > BEHIND * taken or loss > ALONE:
            break
        chosen[cell] = loss
    return chosen


def _share(pairs: Sequence[Pair]) -> float:
    chosen = _chosen(pairs)
    return sum(pair.cell in chosen for pair in pairs) / len(pairs)


def _tried(pairs: Sequence[Pair]) -> list[float]:
    """Return Instruct less Thinking on each question of cells that were chosen without its seed."""
    found: list[float] = []
    for seed in sorted({pair.seed for pair in pairs}):
        chosen = _chosen(pair for pair in pairs if pair.seed != seed)
        found += [-float(pair.loss) for pair in pairs if pair.seed == seed and pair.cell in chosen]
    return found
