"""On how much of the questions Instruct is as good as Thinking, and for what share of the tokens.

The questions are taken by cells, one family at one level, in which Instruct's tokens are at most a fifth of Thinking's:
those in which it loses least, as many as can be taken while it loses at most one point on all of them together and at
most three in any. A cell of some eighty questions cannot be judged to a point (one wrong answer is 1.2), all of them
can; ``alone`` counts the cells that are at most a point behind by themselves. The choice is also tried out: cells are
chosen on all seeds but one, and what Instruct loses in them is counted on that one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from dami_agent.bench.batches import Asked, Outcome
from dami_agent.bench.rows import Cell, cells_of, rounded
from dami_agent.bench.stats import mean, mean_half_width

BEHIND = 0.01 + 1e-9
"""Instruct may be so far behind Thinking, on all the questions taken."""

ALONE = 0.03 + 1e-9
"""And so far in any cell: two or three wrong answers of eighty."""

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
        "alone": sum(_behind(cells[cell], instruct, thinking) <= BEHIND for cell in chosen),
        "tokens_ratio": round(sum(instruct[index].tokens for index in inside) / spent, 4) if spent else None,
        "elsewhere": round(mean(elsewhere), 4) if elsewhere else None,
        "elsewhere_ci": rounded(mean_half_width(elsewhere), 4),
        "elsewhere_questions": len(elsewhere),
    }


def _easy(
    cells: dict[Cell, list[int]], instruct: Sequence[Outcome], thinking: Sequence[Outcome], among: Collection[int]
) -> list[Cell]:
    """The cells that count, judged by the questions ``among`` alone."""
    seen = {cell: [index for index in places if index in among] for cell, places in cells.items()}
    cheap = {
        cell: places
        for cell, places in seen.items()
        if places and sum(instruct[i].tokens for i in places) <= SHARE * sum(thinking[i].tokens for i in places)
    }
    chosen: list[Cell] = []
    together: list[int] = []
    for cell in sorted(cheap, key=lambda cell: (_behind(cheap[cell], instruct, thinking), cell)):
        together += cheap[cell]
        if _behind(together, instruct, thinking) > BEHIND or _behind(cheap[cell], instruct, thinking) > ALONE:
            break
        chosen.append(cell)
    return sorted(chosen)


def _behind(places: Sequence[int], instruct: Sequence[Outcome], thinking: Sequence[Outcome]) -> float:
    """Thinking's accuracy less Instruct's."""
    return mean([float(thinking[i].right) - float(instruct[i].right) for i in places])


def _tried(asked: Asked, instruct: Sequence[Outcome], thinking: Sequence[Outcome]) -> list[float]:
    """Instruct less Thinking on each question of cells that were chosen without its seed."""
    cells, found = cells_of(asked), []
    for seed in sorted({seed for seed, _ in asked}):
        others = {index for index, (other, _) in enumerate(asked) if other != seed}
        for cell in _easy(cells, instruct, thinking, others):
            places = [index for index in cells[cell] if index not in others]
            found += [float(instruct[i].right) - float(thinking[i].right) for i in places]
    return found
