"""``dami logs``: what every call cost, and why; and whether the ledger is whole."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dami_agent.cli import calls
from dami_agent.cli.output import print_json, stdout
from dami_agent.errors import UsageError

if TYPE_CHECKING:
    from dami_agent.ledger import Ledger, Row, Verification

LAST = 20  # rows shown on a terminal unless --limit says otherwise


def logs(
    run: Annotated[
        str | None, typer.Option(help="Only calls of this run (its own, its parent's or the root's id).")
    ] = None,
    tool: Annotated[str | None, typer.Option(help="Only calls that called this tool or read its result.")] = None,
    node: Annotated[str | None, typer.Option(help="Only calls of this LangGraph node.")] = None,
    since: Annotated[str | None, typer.Option(help="Only calls after this: 90s, 30m, 2h, 7d, or a date.")] = None,
    query: Annotated[
        str | None, typer.Option("--query", "-q", help="Only calls with this text anywhere on record, in any case.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="The newest so many; 0 for all. Tables show 20, JSON, CSV, --usage all.", min=0)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON array with everything on record.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV with everything on record; lists as JSON.")] = False,
    short: Annotated[bool, typer.Option("--short", help="One line a call, without a table.")] = False,
    usage: Annotated[bool, typer.Option("--usage", help="Totals instead of calls.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check file, schema, all rows and sums; status 1 if anything is wrong.")
    ] = False,
    timing: Annotated[
        bool, typer.Option("--timing", help="With --verify: measure what writing a row costs on this disk.")
    ] = False,
    ledger: Annotated[str | None, typer.Option(help="Path or URL; left out: DAMI_LEDGER or the default file.")] = None,
) -> None:
    """Show the calls on record: λ, why it was chosen, tokens, seconds."""
    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other")
    after = calls.moment(since) if since else None  # refused before anything is opened
    from dami_agent.ledger import Ledger, totals

    opened = Ledger.open(ledger)
    if verify:
        _verify(opened, timing, as_json)
        return
    if limit is None and not (as_json or as_csv or usage):
        limit = LAST
    rows = opened.rows(run=run, tool=tool, node=node, since=after, containing=query, limit=limit or None)
    opened.close()
    if usage:
        print_json(totals(rows)) if as_json else _show_totals(totals(rows))
    elif as_json:
        print_json([row.to_dict() for row in rows])
    elif as_csv:
        typer.echo(_csv(rows), nl=False)
    elif not rows:
        typer.echo(f"no calls on record in {opened.url or 'a ledger that is off'}", err=True)
    elif short:
        for row in rows:
            typer.echo(calls.line(row))
    else:
        console = stdout()
        console.print(calls.table(rows, console.width))


def _csv(rows: Sequence[Row]) -> str:
    from dami_agent.ledger import Row

    text = io.StringIO()
    writer = csv.DictWriter(text, list(Row.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        plain = row.to_dict().items()
        writer.writerow({k: json.dumps(v, ensure_ascii=False) if isinstance(v, (list, dict)) else v for k, v in plain})
    return text.getvalue()


def _show_totals(sums: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    for name, value in sums.items():
        if isinstance(value, Mapping):
            shown = calls.money(value)
        else:
            shown = "" if value is None else f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"
        table.add_row(name.replace("_", " "), shown)
    stdout().print(table)


def _verify(ledger: Ledger, timing: bool, as_json: bool) -> None:
    found: Verification = ledger.verify()
    cost = ledger.write_cost() if timing else {}
    if as_json:
        place = None if ledger.url is None else str(ledger.url)
        said = {"ledger": place, "rows": found.rows, "schema": found.schema, "problems": list(found.problems)}
        print_json({**said, **({"write_cost": cost} if timing else {})})
    else:
        for problem in found.problems:
            typer.echo(f"  {problem}")
        verdict = "whole" if found.whole else f"{len(found.problems)} problems"
        typer.echo(f"{ledger.url or 'a ledger that is off'}: {found.rows} calls, schema {found.schema}: {verdict}")
        if timing:
            shown = ", ".join(f"{name} {value:.0f} µs" for name, value in cost.items() if name != "rows")
            typer.echo(f"a row costs {shown} ({cost['rows']:.0f} rows, written beside the ledger and deleted)")
    ledger.close()
    if not found.whole:
        raise typer.Exit(1)
