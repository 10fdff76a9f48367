"""Add rows up: all together, by run, and by what tells them apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dami_agent.ledger.row import CallRow
from dami_agent.types.record import ANSWER

TOKENS = ("prompt_tokens", "probe_tokens", "reasoning_tokens", "answer_tokens", "output_tokens")
_LATER_TOKENS = ("discarded_tokens", "cached_tokens", "reread_tokens")  # None in older rows


def totals(rows: Sequence[CallRow]) -> dict[str, Any]:
    """Add up calls, tokens, seconds and cost, ready for JSON.

    The mean λ is weighted by calls. Cost is by currency, over priced calls only.
    """
    used = [row.intensity for row in rows if row.intensity is not None]
    return {
        "calls": len(rows),
        "failed": sum(row.error_type is not None for row in rows),
        "runs": len({row.run for row in rows}),
        "mean_intensity": sum(used) / len(used) if used else None,
        **{name: sum(getattr(row, name) for row in rows) for name in TOKENS},
        **{name: sum(getattr(row, name) or 0 for row in rows) for name in _LATER_TOKENS},
        "seconds": sum(row.seconds for row in rows),
        "cost": costs(rows),
    }


def costs(rows: Iterable[CallRow]) -> dict[str, float]:
    """Add up what calls cost, by currency; {} where none has a price."""
    sums: dict[str, float] = {}
    for row in rows:
        if row.cost is not None:
            sums[row.currency or ""] = sums.get(row.currency or "", 0.0) + row.cost
    return sums


# Under which keys a call counts; where it may be more than one, the groups do not add up to the whole.
GROUPINGS: dict[str, Callable[[CallRow], Iterable[str]]] = {
    "tool_read": lambda row: (row.charged_to or ANSWER,),  # its result was read, and its reasoning budget paid
    "tool_called": lambda row: row.tools_called or (ANSWER,),
    "node": lambda row: (row.node or "",),
    "name": lambda row: row.names or ("",),
    "tag": lambda row: row.tags or ("",),
    "user": lambda row: (row.user or "",),
    "day": lambda row: (row.started_at.astimezone().date().isoformat(),),  # as the reader's clock has it
}


def group(rows: Iterable[CallRow], by: str) -> dict[str, list[CallRow]]:
    """Group rows by one of ``GROUPINGS``, keys in order; ``""`` holds those without a node, name, tag or user."""
    groups: dict[str, list[CallRow]] = defaultdict(list)
    for row in rows:
        for key in dict.fromkeys(GROUPINGS[by](row)):
            groups[key].append(row)
    return {key: groups[key] for key in sorted(groups)}


def by_tool(rows: Iterable[CallRow]) -> dict[str, dict[str, Any]]:
    """Add up by the tool whose result a call read, which pays for it; each call counts once, so they add up."""
    return {key: totals(found) for key, found in group(rows, "tool_read").items()}


def by_called_tool(rows: Iterable[CallRow]) -> dict[str, dict[str, Any]]:
    """Add up by the tool that a call ended up calling, or ``answer``; a call of several tools is under each of them."""
    return {key: totals(found) for key, found in group(rows, "tool_called").items()}


def by_node(rows: Iterable[CallRow]) -> dict[str, dict[str, Any]]:
    """Add up by LangGraph node, ``""`` for calls outside a graph; each call counts once, so they add up."""
    return {key: totals(found) for key, found in group(rows, "node").items()}


@dataclass(frozen=True, slots=True)
class RunSummary:
    """Holds the calls of one agent or chain run on record, oldest first; never empty."""

    id: str
    rows: tuple[CallRow, ...]

    @property
    def steps(self) -> int:
        """Count the calls, however many attempts each took."""
        return len({row.call_id for row in self.rows})

    @property
    def intensities(self) -> tuple[float, float] | None:
        """Return the lowest and highest λ used; None if no call came so far."""
        used = [row.intensity for row in self.rows if row.intensity is not None]
        return (min(used), max(used)) if used else None

    @property
    def started_at(self) -> datetime:
        """Return when its first call started."""
        return self.rows[0].started_at

    @property
    def seconds(self) -> float:
        """Measure from the start of its first call to the end of its last, tools between them included."""
        return max((row.started_at - self.started_at).total_seconds() + row.seconds for row in self.rows)

    @property
    def names(self) -> tuple[str, ...]:
        """List the names of its traces and runs, each once."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.names))

    @property
    def totals(self) -> dict[str, Any]:
        """Add up its calls."""
        return totals(self.rows)


def runs(rows: Iterable[CallRow]) -> list[RunSummary]:
    """Group rows by run, the run that began last at the end."""
    groups: dict[str, list[CallRow]] = defaultdict(list)
    for row in rows:
        groups[row.run].append(row)
    found = [RunSummary(key, tuple(sorted(group, key=lambda r: (r.started_at, r.id)))) for key, group in groups.items()]
    return sorted(found, key=lambda run: (run.started_at, run.rows[0].id))
