"""``dami runs``: one line per agent run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dami_agent.cli import calls
from dami_agent.cli.grid import Column
from dami_agent.cli.output import print_json, stdout

if TYPE_CHECKING:
    from rich.console import Console

    from dami_agent.cli.savings import Savings
    from dami_agent.ledger import Run

LAST = 20
COLUMNS = (
    Column("run"),
    Column("when", rank=3),
    Column("thread", rank=6),
    Column("steps", right=True),
    Column("failed", rank=5, right=True),
    Column("λ", right=True),
    Column("prompt", rank=4, right=True),
    Column("thought", right=True),
    Column("answer", right=True),
    Column("s", rank=2, right=True),
    Column("money", rank=1, right=True),
    Column("saved (expected)", right=True),
)


def runs(
    since: Annotated[str | None, typer.Option(help="Only calls after this: 90s, 30m, 2h, 7d, or a date.")] = None,
    limit: Annotated[
        int | None, typer.Option(help="The newest so many; 0 for all. The table shows 20, --json all.", min=0)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object: the runs, and what saved means.")] = False,
    frontier: Annotated[
        Path | None, typer.Option(help="Frontier file to reckon savings by; left out: the built-in pair's own.")
    ] = None,
    ledger: Annotated[str | None, typer.Option(help="Path or URL; left out: DAMI_LEDGER or the default file.")] = None,
) -> None:
    """Show agent runs: steps, tokens, range of λ, money, and tokens saved against a stated baseline."""
    after = calls.moment(since) if since else None
    from dami_agent.cli.savings import Savings
    from dami_agent.ledger import Ledger
    from dami_agent.ledger import runs as by_run

    savings = Savings(frontier)
    opened = Ledger.open(ledger)
    found = by_run(opened.rows(since=after))
    opened.close()
    limit = LAST if limit is None and not as_json else limit
    found = found[-limit:] if limit else found
    statement = savings.statement(row for run in found for row in run.rows)
    if as_json:
        print_json({"saved": dict(statement), "runs": [_plain(run, savings) for run in found]})
    elif not found:
        typer.echo(f"no calls on record in {opened.url or 'a ledger that is off'}", err=True)
    else:
        console = stdout()
        _show(console, found, savings)
        if statement["frontiers"]:
            console.print(f"\nsaved: {statement['method']}.", markup=False, style="dim")
            console.print(f"baseline: {statement['baseline']}", markup=False, style="dim")
            console.print(f"frontier: {', '.join(statement['frontiers'])}", markup=False, style="dim")


def _plain(run: Run, savings: Savings) -> dict[str, Any]:
    saved, sums = savings.sum(run.rows), run.totals
    return {
        "run": run.id,
        "thread_id": run.rows[0].thread_id,
        "started_at": run.started_at.isoformat(),
        "steps": run.steps,
        "intensity": run.intensities,
        **{name: value for name, value in sums.items() if name not in ("runs", "seconds")},
        "call_seconds": sums["seconds"],
        "seconds": run.seconds,
        "saved_tokens_expected": saved,
        "baseline_tokens_expected": None if saved is None else sums["output_tokens"] + saved,
    }


def _show(console: Console, found: Sequence[Run], savings: Savings) -> None:
    from dami_agent.cli.grid import distinct, grid

    names = distinct([run.id for run in found], calls.SHORT_ID)
    lines = []
    for run in found:
        sums, used, saved = run.totals, run.intensities, savings.sum(run.rows)
        span = "" if used is None else f"{used[0]:g}" if used[0] == used[1] else f"{used[0]:g}–{used[1]:g}"
        share = "–" if saved is None else f"{saved:,.0f} of {sums['output_tokens'] + saved:,.0f}"
        lines.append(
            (
                names[run.id],
                calls.local(run.started_at),
                (run.rows[0].thread_id or "")[:12],
                str(run.steps),
                str(sums["failed"]),
                span,
                str(sums["prompt_tokens"]),
                str(sums["output_tokens"] - sums["answer_tokens"]),
                str(sums["answer_tokens"]),
                f"{run.seconds:.2f}",
                calls.money(sums["money"]),
                share,
            )
        )
    console.print(grid(COLUMNS, lines, console.width))
