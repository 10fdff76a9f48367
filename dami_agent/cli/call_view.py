"""Show rows of the ledger to people: shared by logs, runs, explain and watch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import typer

from dami_agent.cli.grid import Column
from dami_agent.cli.output import visible

if TYPE_CHECKING:
    from rich.table import Table

    from dami_agent.ledger import CallRow, CallRows, Ledger

SHORT_ID = 8  # characters of an id that are shown, if they tell it from others; commands take ids by how they begin
COLUMNS = (
    Column("call"),
    Column("when", rank=6),
    Column("node", rank=7),
    Column("read → called", rank=4),
    Column("λ"),
    Column("why", least=24),
    Column("prompt", rank=5, right=True),
    Column("probe", rank=8, right=True),
    Column("thought", rank=1, right=True),
    Column("answer", rank=1, right=True),
    Column("s", rank=3, right=True),
    Column("end", rank=2),
)


def nothing(ledger: Ledger, rows: CallRows, wanted: Mapping[str, str | None]) -> str:
    """Say why there is nothing to show: no ledger, no calls in it, none that can be read, or none that match.

    Args:
        ledger: still open.
        rows: what was found: none.
        wanted: the filters by the options' names, None where not used.
    """
    if ledger.url is None:
        return "the ledger is off, so nothing is on record"
    if not ledger.exists():
        return f"there is no ledger at {ledger.url} yet: nothing was ever recorded there"
    if rows.skipped:
        return f"no call in the ledger at {ledger.url} can be shown"
    asked = ", ".join(f"--{name} {value}" for name, value in wanted.items() if value is not None)
    if asked and ledger.rows(limit=1):
        return f"no call in the ledger at {ledger.url} matches {asked}"
    return f"the ledger at {ledger.url} is empty: no call is on record"


def warn_of_damage(rows: CallRows) -> None:
    """Say on stderr how many rows could not be read, if any."""
    if rows.skipped:
        many = "1 damaged row was" if rows.skipped == 1 else f"{rows.skipped:,} damaged rows were"
        typer.echo(f"{many} skipped; `dami logs --verify` says what is wrong", err=True)


def span(text: str) -> timedelta | None:
    """Read a span of time such as ``90s``, ``30m``, ``2h`` or ``7d``; None if it is none.

    Raises:
        OverflowError: it is longer than all of time.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    return timedelta(**{units[match[2]]: float(match[1])}) if match else None


def moment(text: str) -> datetime:
    """Read a point in time: ``2h`` ago, or an ISO date or time (local unless it says otherwise)."""
    try:
        ago = span(text)
        if ago is not None:
            return datetime.now(timezone.utc) - ago
    except OverflowError:
        return datetime.fromtimestamp(0, timezone.utc)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither a span such as 30m, 2h or 7d nor a date such as 2026-01-31", param_hint="--since"
        ) from None


def intensity(row: CallRow) -> str:
    """Format λ, with the answer's where it is another: ``0.8/0``."""
    if row.used is None:
        return ""
    other = "" if row.answered in (None, row.used) else f"/{row.answered:g}"
    return f"{row.used:g}{other}"


def tools(row: CallRow) -> str:
    """Format the tool whose result was read, then the one called: ``search → add``."""
    read, called = ", ".join(row.tools_digested), ", ".join(row.tools_called)
    return f"{read} → {called}".strip() if read or called else ""


def end(row: CallRow) -> str:
    """Say how a call ended: an error's class, or the finish reason."""
    return row.error_type or row.finish_reason or ""


def local(at: datetime) -> str:
    """Format a time in the reader's time zone."""
    return at.astimezone().strftime("%m-%d %H:%M:%S")


def cost_text(amounts: Mapping[str, float]) -> str:
    """Format amounts as ``0.00123 USD``; "" where nothing has a price."""
    return ", ".join(f"{amount:.4g} {currency}" for currency, amount in amounts.items())


def line(row: CallRow) -> str:
    """Format one call on one line."""
    tokens = f"{row.prompt_tokens}+{row.output_tokens} tokens ({row.output_tokens - row.answer_tokens} thought)"
    call = row.call_id[:SHORT_ID]
    parts = (call, local(row.started_at), f"λ={intensity(row)}", tokens, f"{row.seconds:.2f}s", row.node, tools(row))
    return visible("  ".join(part for part in (*parts, end(row)) if part))


def table(rows: Sequence[CallRow], width: int, *, wrap: bool = True) -> Table:
    """Lay out calls as a table of that width; in a narrow one the columns that matter least are left out."""
    from rich.text import Text

    from dami_agent.cli.grid import distinct, grid

    names = distinct([row.call_id for row in rows], SHORT_ID)
    lines = [
        (
            names[row.call_id],
            local(row.started_at),
            row.node or "",
            tools(row),
            intensity(row),
            row.reason or (row.error or "").partition("\n")[0],  # without its hint, which `dami explain` shows
            str(row.prompt_tokens),
            str(row.probe_tokens),
            str(row.reasoning_tokens),
            str(row.answer_tokens),
            f"{row.seconds:.2f}",
            Text(visible(end(row)), style="red" if row.error_type else ""),
        )
        for row in rows
    ]
    return grid(COLUMNS, lines, width, wrap=wrap)
