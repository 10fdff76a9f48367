"""The command line of ``python -m builtin_pair``: train the built-in pair, judge and publish its measurements."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from dami_agent.errors import DamiError
from dami_agent.types import Intensity

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
    from dami_agent.evaluation.outcomes import read_sweep

    try:
        measured = read_sweep(sweep)
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
    partial: Annotated[
        bool, typer.Option("--partial", help="Keep what is missing or of other weights, marked as such.")
    ] = False,
) -> None:
    """Rewrite the measured tables of the READMEs, docs/training.md and the pair's card, and draw the pictures."""
    from builtin_pair.acceptance import publish as publishing

    publishing.main(results, partial=partial)


OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="Also write the JSON to this file.")]
SeedOption = Annotated[int, typer.Option(help="Seed for sampling.")]
PairOption = Annotated[
    Path | None, typer.Option(help="Folder with instruct/ and thinking/ (default: the pair that ships).")
]
LambdasOption = Annotated[str, typer.Option(help="λs to try, comma-separated; auto is the estimator's.")]


@app.command()
def freeform(
    output: OutputOption = None, lambdas: LambdasOption = "auto,0,0.5,1", pair: PairOption = None, seed: SeedOption = 0
) -> None:
    """Try the pair on two hundred requests in people's own words, over their own tools."""
    from concurrent.futures import ThreadPoolExecutor

    from builtin_pair.acceptance import freeform as free

    model, asked, rows = _model(pair), free.cases(), list[dict[str, Any]]()
    identity = _identity(model)
    for at in _lambdas(lambdas):
        with ThreadPoolExecutor(32) as pool:
            outcomes = list(pool.map(partial(free.run, intensity=at, seed=seed, model=model), asked))
        rows.append({"lambda": at, **free.report(outcomes)})
    _tell({**identity, "seed": seed, "rows": rows}, output)


@app.command()
def conversations(
    output: OutputOption = None,
    lambdas: LambdasOption = "auto,0,0.5,1",
    questions: Annotated[int, typer.Option(help="Questions that the conversations begin with.", min=1)] = 120,
    pair: PairOption = None,
    seed: SeedOption = 0,
) -> None:
    """Try what the pair says to follow-ups, doubts and thanks after its own answers."""
    from builtin_pair.acceptance import conversations as talk

    model, asked = _model(pair), _lambdas(lambdas)
    identity = _identity(model)
    rows = talk.measure(model, asked, count=questions, seed=seed)
    _tell({**identity, "seed": seed, "questions": questions, "rows": rows}, output)


@app.command()
def bfcl(
    items: Annotated[int, typer.Option(help="Items to ask, as many of each category.", min=4)] = 400,
    output: OutputOption = None,
    lambdas: LambdasOption = "0,0.5,1",
    pair: PairOption = None,
    seed: SeedOption = 0,
) -> None:
    """Try the pair on the Berkeley Function-Calling Leaderboard's single and parallel calls, by its own checker."""
    from concurrent.futures import ThreadPoolExecutor

    from builtin_pair.acceptance import bfcl as leaderboard

    model, wanted = _model(pair), _lambdas(lambdas)
    try:
        asked, rows, identity = leaderboard.spread(items), list[dict[str, Any]](), _identity(model)
    except DamiError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    for at in wanted:
        with ThreadPoolExecutor(32) as pool:
            outcomes = list(pool.map(partial(leaderboard.run, intensity=at, seed=seed, model=model), asked))
        rows.append({"lambda": at, **leaderboard.report(outcomes)})
    told = {**identity, "seed": seed, "max_tokens": leaderboard.MOST_TOKENS}
    _tell({**told, "items": len(asked), "rows": rows}, output)


def _lambdas(text: str) -> list[float | Literal["auto"]]:
    """Read λs; ``auto`` is the estimator's."""
    found: list[float | Literal["auto"]] = []
    for each in text.split(","):
        if each.strip() == "auto":
            found.append("auto")
            continue
        try:
            found.append(float(Intensity(float(each))))
        except (ValueError, DamiError) as error:
            raise typer.BadParameter(
                f"{each!r} is neither auto nor a number in [0, 1]", param_hint="--lambdas"
            ) from error
    return found


def _model(pair: Path | None) -> dict[str, Any]:
    """Return the arguments of ChatDAMI that name a pair's folders; none for the one that ships."""
    return {} if pair is None else {"instruct": str(pair / "instruct"), "thinking": str(pair / "thinking")}


def _identity(model: Mapping[str, Any]) -> dict[str, Any]:
    """Say which weights were measured."""
    from dami_agent.evaluation.compare import identity

    return {"fingerprint": identity(dict(model))["fingerprint"]}


def _tell(result: Mapping[str, Any], output: Path | None) -> None:
    """Print a result, and write it where that is asked for."""
    text = json.dumps(result, indent=2, ensure_ascii=False)
    if output is not None:
        output.write_text(text + "\n", encoding="utf-8")
    typer.echo(text)


@app.command()
def ledger_overhead(
    tasks: Annotated[int, typer.Option(help="Agent tasks to solve, one at a time.", min=1)] = 12,
    seed: Annotated[int, typer.Option(help="Seed for tasks and sampling.")] = 0,
) -> None:
    """Measure what writing a ledger row costs beside the call that it records."""
    from builtin_pair.acceptance import ledger_overhead as overhead

    typer.echo(overhead.line(overhead.measure(tasks=tasks, seed=seed)))


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
