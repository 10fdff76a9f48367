"""Tokens saved, against a baseline that is always named: the frontier's expectation at λ=1. Expected, not measured.

For each call: the mean output tokens that the pair's frontier shows at λ=1, less those at the λ used, less a probe that
was thrown away. It is a mean over the frontier's questions, not the user's, and so it is labelled wherever it shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from dami_agent.policy import Frontier

if TYPE_CHECKING:
    from dami_agent.ledger import Row

BASELINE = "λ=1 on every call, as the frontier expects it"
METHOD = (
    "expected, not measured: per call, the frontier's mean output tokens at λ=1 less those at the λ used, "
    "less probes thrown away"
)
BUILTIN = "dami-builtin"


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
        self._given = None if frontier is None else Frontier.from_file(frontier)

    def frontier(self, row: Row) -> Frontier | None:
        """The measured table that speaks for this call, if there is one."""
        found = self._given or (_builtin() if row.model == BUILTIN else None)
        return found if found is not None and found.rows else None

    def of(self, row: Row) -> float | None:
        """Expected tokens saved by one call, negative where λ cost more; None if nobody has measured its pair."""
        frontier = self.frontier(row)
        if frontier is None:
            return None
        if row.intensity is None or row.weights_mode is None:  # it failed before anything was decoded
            return float(-row.probe_tokens)
        return expected_tokens(frontier, 1.0) - expected_tokens(frontier, row.intensity) - row.probe_tokens

    def sum(self, rows: Iterable[Row]) -> float | None:
        """Over calls; None if one of them has no frontier: a part would pass for the whole."""
        each = [self.of(row) for row in rows]
        known = [value for value in each if value is not None]
        return sum(known) if each and len(known) == len(each) else None

    def statement(self, rows: Iterable[Row]) -> Mapping[str, str | list[str]]:
        """What the sum is measured against, and how."""
        used = {f"{f.pair} ({f.source})" for row in rows if (f := self.frontier(row)) is not None}
        return {"baseline": BASELINE, "method": METHOD, "frontiers": sorted(used)}


@cache
def _builtin() -> Frontier | None:
    path = Path(str(resources.files("dami_agent.checkpoints"))) / "builtin" / "frontier.json"
    return Frontier.from_file(path) if path.is_file() else None
