"""``dami runs``: one line per agent run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dami_agent.cli import calls
from dami_agent.cli.output import print_json, stdout

if TYPE_CHECKING:
    from dami_agent.cli.savings import Savings
    from dami_agent.ledger import Run

LAST = 20


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
        _show(found, savings)
        if statement["frontiers"]:
            typer.echo(f"\nsaved: {statement['method']}; baseline: {statement['baseline']}.")
            typer.echo(f"frontier: {', '.join(statement['frontiers'])}")


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


def _show(found: Sequence[Run], savings: Savings) -> None:
    from rich.markup import escape

    numbers = ("steps", "failed", "λ", "prompt", "thought", "answer", "s", "money", "saved (expected)")
    grid = calls.columns(("run", "when", "thread"), numbers)
    for run in found:
        sums, used, saved = run.totals, run.intensities, savings.sum(run.rows)
        span = "" if used is None else f"{used[0]:g}" if used[0] == used[1] else f"{used[0]:g}–{used[1]:g}"
        thought = sums["reasoning_tokens"] + sums["probe_tokens"]
        counts = (run.steps, sums["failed"], span, sums["prompt_tokens"], thought, sums["answer_tokens"])
        base = None if saved is None else sums["output_tokens"] + saved
        share = f"{saved:,.0f} of {base:,.0f}" if saved is not None and base is not None else "–"
        texts = (run.id[: calls.SHORT_ID], calls.local(run.started_at), (run.rows[0].thread_id or "")[:12])
        grid.add_row(*map(escape, texts), *map(str, counts), f"{run.seconds:.2f}", calls.money(sums["money"]), share)
    stdout().print(grid)
