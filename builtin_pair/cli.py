"""The command line of ``python -m builtin_pair``: train the built-in pair, judge and publish its measurements."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dami_agent.errors import DamiError, UsageError

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def builtin_pair() -> None:
    """Train and accept the pair that ships with dami-agent."""


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
def train(context: typer.Context) -> None:
    """Run one stage of the recipe: tokenizer, base, self-mistakes, finish, tune, evaluate or ablate (train --help)."""
    from builtin_pair.training import command

    command.main(context.args)


@app.command()
def accept(
    sweep: Annotated[Path, typer.Argument(help="JSON of `dami sweep --output`; the criteria are added to it.")],
    suites: Annotated[
        Path | None, typer.Option(help="JUnit file of LangChain's standard suites (pytest --junitxml).")
    ] = None,
    unseen_questions: Annotated[
        int, typer.Option(help="Questions each with unseen templates, names and lengths; 0 for none.", min=0)
    ] = 150,
    frontier: Annotated[
        Path | None, typer.Option(help="Also write the frontier file that ships: the same without every outcome.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Worker processes, each with its own copy of the weights.", min=1)] = 1,
) -> None:
    """Judge a sweep of the built-in pair by the criteria that the pair must meet."""
    from builtin_pair.acceptance.accept import accepted, measure_unseen, shipped
    from builtin_pair.acceptance.junit import counted
    from dami_agent.cli.progress import progress_bar
    from dami_agent.evaluation.call_batches import BatchRunner, PairSource

    try:
        measured = _read(sweep)
        tests = None if suites is None else counted(suites)
        with progress_bar() as tell, BatchRunner(PairSource(), workers, tell) as runner:
            unseen = measure_unseen(runner, measured, unseen_questions)
        result = accepted(measured, unseen, tests)
    except DamiError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    for path, data in ((sweep, result), (frontier, shipped(result))):
        if path is not None:
            path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    _show(result["criteria"])


@app.command()
def publish(
    results: Annotated[Path, typer.Option(help="Folder of the JSON files that `make results` writes.")] = Path(
        "results"
    ),
) -> None:
    """Rewrite the measured tables of README, docs/training.md and the pair's card, and draw docs/frontier.svg."""
    from builtin_pair.acceptance import publish as publishing

    publishing.main(results)


@app.command()
def ledger_overhead(
    tasks: Annotated[int, typer.Option(help="Agent tasks to solve, one at a time.", min=1)] = 12,
    seed: Annotated[int, typer.Option(help="Seed for tasks and sampling.")] = 0,
) -> None:
    """Measure what writing a ledger row costs beside the call that it records."""
    from builtin_pair.acceptance import ledger_overhead as overhead

    typer.echo(overhead.line(overhead.measure(tasks=tasks, seed=seed)))


def _read(path: Path) -> Mapping[str, Any]:
    try:
        data: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}", hint="write it with `dami sweep --output FILE`") from error
    return data


def _show(criteria: Sequence[Mapping[str, Any]]) -> None:
    """Print one line for each criterion."""
    from rich.table import Table

    from builtin_pair.acceptance.criterion import measured
    from dami_agent.cli.output import stdout

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("criterion", "must", "met", "aim", "met", "measured", "95 %", "note"):
        table.add_column(name)
    marks = {True: "[green]yes[/]", False: "[red]no[/]", None: "-"}
    for each in criteria:
        value, interval = measured(each)
        met, aimed = marks[each["met"]], marks[each["aimed"]]
        table.add_row(each["title"], each["must"], met, each["aim"], aimed, value, interval, each["note"])
    stdout().print(table)
