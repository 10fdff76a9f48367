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
