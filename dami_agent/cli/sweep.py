"""``dami sweep``: measure a pair's frontier."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from dami_agent.cli.output import print_json, stdout
from dami_agent.cli.progress import progress_bar
from dami_agent.errors import UsageError


def sweep(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write the JSON here: the frontier file of the pair.")
    ] = None,
    questions: Annotated[int, typer.Option(help="Held-out questions, shared by the seeds.", min=1)] = 2100,
    seeds: Annotated[int, typer.Option(help="Random streams; each has questions of its own.", min=1)] = 3,
    lambdas: Annotated[str, typer.Option(help="λs, separated by commas.")] = "0,.1,.2,.3,.4,.5,.6,.7,.8,.9,1",
    temperature: Annotated[float, typer.Option(help="At every λ; 0 is greedy.", min=0)] = 0.7,
    max_tokens: Annotated[int, typer.Option(help="Cap of one reply, thought and answer.", min=2)] = 512,
    switch_questions: Annotated[
        int, typer.Option(help="Calibration questions per λ and template for the switch point; 0: take 0.", min=0)
    ] = 200,
    tool_dialogues: Annotated[int, typer.Option(help="Dialogues per kind of tool call; 0: none.", min=0)] = 300,
    instruct: Annotated[str | None, typer.Option(help="Instruct checkpoint; left out: the built-in pair.")] = None,
    thinking: Annotated[str | None, typer.Option(help="Thinking checkpoint.")] = None,
    batch: Annotated[int | None, typer.Option(help="Rows decoded together.", min=1)] = None,
) -> None:
    """Measure accuracy, tokens and share of thinking over λ, on questions the built-in pair never saw."""
    values = _numbers(lambdas)
    from dami_agent.bench import engine
    from dami_agent.bench.sweep import Plan
    from dami_agent.bench.sweep import sweep as measure

    plan = Plan(
        questions=questions,
        seeds=seeds,
        lambdas=values,
        temperature=temperature,
        max_tokens=max_tokens,
        switch_questions=switch_questions,
        tool_dialogues=tool_dialogues,
    )
    engine.calm_threads(instruct)
    room = engine.open_room(instruct, thinking, batch=batch or engine.BATCH)
    with progress_bar() as tell:
        result = measure(room, plan, tell)
    if output is not None:
        output.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if as_json:
        print_json(result)
    else:
        _show(result)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise UsageError(f"--lambdas {text!r} is no list of numbers", hint="for example: --lambdas 0,.5,1") from error


def _show(result: Mapping[str, Any]) -> None:
    from rich.table import Table

    console = stdout()
    levels = [str(level) for level in result["levels"]]
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("λ", "accuracy", "±", "tokens", "thinks", "finished", *(f"level {level}" for level in levels)):
        table.add_column(name, justify="right")
    for row in result["rows"]:
        shown = [f"{row['lambda']:g}", f"{row['accuracy']:.3f}", f"{row['accuracy_ci']:.3f}", f"{row['tokens']:.1f}"]
        shown += [f"{row['think_ratio']:.0%}", f"{row['finished']:.1%}"]
        table.add_row(*shown, *(f"{row['by_level'].get(level, float('nan')):.2f}" for level in levels))
    console.print(table)
    if result["tools"]:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in ("tool calls", "λ", "exact", "±", "right tool", "tokens"):
            table.add_column(name, justify="left" if name == "tool calls" else "right")
        for row in result["tools"]:
            shown = [row["setting"], f"{row['lambda']:g}", f"{row['exact']:.3f}", f"{row['exact_ci']:.3f}"]
            table.add_row(*shown, f"{row['right_tool']:.3f}", f"{row['tokens']:.1f}")
        console.print()
        console.print(table)
    console.print(
        f"\n{result['pair']}: {result['questions']} held-out questions, {result['seeds']} seeds, temperature "
        f"{result['temperature']:g}, ± half a 95 % interval; Thinking's template above λ={result['switch_point']:g}"
    )
