"""Run ``dami sweep``: measure a pair's frontier."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dami_agent.cli.options import (
    BatchOption,
    InstructOption,
    MaxTokensOption,
    TemperatureOption,
    ThinkingOption,
    WorkersOption,
)
from dami_agent.cli.output import put_out, stdout
from dami_agent.cli.progress import progress_bar
from dami_agent.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table


def sweep(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write the JSON to this file: the pair's frontier file.")
    ] = None,
    questions: Annotated[int, typer.Option(help="Held-out questions, divided among the seeds.", min=1)] = 2100,
    seeds: Annotated[int, typer.Option(help="Number of random streams, each with its own questions.", min=1)] = 3,
    lambdas: Annotated[
        str, typer.Option(help="Comma-separated λs; 0 and 1 are always measured.")
    ] = "0,.1,.2,.3,.4,.5,.6,.7,.8,.9,1",
    temperature: TemperatureOption = 0.7,
    max_tokens: MaxTokensOption = 2048,
    switch_questions: Annotated[
        int,
        typer.Option(help="Calibration questions per λ and template for the switch point; 0 sets it to 0.", min=0),
    ] = 80,
    control_questions: Annotated[
        int, typer.Option(help="Held-out questions for oracle, pass@k, best-of-n and retry; 0 for none.", min=0)
    ] = 100,
    tool_dialogues: Annotated[int, typer.Option(help="Dialogues per kind of tool call; 0 for none.", min=0)] = 150,
    instruct: InstructOption = None,
    thinking: ThinkingOption = None,
    batch: BatchOption = None,
    workers: WorkersOption = 1,
) -> None:
    """Measure accuracy, tokens and share of thinking across λ, on questions the built-in pair never saw."""
    values = numbers(lambdas)
    from dami_agent.evaluation import runner
    from dami_agent.evaluation.call_batches import PairSource
    from dami_agent.evaluation.sweep import SweepConfig
    from dami_agent.evaluation.sweep import sweep as measure

    plan = SweepConfig(
        questions=questions,
        seeds=seeds,
        lambdas=values,
        temperature=temperature,
        max_tokens=max_tokens,
        switch_questions=switch_questions,
        control_questions=control_questions,
        tool_dialogues=tool_dialogues,
    )
    source = PairSource(instruct=instruct, thinking=thinking, batch=batch or runner.BATCH)
    with progress_bar() as tell:
        result = measure(plan, source, workers=workers, progress=tell)
    put_out(result, output=output, as_json=as_json, show=_show)


def numbers(text: str) -> tuple[float, ...]:
    """Read the λs of ``--lambdas``.

    Raises:
        UsageError: they are no list of numbers.
    """
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        hint = "for example --lambdas 0,.5,1"
        if "=" in text:
            hint += "; a λ per module is asked for by itself: dami chat --intensity, dami replay --as"
        raise UsageError(f"--lambdas {text!r} is not a list of numbers", hint=hint) from error


def _show(result: Mapping[str, Any]) -> None:
    console = stdout()
    for table in (_frontier(result), _tools(result["tools"]), _controls(result["controls"])):
        if table.row_count:
            console.print(table)
            console.print()
    console.print(
        f"{result['pair']}: {result['questions']} held-out questions, {result['seeds']} seeds, temperature "
        f"{result['temperature']:g}, ± half a 95 % interval; Thinking's template above λ={result['switch_point']:g}"
    )


def _table(left: Sequence[str], right: Iterable[str]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in left:
        table.add_column(name)
    for name in right:
        table.add_column(name, justify="right")
    return table


def _frontier(result: Mapping[str, Any]) -> Table:
    levels = [str(level) for level in result["levels"]]
    names = ("λ", "accuracy", "±", "tokens", "thinks", "finished", *(f"level {level}" for level in levels))
    table = _table((), names)
    for row in result["rows"]:
        shown = [f"{row['lambda']:g}", f"{row['accuracy']:.3f}", f"{row['accuracy_ci']:.3f}", f"{row['tokens']:.1f}"]
        shown += [f"{row['think_ratio']:.0%}", f"{row['finished']:.1%}"]
        table.add_row(*shown, *(f"{row['by_level'].get(level, float('nan')):.2f}" for level in levels))
    return table


def _tools(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = _table(("tool calls",), ("λ", "exact", "±", "right tool", "tokens"))
    for row in rows:
        shown = [row["setting"], f"{row['lambda']:g}", f"{row['exact']:.3f}", f"{row['exact_ci']:.3f}"]
        table.add_row(*shown, f"{row['right_tool']:.3f}", f"{row['tokens']:.1f}")
    return table


def _controls(tried: Mapping[str, Any] | None) -> Table:
    table = _table(("controls",), ("accuracy", "tokens", "of all tries"))
    if tried is None:
        return table
    k = tried["tries"]
    rows = [("Thinking once", tried["thinking"]), (f"oracle, smallest right of {k} λs", tried["oracle"])]
    rows += [(f"pass@{k} of Thinking", tried["pass_at_k"])]
    rows += [(f"most probable of {row['n']}", row) for row in tried["best_of"][1:3]]
    rows += [("least probable tenth once more", tried["retry"])]
    for name, row in rows:
        spent = row.get("all_tokens", row["tokens"])
        table.add_row(name, f"{row['accuracy']:.3f}", f"{row['tokens']:.1f}", f"{spent:.1f}")
    return table
