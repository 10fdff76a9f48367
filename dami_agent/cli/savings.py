"""Tokens saved, against a baseline that is always named: the frontier's expectation at λ=1. Expected, not measured.

For each call: the mean output tokens that the pair's frontier shows at λ=1, less those at the λ used, less a probe that
was discarded. A call with tools bound is compared with the tool dialogues that were measured, which think far less
than questions do; any other with the questions. It is a mean over those, not over the user's calls, and is
labelled so wherever it shows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from dami_agent.policy import Frontier
from dami_agent.types import BUILTIN

if TYPE_CHECKING:
    from dami_agent.ledger import CallRow

BASELINE = "λ=1 on every call, as the frontier expects it"
METHOD = (
    "expected, not measured: per call, mean output tokens at λ=1 minus those at the λ used, from the frontier's tool "
    "dialogues where tools are bound, else of its questions; minus discarded probes"
)


def expected_tokens(frontier: Frontier, intensity: float) -> float:
    """Mean output tokens at λ, linear between measured λs; ``frontier`` is not empty."""
    rows = frontier.rows
    for low, high in pairwise(rows):
        if low.intensity <= intensity <= high.intensity:
            share = (intensity - low.intensity) / (high.intensity - low.intensity)
            return low.tokens + share * (high.tokens - low.tokens)
    return rows[0].tokens if intensity < rows[0].intensity else rows[-1].tokens


class Savings:
    """Expected savings by the frontier of each call's pair.

    Args:
        frontier: for calls of every model; None: the built-in pair's, for its calls alone.

    Raises:
        InvalidPolicy: if the file is no frontier.
    """

    def __init__(self, frontier: str | Path | None = None) -> None:
        self._given = None if frontier is None else _read(frontier)

    def frontier(self, row: CallRow) -> Frontier | None:
        """The measured table that speaks for this call, if there is one: of tool dialogues, or of questions."""
        tables = self._given or (_builtin() if row.model == BUILTIN else None)
        found = None if tables is None else tables[1 if row.tools_bound else 0]
        return found if found is not None and found.rows else None

    def of(self, row: CallRow) -> float | None:
        """Expected tokens saved by one call, negative where λ cost more; None if nobody has measured its pair."""
        frontier = self.frontier(row)
        if frontier is None:
            return None
        if row.intensity is None or row.weights_mode is None:  # it failed before anything was decoded
            return float(-_thrown_away(row))
        return expected_tokens(frontier, 1.0) - expected_tokens(frontier, row.intensity) - _thrown_away(row)

    def sum(self, rows: Iterable[CallRow]) -> float | None:
        """Over calls; None if one of them has no frontier: a part would pass for the whole."""
        each = [self.of(row) for row in rows]
        known = [value for value in each if value is not None]
        return sum(known) if each and len(known) == len(each) else None

    def statement(self, rows: Iterable[CallRow]) -> Mapping[str, str | list[str]]:
        """What the sum is measured against, and how."""
        used = {f"{f.pair} ({f.source})" for row in rows if (f := self.frontier(row)) is not None}
        return {"baseline": BASELINE, "method": METHOD, "frontiers": sorted(used)}


def _thrown_away(row: CallRow) -> int:
    return row.probe_tokens + (row.discarded_tokens or 0)


@cache
def _builtin() -> tuple[Frontier, Frontier] | None:
    path = Path(str(resources.files("dami_agent.checkpoints"))) / "builtin" / "frontier.json"
    return _read(path) if path.is_file() else None


def _read(path: str | Path) -> tuple[Frontier, Frontier]:
    """The tables of questions and of tool dialogues, the latter a mean over its settings; empty if not measured."""
    questions = Frontier.from_file(path)
    measured = json.loads(Path(path).read_text(encoding="utf-8"))
    tokens: dict[float, list[float]] = {}
    for row in measured.get("tools") or ():
        tokens.setdefault(row["lambda"], []).append(row["tokens"])
    rows = [{"lambda": at, "accuracy": 0.0, "tokens": fmean(each)} for at, each in tokens.items()]  # only tokens count
    return questions, Frontier.from_dict({"rows": rows, "pair": questions.pair}, source=questions.source)
