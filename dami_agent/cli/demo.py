"""Run ``dami demo``: watch a LangChain agent choose its λ step by step."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from dami_agent.cli.options import LedgerOption
from dami_agent.cli.output import print_json, stdout, visible

if TYPE_CHECKING:
    from rich.console import Console

    from dami_agent.evaluation.agents import StepRow, TaskRun
    from dami_agent.evaluation.demo import Demo
    from dami_agent.tasks import AgentTask

HEAD = f"{'task':>4} {'step':>4}  {'tool':<34} {'λ':>5} {'prompt':>6} {'thought':>7} {'answer':>6} {'seconds':>7}  why"


def demo(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the table.")] = False,
    tasks: Annotated[int, typer.Option(help="Number of tasks to solve.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="Seed for task selection and sampling.")] = 0,
    concurrency: Annotated[int, typer.Option(help="Tasks to solve at the same time.", min=1)] = 4,
    ledger: LedgerOption = None,
) -> None:
    """Watch a LangChain agent solve tasks with tools, choosing λ at every step; then compare with λ=0 and λ=1."""
    from dami_agent.evaluation.demo import demo as run
    from dami_agent.ledger import Ledger

    opened = Ledger.open(ledger)
    console = stdout()
    if not as_json:
        console.print(HEAD, style="dim")
    print("loading the weights, then running DAMI, always-Instruct and always-Thinking", file=sys.stderr, flush=True)
    listen = None if as_json else _printer(console)
    result = run(tasks=tasks, seed=seed, concurrency=concurrency, ledger=opened, listen=listen)
    opened.close()
    if as_json:
        print_json(result.to_dict())
    else:
        _totals(console, result)
        console.print("\nEvery call is on record; to see them, run: dami logs")


def _printer(console: Console) -> Callable[[AgentTask, TaskRun, StepRow | None], None]:
    """Return a function that prints each step as it ends and each finished task; it may be called from many threads."""
    from rich.text import Text

    def listen(task: AgentTask, run: TaskRun, row: StepRow | None) -> None:
        if row is not None:
            console.print(Text(visible(line(row))), soft_wrap=True)
            return
        mark, style = ("solved", "green") if run.solved else ("not solved", "red")
        said = run.error or run.answer.strip() or "(nothing)"
        text = Text(f"{run.task + 1:>4}  ")
        text.append(mark, style=style)
        text.append(f": {visible(task.prompt)} → {visible(said)}", style="dim")
        console.print(text, soft_wrap=True)

    return listen


def line(row: StepRow) -> str:
    """Format one step; ``←`` before a tool whose result it read, ``→`` before one it called."""
    parts = [f"← {name}" for name in dict.fromkeys(row.digested)] + [f"→ {name}" for name in row.called]
    tool = " ".join(parts) or "–"
    value = "–" if row.intensity is None else f"{row.intensity:.2f}"
    return (
        f"{row.task + 1:>4} {row.step:>4}  {tool:<34} {value:>5} {row.prompt_tokens:>6} {row.reasoning_tokens:>7} "
        f"{row.answer_tokens:>6} {row.seconds:>7.2f}  {row.error or row.reason}"
    )


def _totals(console: Console, result: Demo) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("", "solved", "output tokens", "seconds"):
        table.add_column(name, justify="right" if name else "left")
    for name, total in result.to_dict()["totals"].items():
        solved = f"{total['solved']}/{total['tasks']}"
        table.add_row(name, solved, f"{total['output_tokens']:,}", f"{total['seconds']:.1f}")
    console.print()
    console.print(table)
    console.print(f"\n{result.verdict()}")
