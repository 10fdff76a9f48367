"""``dami logs``: what every call cost, and why."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dami_agent.cli.output import print_json, stdout

if TYPE_CHECKING:
    from dami_agent.ledger import Row

LAST = 20  # rows shown on a terminal unless --limit says otherwise
TOKENS = ("prompt_tokens", "probe_tokens", "reasoning_tokens", "answer_tokens", "output_tokens")


def logs(
    run: Annotated[
        str | None, typer.Option(help="Only calls of this run (its id, its parent's or the root run's).")
    ] = None,
    tool: Annotated[str | None, typer.Option(help="Only calls that called this tool or read its result.")] = None,
    node: Annotated[str | None, typer.Option(help="Only calls of this LangGraph node.")] = None,
    since: Annotated[str | None, typer.Option(help="Only calls after this: 90s, 30m, 2h, 7d, or a date.")] = None,
    limit: Annotated[
        int | None, typer.Option(help="The newest so many; 0 for all. Tables show 20, --json and --usage all.", min=0)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON array with everything on record.")] = False,
    short: Annotated[bool, typer.Option("--short", help="One line a call, without a table.")] = False,
    usage: Annotated[bool, typer.Option("--usage", help="Totals instead of calls.")] = False,
    ledger: Annotated[str | None, typer.Option(help="Path or URL; left out: DAMI_LEDGER or the default file.")] = None,
) -> None:
    """Show the calls on record: λ, why it was chosen, tokens, seconds."""
    after = _moment(since) if since else None  # refused before anything is opened
    from dami_agent.ledger import Ledger

    if limit is None and not as_json and not usage:
        limit = LAST
    opened = Ledger.open(ledger)
    rows = opened.rows(run=run, tool=tool, node=node, since=after, limit=limit or None)
    opened.close()
    if usage:
        print_json(_totals(rows)) if as_json else _show_totals(rows)
    elif as_json:
        print_json([row.to_dict() for row in rows])
    elif not rows:
        typer.echo(f"no calls on record in {opened.url or 'a ledger that is off'}", err=True)
    elif short:
        for row in rows:
            typer.echo(_line(row))
    else:
        _show(rows)


def _moment(text: str) -> datetime:
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


def _intensity(row: Row) -> str:
    return "" if row.intensity is None else f"{row.intensity:g}"


def _tools(row: Row) -> str:
    """``search → add``: the tool whose result was read, then the one called."""
    read, called = ", ".join(row.tools_digested), ", ".join(row.tools_called)
    return f"{read} → {called}".strip() if read or called else ""


def _end(row: Row) -> str:
    return f"{row.error_type}" if row.error_type else row.finish_reason or ""


def _local(row: Row) -> str:
    return row.started_at.astimezone().strftime("%m-%d %H:%M:%S")


def _line(row: Row) -> str:
    tokens = f"{row.prompt_tokens}+{row.output_tokens} tokens ({row.reasoning_tokens + row.probe_tokens} thought)"
    parts = (_local(row), f"λ={_intensity(row)}", tokens, f"{row.seconds:.2f}s", row.node, _tools(row), _end(row))
    return "  ".join(part for part in parts if part)


def _show(rows: Sequence[Row]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("when", "node", "read → called", "λ"):
        table.add_column(name, no_wrap=name != "read → called")
    table.add_column("why", ratio=1)
    for name in ("prompt", "probe", "thought", "answer", "s"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("end")
    for row in rows:
        counts = (row.prompt_tokens, row.probe_tokens, row.reasoning_tokens, row.answer_tokens)
        end = f"[red]{escape(_end(row))}[/red]" if row.error_type else escape(_end(row))
        texts = (_local(row), row.node or "", _tools(row), _intensity(row), row.reason or row.error or "")
        table.add_row(*map(escape, texts), *map(str, counts), f"{row.seconds:.2f}", end)
    stdout().print(table)


def _totals(rows: Sequence[Row]) -> dict[str, Any]:
    """Sums over rows; the mean λ is weighted by calls."""
    used = [row.intensity for row in rows if row.intensity is not None]
    return {
        "calls": len(rows),
        "failed": sum(row.error_type is not None for row in rows),
        "runs": len({row.root_run_id or row.parent_run_id or row.run_id for row in rows} - {None}),
        "mean_intensity": sum(used) / len(used) if used else None,
        **{name: sum(getattr(row, name) for row in rows) for name in TOKENS},
        "seconds": sum(row.seconds for row in rows),
    }


def _show_totals(rows: Sequence[Row]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    for name, value in _totals(rows).items():
        shown = "" if value is None else f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"
        table.add_row(name.replace("_", " "), shown)
    stdout().print(table)
