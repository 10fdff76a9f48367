"""Run ``dami runs``: show one line per agent run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dami_agent.cli import call_view, groups
from dami_agent.cli.grid import Column
from dami_agent.cli.options import (
    ByOption,
    FrontierOption,
    LedgerOption,
    NameOption,
    NodeOption,
    SinceOption,
    TagOption,
    ToolOption,
    UserOption,
)
from dami_agent.cli.output import print_json, stdout, visible

if TYPE_CHECKING:
    from rich.console import Console

    from dami_agent.ledger import RunSummary, Savings

LAST = 20
COLUMNS = (
    Column("run"),
    Column("when", rank=3),
    Column("name", rank=5),
    Column("thread", rank=7),
    Column("steps", right=True),
    Column("failed", rank=6, right=True),
    Column("λ", right=True),
    Column("prompt", rank=4, right=True),
    Column("thought", right=True),
    Column("answer", right=True),
    Column("s", rank=2, right=True),
    Column("cost", rank=1, right=True),
    Column("saved (expected)", right=True),
)


def runs(
    name: NameOption = None,
    tag: TagOption = None,
    user: UserOption = None,
    node: NodeOption = None,
    tool: ToolOption = None,
    since: SinceOption = None,
    limit: Annotated[
        int | None, typer.Option(help="Only the newest so many; 0 for all (default: 20 in a table, else all).", min=0)
    ] = None,
    by: ByOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: the runs, and what saved means.")] = False,
    frontier: FrontierOption = None,
    ledger: LedgerOption = None,
) -> None:
    """Show agent runs: steps, tokens, range of λ, cost, and tokens saved against a stated baseline."""
    after = call_view.moment(since) if since else None
    from dami_agent.cli.open_savings import open_savings
    from dami_agent.ledger import Ledger, unmatched_rules
    from dami_agent.ledger import runs as by_run

    savings = open_savings(frontier)
    opened = Ledger.open(ledger)
    rows = opened.rows(name=name, tag=tag, user=user, node=node, tool=tool, since=after)
    if not rows:
        wanted = {"name": name, "tag": tag, "user": user, "node": node, "tool": tool, "since": since}
        typer.echo(visible(call_view.nothing(opened, rows, wanted)), err=True)
    opened.close()
    call_view.warn_of_damage(rows)
    found = by_run(rows)
    limit = LAST if limit is None and not (as_json or by) else limit
    found = found[-limit:] if limit else found
    shown = [row for run in found for row in run.rows]
    statement = savings.statement(shown)
    if by and (found or as_json):
        groups.show(shown, by, as_json=as_json, savings=savings)
    elif as_json:
        plain = [_plain(run, savings) for run in found]
        print_json({"saved": dict(statement), "runs": plain, "unmatched_rules": unmatched_rules(shown)})
    elif found:
        console = stdout()
        _show(console, found, savings)
        if statement["frontiers"]:
            console.print(f"\nsaved: {statement['method']}.", markup=False, style="dim")
            console.print(f"baseline: {statement['baseline']}", markup=False, style="dim")
            console.print(f"frontier: {', '.join(statement['frontiers'])}", markup=False, style="dim")
        for policy, never in unmatched_rules(shown).items():
            line = visible(f"rules of policy {policy} that matched no call of these runs: {', '.join(never)}")
            console.print(f"\n{line}", markup=False, style="dim")


def _plain(run: RunSummary, savings: Savings) -> dict[str, Any]:
    from dami_agent.ledger import by_called_tool, by_tool

    saved, sums = savings.total(run.rows), run.totals
    return {
        "run": run.id,
        "names": list(run.names),
        "thread_id": run.rows[0].thread_id,
        "started_at": run.started_at.isoformat(),
        "steps": run.steps,
        "intensity": run.intensities,
        **{name: value for name, value in sums.items() if name not in ("runs", "seconds")},
        "call_seconds": sums["seconds"],
        "seconds": run.seconds,
        "output_tokens_by_tool_read": _outputs(by_tool(run.rows)),
        "output_tokens_by_tool_called": _outputs(by_called_tool(run.rows)),
        "saved_tokens_expected": saved,
        "baseline_tokens_expected": None if saved is None else sums["output_tokens"] + saved,
    }


def _outputs(sums: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    return {tool: each["output_tokens"] for tool, each in sums.items()}


def _show(console: Console, found: Sequence[RunSummary], savings: Savings) -> None:
    from dami_agent.cli.grid import distinct, grid

    names = distinct([run.id for run in found], call_view.SHORT_ID)
    lines = []
    for run in found:
        sums, used, saved = run.totals, run.intensities, savings.total(run.rows)
        span = "" if used is None else f"{used[0]:g}" if used[0] == used[1] else f"{used[0]:g}–{used[1]:g}"
        span += "*" * any(row.intensity_modules for row in run.rows)  # the largest of several
        share = "–" if saved is None else f"{saved:,.0f} of {sums['output_tokens'] + saved:,.0f}"
        lines.append(
            (
                names[run.id],
                call_view.local(run.started_at),
                ", ".join(run.names)[:32],
                (run.rows[0].thread_id or "")[:12],
                str(run.steps),
                str(sums["failed"]),
                span,
                str(sums["prompt_tokens"]),
                str(sums["output_tokens"] - sums["answer_tokens"]),
                str(sums["answer_tokens"]),
                f"{run.seconds:.2f}",
                call_view.cost_text(sums["cost"]),
                share,
            )
        )
    console.print(grid(COLUMNS, lines, console.width))
