"""Run ``dami logs``: show what every call cost, and why; and whether the ledger is whole."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dami_agent.cli import call_view, groups
from dami_agent.cli.options import (
    ByOption,
    LedgerOption,
    NameOption,
    NodeOption,
    RunOption,
    SinceOption,
    TagOption,
    ToolOption,
    UserOption,
)
from dami_agent.cli.output import print_json, stdout, visible
from dami_agent.errors import UsageError

if TYPE_CHECKING:
    from dami_agent.ledger import CallRow, Ledger, Verification

LAST = 20  # rows shown on a terminal unless --limit says otherwise


def logs(
    run: RunOption = None,
    name: NameOption = None,
    tag: TagOption = None,
    user: UserOption = None,
    tool: ToolOption = None,
    node: NodeOption = None,
    since: SinceOption = None,
    query: Annotated[
        str | None, typer.Option("--query", "-q", help="Only calls with this text anywhere on record, in any case.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(help="Only the newest so many; 0 for all (default: 20 in a table, all otherwise).", min=0),
    ] = None,
    by: ByOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with everything on record.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, with everything on record; lists as JSON.")] = False,
    short: Annotated[bool, typer.Option("--short", help="Print one line per call instead of a table.")] = False,
    usage: Annotated[bool, typer.Option("--usage", help="Print totals instead of calls.")] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Check file, schema, every row and the sums; exit with 1 if anything is wrong."),
    ] = False,
    timing: Annotated[
        bool, typer.Option("--timing", help="With --verify: also measure how long writing a row takes on this disk.")
    ] = False,
    ledger: LedgerOption = None,
) -> None:
    """Show the calls on record: λ, why it was chosen, tokens, seconds."""
    if as_json and as_csv:
        raise UsageError("--json and --csv cannot be combined")
    if by and (as_csv or short or usage):
        raise UsageError("--by prints a table or, with --json, JSON", hint="leave out --csv, --short and --usage")
    after = call_view.moment(since) if since else None  # refused before anything is opened
    from dami_agent.ledger import Ledger, totals

    opened = Ledger.open(ledger)
    if verify:
        _verify(opened, timing, as_json)
        return
    if limit is None and not (as_json or as_csv or usage or by):
        limit = LAST
    rows = opened.rows(
        run=run, name=name, tag=tag, user=user, tool=tool, node=node, since=after, containing=query, limit=limit or None
    )
    wanted = {"run": run, "name": name, "tag": tag, "user": user, "tool": tool, "node": node, "since": since}
    if not rows:
        typer.echo(visible(call_view.nothing(opened, rows, {**wanted, "query": query})), err=True)
    opened.close()
    call_view.warn_of_damage(rows)
    if usage:
        print_json(totals(rows)) if as_json else _show_totals(totals(rows))
    elif by and (rows or as_json):
        groups.show(rows, by, as_json=as_json)
    elif as_json:
        print_json([row.to_dict() for row in rows])
    elif as_csv:
        typer.echo(_csv(rows), nl=False)
    elif short:
        for row in rows:
            typer.echo(call_view.line(row))
    elif rows:
        console = stdout()
        console.print(call_view.table(rows, console.width))


def _csv(rows: Sequence[CallRow]) -> str:
    from dami_agent.ledger import CallRow

    text = io.StringIO()
    writer = csv.DictWriter(text, list(CallRow.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        plain = row.to_dict().items()
        writer.writerow({k: json.dumps(v, ensure_ascii=False) if isinstance(v, (list, dict)) else v for k, v in plain})
    return visible(text.getvalue(), keep="\n\t")


def _show_totals(sums: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    for name, value in sums.items():
        if isinstance(value, Mapping):
            shown = call_view.cost_text(value)
        else:
            shown = "" if value is None else f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"
        table.add_row(name.replace("_", " "), shown)
    stdout().print(table)


def _verify(ledger: Ledger, timing: bool, as_json: bool) -> None:
    from dami_agent.ledger import CallRows

    found: Verification = ledger.verify()
    cost = ledger.write_cost() if timing else {}
    if as_json:
        place = None if ledger.url is None else str(ledger.url)
        said = {"ledger": place, "rows": found.rows, "schema": found.schema, "problems": list(found.problems)}
        print_json({**said, **({"write_cost": cost} if timing else {})})
    else:
        for problem in found.problems:
            typer.echo(f"  {visible(problem)}")
        verdict = "whole" if found.whole else f"{len(found.problems)} problem{'s' * (len(found.problems) != 1)}"
        if ledger.exists():
            typer.echo(f"{ledger.url}: {found.rows} calls, schema {found.schema}: {verdict}")
        else:
            typer.echo(call_view.nothing(ledger, CallRows(), {}))
        if timing:
            shown = ", ".join(f"{name} {value:.0f} µs" for name, value in cost.items() if name != "rows")
            typer.echo(f"writing a row takes {shown} ({cost['rows']:.0f} rows, written beside the ledger and deleted)")
    ledger.close()
    if not found.whole:
        raise typer.Exit(1)
