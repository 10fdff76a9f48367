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

TASKS, SEED = 12, 3
"""As in ``evaluation.demo``, which is not imported for ``--help``; a test holds them equal."""


def demo(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the text.")] = False,
    tasks: Annotated[int, typer.Option(help="Number of tasks to solve.", min=1)] = TASKS,
    seed: Annotated[int, typer.Option(help="Seed for task selection and sampling.")] = SEED,
    concurrency: Annotated[int, typer.Option(help="Tasks to solve at the same time.", min=1)] = 4,
    ledger: LedgerOption = None,
) -> None:
    """Watch a LangChain agent solve tasks with tools, choosing λ at every step; then compare with λ=0 and λ=1."""
    from dami_agent.evaluation.demo import demo as run
    from dami_agent.ledger import Ledger

    opened = Ledger.open(ledger)
    console = stdout()
    print("loading the weights, then running DAMI, always-Instruct and always-Thinking", file=sys.stderr, flush=True)
    listen = None if as_json else _printer(console)
    result = run(tasks=tasks, seed=seed, concurrency=concurrency, ledger=opened, listen=listen)
    opened.close()
    if as_json:
        print_json(result.to_dict())
        return
    _example(console, result)
    _totals(console, result)
    if (tasks, seed) == (TASKS, SEED):
        console.print(
            f"Seed {SEED} of ten, whose outcome is nearest to their mean. `dami bench` solves 402.", highlight=False
        )
    console.print("\nEvery call is on record; to see them, run: dami logs")


def _printer(console: Console) -> Callable[[AgentTask, TaskRun, StepRow | None], None]:
    """Print a finished task with its steps below it; may be called from many threads."""
    from rich.text import Text

    def listen(task: AgentTask, run: TaskRun, row: StepRow | None) -> None:
        if row is not None:
            return
        mark, style = ("solved", "green") if run.solved else ("not solved", "red")
        text = Text(f"\n{run.task + 1:>2} ")
        text.append(mark, style=style)
        text.append(f"  {visible(task.prompt)} → {visible(run.error or run.answer.strip() or '(nothing)')}")
        for step in run.steps:
            text.append(f"\n{visible(line(step))}", style="" if step.intensity else "dim")
        console.print(text, soft_wrap=True)

    return listen


def line(row: StepRow) -> str:
    """Format one step: its λ, its tokens, and which tool it called or that it answered."""
    value = "–" if row.intensity is None else f"{row.intensity:.2f}"
    does = f"calls {', '.join(dict.fromkeys(row.called))}" if row.called else "answers"
    thought = f", {row.reasoning_tokens} of them thought" if row.reasoning_tokens else ""
    return f"     λ {value}  {row.output_tokens:>4} tokens{thought}: {row.error or does}"


def _example(console: Console, result: Demo) -> None:
    """Show one task that λ per step solves and always-Instruct does not, with the thought that made the difference."""
    found = result.example()
    if found is None:
        return
    task, own, other = found
    step = max(own.steps, key=lambda each: each.thought_tokens)
    console.print(f"\nTask {own.task + 1}, which always-Instruct does not solve, and λ per step does:", style="bold")
    console.print(f"  {visible(task.prompt)}", soft_wrap=True, markup=False, highlight=False)
    console.print(f"  always-Instruct: {visible(other.error or other.answer.strip())}", markup=False, highlight=False)
    console.print(f"  λ={step.intensity:.2f} thinks:", highlight=False)
    for each in step.thought.strip().splitlines():
        console.print(f"    {visible(each)}", style="dim", soft_wrap=True, markup=False, highlight=False)
    console.print(f"  and answers: {visible(own.answer.strip())}", markup=False, highlight=False)


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
    console.print()
    for sentence in result.verdict():
        console.print(sentence, highlight=False)
