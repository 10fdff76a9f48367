"""``dami watch``: calls as they end, in whatever process."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from dami_agent.cli import calls
from dami_agent.cli.output import stdout

if TYPE_CHECKING:
    from rich.console import Console, Group

    from dami_agent.ledger import Ledger, Row

LAST = 20  # calls in the live table


def watch(
    run: Annotated[str | None, typer.Option(help="Only calls of this run.")] = None,
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.05)] = 0.5,
    seconds: Annotated[float | None, typer.Option("--for", help="End after so many seconds; left out: Ctrl-C.")] = None,
    ledger: Annotated[str | None, typer.Option(help="Path or URL; left out: DAMI_LEDGER or the default file.")] = None,
) -> None:
    """Watch calls while an agent runs in another process: a live table, or one line a call where a program reads."""
    from dami_agent.ledger import Ledger

    opened = Ledger.open(ledger)
    typer.echo(f"watching {opened.url or 'a ledger that is off'}", err=True)
    try:
        follow(opened, stdout(), run=run, every=every, seconds=seconds)
    except KeyboardInterrupt:
        pass
    finally:
        opened.close()


def follow(
    ledger: Ledger, console: Console, *, run: str | None = None, every: float = 0.5, seconds: float | None = None
) -> list[Row]:
    """Show calls that end from now on, for so many seconds or for ever; returns them, the last 10,000 at most."""
    from rich.live import Live

    end = None if seconds is None else time.monotonic() + seconds
    before = ledger.rows(run=run, limit=LAST)
    last = max((row.id for row in before), default=0)
    seen = {row.id for row in before}
    shown: deque[Row] = deque(before, maxlen=LAST)
    new: deque[Row] = deque(maxlen=10_000)
    with Live(frame(shown, new), console=console, auto_refresh=False, transient=False) as live:
        while end is None or time.monotonic() < end:
            time.sleep(every if end is None else max(0.0, min(every, end - time.monotonic())))
            found = [row for row in ledger.rows(run=run, after=last) if row.id not in seen]
            for row in found:
                last = max(last, row.id)
                shown.append(row)
                new.append(row)
                if not console.is_terminal:
                    console.print(calls.line(row), markup=False, soft_wrap=True)
            if found and console.is_terminal:
                live.update(frame(shown, new), refresh=True)
        if not console.is_terminal:
            live.update("")
    return list(new)


def frame(shown: Sequence[Row] | deque[Row], new: Sequence[Row] | deque[Row]) -> Group:
    """The last calls, and the sums of those that ended while we watched."""
    from rich.console import Group
    from rich.text import Text

    from dami_agent.ledger import totals

    sums = totals(list(new))
    thought = sums["reasoning_tokens"] + sums["probe_tokens"]
    said = f"{sums['calls']} calls since the start, {sums['failed']} failed, {sums['prompt_tokens']} prompt, "
    said += f"{thought} thought, {sums['answer_tokens']} answer tokens  {calls.money(sums['money'])}"
    return Group(calls.table(shown), Text(said.rstrip(), style="dim"))
