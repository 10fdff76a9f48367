"""Add calls up by name, tag, user, day, node or tool: shared by logs and runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dami_agent.cli import call_view
from dami_agent.cli.grid import Column, grid
from dami_agent.cli.options import By
from dami_agent.cli.output import print_json, stdout

if TYPE_CHECKING:
    from dami_agent.ledger import CallRow, Savings

NONE = "(none)"
# What is shown for each: (the grouping's name in JSON, heading, note where the lines do not add up)
VIEWS: dict[By, tuple[tuple[str, str, str], ...]] = {
    By.name: (("name", "name", "A call counts under each of its names: of traces, of its run and of the root run."),),
    By.tag: (("tag", "tag", "A call counts under each of its tags."),),
    By.user: (("user", "user", ""),),
    By.day: (("day", "day", ""),),
    By.node: (("node", "node", ""),),
    By.tool: (
        ("tool_read", "tool it read", ""),
        ("tool_called", "tool it called", "A call of several tools counts under each of them."),
    ),
}
COUNTS = (
    Column("runs", rank=4, right=True),
    Column("calls", right=True),
    Column("failed", rank=5, right=True),
    Column("mean λ", right=True),
    Column("prompt", rank=3, right=True),
    Column("thought", right=True),
    Column("answer", right=True),
    Column("s", rank=2, right=True),
    Column("cost", rank=1, right=True),
    Column("saved (expected)", rank=6, right=True),
)


def show(rows: Sequence[CallRow], by: By, *, as_json: bool, savings: Savings | None = None) -> None:
    """Print ``rows`` added up by ``by``, one table or JSON list for each way to see it.

    Args:
        rows: the calls.
        by: what they are added up by.
        as_json: print JSON instead of tables.
        savings: estimates a column of tokens saved; None leaves it out.
    """
    from dami_agent.ledger import group

    views = {view: group(rows, view) for view, _, _ in VIEWS[by]}
    if as_json:
        print_json({view: [_plain(key, found, savings) for key, found in each.items()] for view, each in views.items()})
        return
    console = stdout()
    for number, (view, heading, note) in enumerate(VIEWS[by]):
        lines = [_line(key or NONE, found, savings) for key, found in views[view].items()]
        if number:
            console.print()
        console.print(grid((Column(heading), *COUNTS), lines, console.width))
        if note and sum(map(len, views[view].values())) > len(rows):
            console.print(note, markup=False, style="dim")


def _plain(key: str, rows: Sequence[CallRow], savings: Savings | None) -> Mapping[str, Any]:
    from dami_agent.ledger import totals

    saved = {} if savings is None else {"saved_tokens_expected": savings.total(rows)}
    return {"key": key or None, **totals(rows), **saved}


def _line(key: str, rows: Sequence[CallRow], savings: Savings | None) -> tuple[str, ...]:
    from dami_agent.ledger import totals

    sums = totals(rows)
    mean, saved = sums["mean_intensity"], None if savings is None else savings.total(rows)
    return (
        key,
        f"{sums['runs']:,}",
        f"{sums['calls']:,}",
        f"{sums['failed']:,}",
        "" if mean is None else f"{mean:.2f}",
        f"{sums['prompt_tokens']:,}",
        f"{sums['output_tokens'] - sums['answer_tokens']:,}",
        f"{sums['answer_tokens']:,}",
        f"{sums['seconds']:,.2f}",
        call_view.cost_text(sums["cost"]),
        "" if saved is None else f"{saved:,.0f}",
    )
