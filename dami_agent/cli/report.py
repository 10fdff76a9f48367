"""``dami report``: the ledger as one offline HTML page."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dami_agent.cli.calls import moment

if TYPE_CHECKING:
    from sqlalchemy import URL


def report(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the page goes; replaced if it exists.")] = Path(
        "report.html"
    ),
    run: Annotated[
        str | None, typer.Option(help="Only calls of this run (its id, its parent's or the root run's).")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Only calls after this: 90s, 30m, 2h, 7d, or a date.")] = None,
    ledger: Annotated[str | None, typer.Option(help="Path or URL; left out: DAMI_LEDGER or the default file.")] = None,
    frontier: Annotated[
        Path | None, typer.Option(help="The pair's frontier, as `dami sweep --json` writes it; left out: the built-in.")
    ] = None,
) -> None:
    """Write one HTML page that shows where the tokens went: runs, tools, nodes, λ, frontier. Needs no network."""
    after = moment(since) if since else None  # refused before anything is opened
    from dami_agent.cli.savings import BASELINE, METHOD, Savings
    from dami_agent.ledger import Ledger
    from dami_agent.policy import Frontier
    from dami_agent.report import Saved, Source, write

    savings = Savings(frontier)
    shipped = Path(str(resources.files("dami_agent.checkpoints"))) / "builtin" / "frontier.json"
    measured = frontier or (shipped if shipped.is_file() else None)
    opened = Ledger.open(ledger)
    rows = opened.rows(run=run, since=after)
    opened.close()
    scope = ", ".join(f"{word} {text}" for word, text in (("run", run), ("since", since)) if text)
    saved = Saved(tokens=[savings.of(row) for row in rows], baseline=BASELINE, method=METHOD)
    table = Frontier.from_file(measured) if measured is not None else None
    size = write(output, rows, Source(ledger=_name(opened.url), scope=scope), table, saved)
    typer.echo(f"{output}: {len(rows):,} calls, {size / 1e6:,.1f} MB", err=True)


def _name(url: URL | None) -> str:
    """The ledger's file name, or its database on a server; no folder and no credentials, for pages are passed on."""
    if url is None:
        return "a ledger that is off"
    if url.get_backend_name() == "sqlite":
        return Path(url.database or "memory").name
    return f"{url.database} on {url.host}"
