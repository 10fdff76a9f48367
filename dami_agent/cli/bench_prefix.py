"""Run ``dami bench prefix``: may prompts be read once, at Thinking's λ, for replies at any λ?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from dami_agent.cli.options import (
    AlsoOutputOption,
    BatchOption,
    InstructOption,
    JsonOption,
    MaxTokensOption,
    TemperatureOption,
    ThinkingOption,
    WorkersOption,
)
from dami_agent.cli.output import check_writable, put_out, stdout
from dami_agent.cli.progress import progress_bar
from dami_agent.cli.sweep import numbers
from dami_agent.files import write_whole
from dami_agent.policy import Frontier


def bench_prefix(
    questions: Annotated[int, typer.Option(help="Held-out questions, over all seeds.", min=10)] = 2100,
    tasks: Annotated[int, typer.Option(help="Agent tasks, at λ=0, .5 and per step; 0: none.", min=0)] = 402,
    seeds: Annotated[int, typer.Option(help="Seeds that share the questions and tasks.", min=1)] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="A fifth of the questions and tasks.")] = False,
    lambdas: Annotated[str, typer.Option(help="Comma-separated λs of the replies, below 1.")] = "0,.2,.4,.6,.8",
    temperature: TemperatureOption = 0.7,
    max_tokens: MaxTokensOption = 2048,
    sweep: Annotated[
        Path | None,
        typer.Option(
            help="What `dami sweep --output` wrote of the pair: its replies are taken for those to prompts read at "
            "their own λ, and its questions, seeds and settings hold.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    as_json: JsonOption = False,
    output: AlsoOutputOption = None,
    frontier: Annotated[
        Path | None, typer.Option(help="Frontier file of the pair to note the result in, for `prefix: auto`.")
    ] = None,
    instruct: InstructOption = None,
    thinking: ThinkingOption = None,
    batch: BatchOption = None,
    workers: WorkersOption = 1,
) -> None:
    """Compare prompts read at their reply's λ with prompts read once for all λs: accuracy, tokens, tasks solved."""
    values = numbers(lambdas)
    for file in (output, frontier):
        if file is not None:
            check_writable(file)
    if frontier is not None:
        Frontier.from_file(frontier)
    from dami_agent.evaluation import runner
    from dami_agent.evaluation.call_batches import PairSource
    from dami_agent.evaluation.outcomes import read_sweep
    from dami_agent.evaluation.shared_prefix import PrefixPlan, noted, shared_prefix
    from dami_agent.evaluation.task_set import TaskSet

    part = 5 if quick else 1
    count = max(seeds, tasks // part) if tasks else 0
    solved = TaskSet(count=count, seeds=tuple(range(seeds))) if count else None
    if sweep is not None:
        plan = PrefixPlan.like(read_sweep(sweep), lambdas=tuple(values), tasks=solved)
    else:
        plan = PrefixPlan(
            lambdas=tuple(values),
            questions=max(10, seeds, questions // part),
            seeds=seeds,
            tasks=solved,
            temperature=temperature,
            max_tokens=max_tokens,
        )
    source = PairSource(instruct=instruct, thinking=thinking, batch=batch or runner.BATCH)
    with progress_bar() as tell:
        result = shared_prefix(plan, source, workers=workers, progress=tell)
    if frontier is not None:
        said = noted(json.loads(frontier.read_text(encoding="utf-8")), result)
        write_whole(frontier, (json.dumps(said, ensure_ascii=False) + "\n").encode())
    put_out(result, output=output, as_json=as_json, show=_show)


def _show(result: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("reply at", "exact", "shared", "difference", "95 %", "tokens, shared to exact", "95 %"):
        table.add_column(name, justify="left" if name == "reply at" else "right")
    for row in result["rows"]:
        cells = [f"{row[mode]['accuracy']:.3f} at {row[mode]['tokens']:.0f}" for mode in ("exact", "shared")]
        table.add_row(f"λ={row['lambda']:g}", *cells, *_compared(row["difference"], row["difference_ci"]), *_ratio(row))
    for row in result["agents"]:
        cells = [f"{row[mode]['solved']} at {row[mode]['output_tokens']:,}" for mode in ("exact", "shared")]
        named = {"tokens_ratio": row["tokens"], "tokens_ratio_ci": row["tokens_ci"]}
        table.add_row(f"agents, {row['mode']}", *cells, *_compared(row["solved"], row["solved_ci"]), *_ratio(named))
    console = stdout()
    console.print(table)
    costs = "costs nothing" if result["free"] else "does not come for free"
    asked = f"{result['questions']:,} questions (accuracy and tokens a reply)"
    solved = f" and {result['tasks']} agent tasks (solved, and tokens in all)" if result["tasks"] else ""
    console.print(
        f"\n{result['pair']}: prompts read at λ={result['intensity']:g} for every λ: {costs}; {asked}{solved}"
    )


def _compared(value: float, ends: list[float] | None) -> tuple[str, str]:
    interval = "–" if ends is None else f"{100 * ends[0]:+.1f} to {100 * ends[1]:+.1f}"
    return f"{100 * value:+.1f} points", interval


def _ratio(row: Mapping[str, Any]) -> tuple[str, str]:
    ends = row["tokens_ratio_ci"]
    return f"{row['tokens_ratio']:.2f}", "–" if ends is None else f"{ends[0]:.2f} to {ends[1]:.2f}"
