"""Run ``dami bench quality``: λ per question against fixed λs, selectors that know less, and the oracle."""

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
from dami_agent.cli.sweep import numbers


def bench_quality(
    questions: Annotated[int, typer.Option(help="Questions of the test split to judge by.", min=10)] = 2100,
    learned: Annotated[int, typer.Option(help="Questions of the calibration split to learn from.", min=150)] = 700,
    quick: Annotated[bool, typer.Option("--quick", help="A fifth of the questions to judge by.")] = False,
    lambdas: Annotated[str, typer.Option(help="Comma-separated λs; 0 and 1 are always sampled.")] = "0,.2,.4,.6,.8,1",
    temperature: TemperatureOption = 0.7,
    max_tokens: MaxTokensOption = 2048,
    caps: Annotated[bool, typer.Option(help="Also sample Thinking under caps on its thought.")] = True,
    votes: Annotated[
        bool,
        typer.Option(help="Also sample two more replies of Thinking to each question judged by, to vote and retry."),
    ] = True,
    syntheses: Annotated[
        bool, typer.Option(help="Also let λ=1 answer with two answers of a low λ in view, as A2R does.")
    ] = True,
    samples: Annotated[
        Path | None, typer.Option(help="Folder to keep the samples in, and to take them from where they are there.")
    ] = None,
    as_json: JsonOption = False,
    output: AlsoOutputOption = None,
    instruct: InstructOption = None,
    thinking: ThinkingOption = None,
    batch: BatchOption = None,
    workers: WorkersOption = 1,
) -> None:
    """Compare λ per question with every fixed λ, selectors that know less, caps, votes and A2R, at equal tokens."""
    values = numbers(lambdas)
    if output is not None:
        check_writable(output)
    from dami_agent.evaluation import runner
    from dami_agent.evaluation.asked import SamplePlan
    from dami_agent.evaluation.call_batches import PairSource
    from dami_agent.evaluation.quality import quality
    from dami_agent.evaluation.train_estimator import builtin_sets

    count = max(10, questions // 5) if quick else questions
    sets = builtin_sets(learned, count, 0)
    plan = SamplePlan(lambdas=values, temperature=temperature, max_tokens=max_tokens)
    source = PairSource(instruct=instruct, thinking=thinking, batch=batch or runner.BATCH)
    if samples is not None:
        samples.mkdir(parents=True, exist_ok=True)
    given: dict[str, Any] = {"caps": caps, "votes": votes, "syntheses": syntheses, "kept": samples, "workers": workers}
    with progress_bar() as tell:
        result = quality(source, plan, *sets, tell=tell, **given)
    put_out(result, output=output, as_json=as_json, show=_show)


def _show(result: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("of Thinking's tokens")
    for budget in result["budgets"]:
        table.add_column(f"{100 * budget['tokens'] / result['thinking']['tokens']:.0f} %", justify="right")
    table.add_row("accuracy", *(f"{budget['accuracy']:.3f}" for budget in result["budgets"]))
    for name in result["budgets"][0]["gains"]:
        table.add_row(f"more than {name}", *(_points(budget["gains"][name]) for budget in result["budgets"]))
    shares = ("–" if b["oracle_share"] is None else f"{100 * b['oracle_share']:.0f} %" for b in result["budgets"])
    table.add_row("of the oracle's gain on fixed", *shares)
    kept = (_points(budget["other_families_over_fixed"]) for budget in result["budgets"])
    table.add_row("other families, more than fixed", *kept)
    console = stdout()
    console.print(table)
    console.print()
    thinking, most, even = result["thinking"], result["at_most_thinking"], result["even"]
    console.print(f"Thinking: {thinking['accuracy']:.3f} at {thinking['tokens']:.1f} tokens")
    console.print(f"at no more than its tokens: {_points(most)} points at {100 * most['tokens']:.0f} % of them")
    console.print(f"at a hundredth less by calibration: {_points(even)} points at {100 * even['tokens']:.0f} % of them")
    areas = ", ".join(f"{name} {value:.3f}" for name, value in result["areas"].items())
    console.print(f"mean accuracy over all budgets: {areas}", soft_wrap=True)
    console.print(
        f"{result['pair']}: {result['method']}, fitted to {result['learned']} questions, judged on "
        f"{result['questions']:,} others",
        soft_wrap=True,
    )


def _points(found: Mapping[str, float]) -> str:
    return f"{100 * found['gain']:+.1f} ± {100 * found['ci']:.1f}"
