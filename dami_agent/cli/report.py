"""Run ``dami report``: write the ledger as one offline HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dami_agent.cli.call_view import moment, nothing, warn_of_damage
from dami_agent.cli.options import (
    FrontierOption,
    LedgerOption,
    NameOption,
    RunOption,
    SinceOption,
    TagOption,
    UserOption,
)
from dami_agent.cli.output import visible

if TYPE_CHECKING:
    from sqlalchemy import URL


def report(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write; replaced if it exists, - for stdout.")
    ] = Path("report.html"),
    text: Annotated[
        bool,
        typer.Option("--text", help="Put prompts, thoughts and answers into the page, if the ledger has them."),
    ] = False,
    run: RunOption = None,
    name: NameOption = None,
    tag: TagOption = None,
    user: UserOption = None,
    since: SinceOption = None,
    ledger: LedgerOption = None,
    frontier: FrontierOption = None,
) -> None:
    """Write one HTML page that shows where the tokens went: runs, tools, nodes, λ, frontier. Needs no network."""
    after = moment(since) if since else None  # refused before anything is opened
    from dami_agent.cli.open_savings import builtin_frontier, open_savings
    from dami_agent.ledger import Ledger
    from dami_agent.ledger.savings import BASELINE, METHOD
    from dami_agent.policy import Frontier
    from dami_agent.report import ReportSource, Saved, write

    savings = open_savings(frontier)
    measured = frontier or builtin_frontier()
    opened = Ledger.open(ledger)
    rows = opened.rows(run=run, name=name, tag=tag, user=user, since=after)
    wanted = {"run": run, "name": name, "tag": tag, "user": user, "since": since}
    if not rows:
        typer.echo(visible(nothing(opened, rows, wanted)), err=True)
    opened.close()
    warn_of_damage(rows)
    scope = ", ".join(f"{word} {asked}" for word, asked in wanted.items() if asked)
    saved = Saved(tokens=[savings.expected(row) for row in rows], baseline=BASELINE, method=METHOD)
    table = Frontier.from_file(measured) if measured is not None else None
    source = ReportSource(ledger=_name(opened.url), scope=scope, skipped=rows.skipped)
    size = write(output, rows, source, table, saved, text=text)
    kept = " with prompts and answers" if text and any(row.prompt_text for row in rows) else ""
    typer.echo(
        f"{'stdout' if str(output) == '-' else output}: {len(rows):,} calls{kept}, {size / 1e6:,.1f} MB", err=True
    )


def _name(url: URL | None) -> str:
    """Name the ledger's file, or its database on a server; no folder and no credentials, for pages are passed on."""
    if url is None:
        return "a ledger that is off"
    if url.get_backend_name() == "sqlite":
        return Path(url.database or "memory").name
    return f"{url.database} on {url.host}"
