"""Run ``dami bench merges``: static merges of other kinds against the straight path between the checkpoints."""

from __future__ import annotations

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


def bench_merges(
    questions: Annotated[int, typer.Option(help="Held-out questions, over all seeds.", min=10)] = 600,
    seeds: Annotated[int, typer.Option(help="Seeds that share the questions.", min=1)] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="A fifth of the questions.")] = False,
    base: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the checkpoint that both were tuned from; task arithmetic and TIES need it.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    temperature: TemperatureOption = 0.7,
    max_tokens: MaxTokensOption = 2048,
    as_json: JsonOption = False,
    output: AlsoOutputOption = None,
    instruct: InstructOption = None,
    thinking: ThinkingOption = None,
    batch: BatchOption = None,
    workers: WorkersOption = 1,
) -> None:
    """Compare SLERP, task arithmetic, TIES and splits by module with the straight path, at equal tokens."""
    if output is not None:
        check_writable(output)
    from dami_agent.evaluation import runner
    from dami_agent.evaluation.call_batches import PairSource
    from dami_agent.evaluation.merges import MergePlan, compare_merges

    plan = MergePlan(
        base=base,
        questions=max(10, seeds, questions // 5 if quick else questions),
        seeds=seeds,
        temperature=temperature,
        max_tokens=max_tokens,
    )
    source = PairSource(instruct=instruct, thinking=thinking, batch=batch or runner.BATCH)
    with progress_bar() as tell:
        result = compare_merges(plan, source, workers=workers, tell=tell)
    put_out(result, output=output, as_json=as_json, show=_show)


def _show(result: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("merge", "", "accuracy", "tokens", "finished", "points over the path at equal tokens"):
        table.add_column(name, justify="left" if name in ("merge", "") else "right")
    for row in result["rows"]:
        gain = f"{100 * row['gain']:+.1f} ± {100 * row['gain_ci']:.1f}" if "gain" in row else "–"
        cells = (f"{row['accuracy']:.3f}", f"{row['tokens']:.0f}", f"{100 * row['finished']:.1f} %", gain)
        table.add_row(row["method"], row["settings"], *cells)
    console = stdout()
    console.print(table)
    asked = f"{result['questions']:,} held-out questions under Thinking's template"
    console.print(f"\n{result['pair']}: {asked}", soft_wrap=True)
    if result["left_out"]:
        console.print(f"left out without --base: {', '.join(result['left_out'])}", soft_wrap=True)
