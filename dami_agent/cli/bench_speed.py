"""Run ``dami bench speed``: how fast the local engine is, each number against a named reference in the same run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dami_agent.cli.options import AlsoOutputOption, InstructOption, JsonOption, ThinkingOption
from dami_agent.cli.output import check_writable, put_out, stdout
from dami_agent.cli.progress import progress_bar

if TYPE_CHECKING:
    from rich.console import Console

_VERDICTS = {"aim": "aim met", "must": "must met", "missed": "MISSED", None: "–"}


def bench_speed(
    shape: Annotated[
        str | None,
        typer.Option(help="Measure random weights of this shape instead of a pair: 0.6b, 4b (Qwen3's) or tiny."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Shorter prompts and replies, fewer repetitions and points.")
    ] = False,
    as_json: JsonOption = False,
    output: AlsoOutputOption = None,
    instruct: InstructOption = None,
    thinking: ThinkingOption = None,
) -> None:
    """Measure switches of λ, decoding, batches, prefixes and waits, each against a reference in the same run."""
    if output is not None:
        check_writable(output)
    from dami_agent.evaluation.speed import SpeedPlan, speed

    asked = SpeedPlan(instruct=instruct, thinking=thinking, shape=shape, quick=quick)
    with progress_bar() as tell:
        result = speed(asked, tell)
    put_out(result, output=output, as_json=as_json, show=_show)


def _show(result: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("row", "ours", "reference", "unit", "ratio", "must", "aim", ""):
        table.add_column(name, justify="left" if name in ("row", "unit", "") else "right")
    for row, goal in zip(result["rows"], result["goals"], strict=True):
        sign = "≤" if goal["bound"] == "at most" else "≥"
        bounds = (f"{sign} {goal['must']:g}", f"{sign} {goal['aim']:g}")
        numbers = (f"{row['ours']:.4g}", f"{row['reference']:.4g}", row["unit"], f"{row['ratio']:.3g}")
        table.add_row(row["name"], *numbers, *bounds, _VERDICTS[goal["met"]])
    console = stdout()
    console.print(table)
    console.print()
    for row in result["rows"]:
        console.print(f"{row['name']}: {row['note']}", soft_wrap=True)
    console.print()
    _show_curves(result, console)
    versions = f"torch {result['torch']}, transformers {result['transformers']}"
    threads = f"{result['threads']} thread{'' if result['threads'] == 1 else 's'}"
    where = f"{result['device']}, {result['dtype']}, {threads} on both sides"
    console.print(f"{result['pair']}: {where}, {versions}", soft_wrap=True)


def _show_curves(result: Mapping[str, Any], console: Console) -> None:
    """Print a line for each curve: output tokens a second, point by point."""
    for name, key, what in (
        ("throughput_over_concurrency", "requests", "requests at once"),
        ("throughput_over_lambdas", "lambdas", "distinct λs"),
    ):
        points = [point for point in result["curves"] if point["name"] == name]
        shown = ", ".join(f"{point[key]}: {point['tokens_per_second']:,.0f}" for point in points)
        console.print(f"tokens/s over {what}: {shown}", soft_wrap=True)
