"""Markdown tables of what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]
"""What a measurement wrote, read back."""


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: int = 0) -> str:
    """Format a Markdown table; columns from the ``right``-th on are aligned to the right, none if 0."""
    rule = ["---:" if right and place >= right else "---" for place in range(len(header))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))


def mark(verdict: bool | None) -> str:
    """Return yes, **no**, or - for what was not measured."""
    return {True: "yes", False: "**no**", None: "-"}[verdict]


def in_points(share: float, interval: Sequence[float] | None = None) -> str:
    """Return a difference of shares in points, with its interval where there is one: +1.5, +1.5 (−1.0 to +2.5)."""
    said = f"{100 * share:+.1f}".replace("-", "−")
    return said if interval is None else f"{said} ({between(interval)})"


def with_margin(found: Json) -> str:
    """Return a gain in points with half its interval: +1.5 ± 0.8."""
    return f"{in_points(found['gain'])} ± {100 * found['ci']:.1f}"


def between(interval: Sequence[float] | None) -> str:
    """Return the ends of an interval in points, nothing where there is none: −1.0 to +2.5."""
    return "" if interval is None else f"{in_points(interval[0])} to {in_points(interval[1])}"
