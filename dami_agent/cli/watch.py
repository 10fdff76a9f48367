"""Run ``dami watch``: show calls as they end, in whatever process."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from dami_agent.cli import call_view
from dami_agent.cli.options import LedgerOption, RunOption
from dami_agent.cli.output import stdout, visible

if TYPE_CHECKING:
    from rich.console import Console, ConsoleDimensions, Group

    from dami_agent.ledger import CallRow, Ledger

LAST = 20  # calls in the live table
MARGIN = 4  # lines of the window that hold no call: the heading, the sums, the prompt


def watch(
    run: RunOption = None,
    every: Annotated[float, typer.Option(help="Seconds between two looks at the ledger.", min=0.05)] = 0.5,
    seconds: Annotated[
        float | None, typer.Option("--for", help="Stop after so many seconds (default: until Ctrl-C).")
    ] = None,
    ledger: LedgerOption = None,
) -> None:
    """Watch calls as an agent makes them in another process: a live table, or one line per call in a pipe."""
    from dami_agent.ledger import Ledger

    opened = Ledger.open(ledger)
    end = None if seconds is None else time.monotonic() + seconds
    before = opened.rows(limit=1)
    said = "" if before else f" ({call_view.nothing(opened, before, {})})"
    typer.echo(visible(f"watching {opened.url or 'nothing'}{said}"), err=True)
    try:
        follow(opened, stdout(), run=run, every=every, stop=lambda _: end is not None and time.monotonic() >= end)
    except KeyboardInterrupt:
        pass
    finally:
        opened.close()


def follow(
    ledger: Ledger,
    console: Console,
    *,
    stop: Callable[[Sequence[CallRow]], bool],
    run: str | None = None,
    every: float = 0.5,
) -> list[CallRow]:
    """Show calls that end from now on; return them, the last 10,000 at most.

    Args:
        ledger: where they are written, by whatever process.
        console: a terminal gets a live table, anything else one line per call.
        stop: asked after each look, with the calls so far; True ends it.
        run: only calls of this run.
        every: seconds between two looks.
    """
    from rich.live import Live

    before = ledger.rows(run=run, limit=LAST)
    last = max((row.id for row in before), default=0)
    seen = {row.id for row in before}  # a long call may end late: its id is higher than its start suggests
    shown: deque[CallRow] = deque(before, maxlen=LAST)
    new: deque[CallRow] = deque(maxlen=10_000)
    with Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live:
        while True:
            found = [row for row in ledger.rows(run=run, after=last) if row.id not in seen]
            last = max((row.id for row in found), default=last)
            shown.extend(found)
            new.extend(found)
            if live is not None:
                live.update(frame(shown, new, console.size), refresh=True)
            else:
                for row in found:
                    console.print(call_view.line(row), markup=False, soft_wrap=True)
            if stop(new):
                return list(new)
            time.sleep(every)


def frame(shown: Sequence[CallRow], new: Sequence[CallRow], size: ConsoleDimensions) -> Group:
    """Draw the last calls, one a line, and the sums of those that ended while we watched; no higher than the window."""
    from rich.console import Group
    from rich.text import Text

    from dami_agent.ledger import totals

    sums = totals(list(new))
    thought = sums["output_tokens"] - sums["answer_tokens"]
    counts = f"{sums['prompt_tokens']:,} prompt, {thought:,} thought, {sums['answer_tokens']:,} answer tokens"
    calls_ = f"{sums['calls']:,} call{'' if sums['calls'] == 1 else 's'} since the start, {sums['failed']} failed"
    said = " · ".join(part for part in (calls_, counts, call_view.cost_text(sums["cost"])) if part)
    rows = list(shown)[-max(size.height - MARGIN, 1) :]
    return Group(call_view.table(rows, size.width, wrap=False), Text(said, style="dim"))
