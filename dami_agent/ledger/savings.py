"""Estimate the tokens saved against a stated baseline: the frontier's expectation at λ=1. Expected, not measured.

For each call: the mean output tokens that the pair's frontier shows at λ=1, less those at the λ used, less what was
discarded. A call with tools bound is compared with the tool dialogues that were measured, which think far less than
questions do; any other with the questions. It is a mean over those, not over the user's calls, and is labelled so
wherever it shows.

The tables are a policy's frontiers. Ledger and policy do not import each other, so :class:`TokenTable` says what of a
frontier is read here::

    file = "frontier.json"
    Savings(Frontier.from_file(file), Frontier.from_file(file, of="tools")).total(Ledger.open().rows())
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Protocol

from dami_agent.ledger.row import CallRow

BASELINE = "λ=1 on every call, as the frontier expects it"
METHOD = (
    "expected, not measured: per call, mean output tokens at λ=1 minus those at the λ used, from the frontier's tool "
    "dialogues where tools are bound, else of its questions; minus discarded probes"
)


class MeasuredTokens(Protocol):
    """Gives the mean output tokens at one measured λ, as :class:`~dami_agent.policy.FrontierRow` does."""

    @property
    def intensity(self) -> float:
        """Return λ."""

    @property
    def tokens(self) -> float:
        """Return the mean output tokens at λ."""


class TokenTable(Protocol):
    """Gives what is read of a :class:`~dami_agent.policy.Frontier`: rows ordered by λ, and where they come from."""

    @property
    def rows(self) -> Sequence[MeasuredTokens]:
        """Return the measured λs, lowest first; empty if nothing was measured."""

    @property
    def pair(self) -> str:
        """Return the name of the pair."""

    @property
    def source(self) -> str:
        """Return where the table was read from."""


def expected_tokens(table: TokenTable, intensity: float) -> float:
    """Interpolate the mean output tokens at λ linearly between measured λs; ``table`` is not empty."""
    rows = table.rows
    for low, high in pairwise(rows):
        if low.intensity <= intensity <= high.intensity:
            share = (intensity - low.intensity) / (high.intensity - low.intensity)
            return low.tokens + share * (high.tokens - low.tokens)
    return rows[0].tokens if intensity < rows[0].intensity else rows[-1].tokens


class Savings:
    """Estimates the output tokens that calls have saved, by what was measured of their pair.

    Args:
        questions: the table for calls without tools; None: nobody measured any.
        tools: the table for calls with tools bound.
        model: the only model that the tables speak for, as the ledger names it; None: they speak for all.
    """

    def __init__(
        self, questions: TokenTable | None, tools: TokenTable | None = None, *, model: str | None = None
    ) -> None:
        self._questions, self._tools, self._model = questions, tools, model

    def table(self, row: CallRow) -> TokenTable | None:
        """Return the table that speaks for a call, of tool dialogues or of questions; None if there is none."""
        if self._model is not None and row.model != self._model:
            return None
        found = self._tools if row.tools_bound else self._questions
        return found if found is not None and found.rows else None

    def expected(self, row: CallRow) -> float | None:
        """Estimate the tokens that one call has saved, negative where λ cost more; None if nobody measured its pair."""
        table = self.table(row)
        if table is None:
            return None
        discarded = row.probe_tokens + (row.discarded_tokens or 0)
        if row.intensity is None or row.weights_mode is None:  # it failed before anything was decoded
            return float(-discarded)
        return expected_tokens(table, 1.0) - expected_tokens(table, row.intensity) - discarded

    def total(self, rows: Iterable[CallRow]) -> float | None:
        """Add up what calls have saved; None if one of them has no table: a part would pass for the whole."""
        each = [self.expected(row) for row in rows]
        known = [value for value in each if value is not None]
        return sum(known) if each and len(known) == len(each) else None

    def statement(self, rows: Iterable[CallRow]) -> Mapping[str, str | list[str]]:
        """Say what the total is measured against, and how."""
        used = {f"{t.pair} ({t.source})" for row in rows if (t := self.table(row)) is not None}
        return {"baseline": BASELINE, "method": METHOD, "frontiers": sorted(used)}
