"""On how much of the questions Instruct is as good as Thinking, and for what share of the tokens.

Judged by cells, one family at one level: a cell counts if Instruct's accuracy there is at most one point below
Thinking's *and* its tokens are at most a fifth of Thinking's there. A cell of some eighty questions is noisy, so the
choice is also tried out: cells are chosen on all seeds but one, and what Instruct loses in them is counted on that one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from dami_agent.bench.batches import Asked, Outcome
from dami_agent.bench.rows import Cell, cells_of, rounded
from dami_agent.bench.stats import mean, mean_half_width

BEHIND = 0.01
"""Instruct may be so far behind Thinking."""

SHARE = 0.2
"""Of Thinking's tokens there, at most."""


def easy_share(asked: Asked, instruct: Sequence[Outcome], thinking: Sequence[Outcome]) -> dict[str, Any]:
    """The cells, the share of the questions in them, Instruct's share of Thinking's tokens there, and the trial.

    ``tokens_ratio`` is None without cells; ``elsewhere`` (Instruct less Thinking, paired, in cells chosen on the other
    seeds) is None with one seed or without cells.
    """
    cells = cells_of(asked)
    chosen = _easy(cells, instruct, thinking, range(len(asked)))
    inside = [index for cell in chosen for index in cells[cell]]
    spent = sum(thinking[index].tokens for index in inside)
    elsewhere = _tried(asked, instruct, thinking)
    return {
        "share": round(len(inside) / len(asked), 4),
        "cells": [{"family": family, "level": level} for family, level in chosen],
        "all_cells": len(cells),
        "tokens_ratio": round(sum(instruct[index].tokens for index in inside) / spent, 4) if spent else None,
        "elsewhere": round(mean(elsewhere), 4) if elsewhere else None,
        "elsewhere_ci": rounded(mean_half_width(elsewhere), 4),
        "elsewhere_questions": len(elsewhere),
    }


def _easy(
    cells: dict[Cell, list[int]], instruct: Sequence[Outcome], thinking: Sequence[Outcome], among: Collection[int]
) -> list[Cell]:
    """The cells that count, judged by the questions ``among`` alone."""
    chosen = []
    for cell, everything in sorted(cells.items()):
        places = [index for index in everything if index in among]
        if not places:
            continue
        behind = mean([float(thinking[i].right) - float(instruct[i].right) for i in places])
        cheap = sum(instruct[i].tokens for i in places) <= SHARE * sum(thinking[i].tokens for i in places)
        if behind <= BEHIND + 1e-9 and cheap:
            chosen.append(cell)
    return chosen


def _tried(asked: Asked, instruct: Sequence[Outcome], thinking: Sequence[Outcome]) -> list[float]:
    """Instruct less Thinking on each question of cells that were chosen without its seed."""
    cells, found = cells_of(asked), []
    for seed in sorted({seed for seed, _ in asked}):
        others = {index for index, (other, _) in enumerate(asked) if other != seed}
        for cell in _easy(cells, instruct, thinking, others):
            places = [index for index in cells[cell] if index not in others]
            found += [float(instruct[i].right) - float(thinking[i].right) for i in places]
    return found
