"""Rows of the ledger as people read them: shared by logs, runs, explain and watch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from dami_agent.ledger import Row

SHORT_ID = 8  # characters of an id that are shown; commands take ids by how they begin


def moment(text: str) -> datetime:
    """``2h`` ago, or an ISO date or time (local unless it says otherwise)."""
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text):
        unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[match[2]]
        try:
            return datetime.now(timezone.utc) - timedelta(**{unit: float(match[1])})
        except OverflowError:
            return datetime.fromtimestamp(0, timezone.utc)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither like 30m, 2h, 7d nor a date like 2026-01-31", param_hint="--since"
        ) from None


def intensity(row: Row) -> str:
    """λ, with the answer's where it is another: ``0.8/0``."""
    if row.intensity is None:
        return ""
    other = "" if row.intensity_answer in (None, row.intensity) else f"/{row.intensity_answer:g}"
    return f"{row.intensity:g}{other}"


def tools(row: Row) -> str:
    """``search → add``: the tool whose result was read, then the one called."""
    read, called = ", ".join(row.tools_digested), ", ".join(row.tools_called)
    return f"{read} → {called}".strip() if read or called else ""


def end(row: Row) -> str:
    """How it ended: an error's class, or the finish reason."""
    return row.error_type or row.finish_reason or ""


def local(at: datetime) -> str:
    """In the reader's time zone."""
    return at.astimezone().strftime("%m-%d %H:%M:%S")


def money(amounts: Mapping[str, float]) -> str:
    """``0.00123 USD``; "" where nothing has a price."""
    return ", ".join(f"{amount:.4g} {currency}" for currency, amount in amounts.items())


def line(row: Row) -> str:
    """One call on one line."""
    tokens = f"{row.prompt_tokens}+{row.output_tokens} tokens ({row.reasoning_tokens + row.probe_tokens} thought)"
    call = row.call_id[:SHORT_ID]
    parts = (call, local(row.started_at), f"λ={intensity(row)}", tokens, f"{row.seconds:.2f}s", row.node, tools(row))
    return "  ".join(part for part in (*parts, end(row)) if part)


def table(rows: Iterable[Row]) -> Table:
    """Calls as a table; text is escaped."""
    from rich.markup import escape

    grid = columns(("call", "when", "node", "read → called", "λ", "why"), ("prompt", "probe", "thought", "answer", "s"))
    grid.add_column("end")
    for row in rows:
        counts = (row.prompt_tokens, row.probe_tokens, row.reasoning_tokens, row.answer_tokens)
        ended = f"[red]{escape(end(row))}[/red]" if row.error_type else escape(end(row))
        texts = (row.call_id[:SHORT_ID], local(row.started_at), row.node or "", tools(row), intensity(row))
        why = row.reason or row.error or ""
        grid.add_row(*map(escape, (*texts, why)), *map(str, counts), f"{row.seconds:.2f}", ended)
    return grid


def columns(texts: Sequence[str], numbers: Sequence[str]) -> Table:
    """An empty table: text columns to the left, of which ``why`` takes what is left over, then numbers."""
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, header_style="dim")
    for name in texts:
        grid.add_column(name, no_wrap=name not in ("read → called", "why"), ratio=1 if name == "why" else None)
    for name in numbers:
        grid.add_column(name, justify="right", no_wrap=True)
    return grid
