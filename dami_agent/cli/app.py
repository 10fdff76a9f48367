"""Define the ``dami`` command: its subcommands, its version, and how errors end it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dami_agent.cli.bench import bench
from dami_agent.cli.calibrate import calibrate
from dami_agent.cli.chat import chat
from dami_agent.cli.demo import demo
from dami_agent.cli.doctor import doctor
from dami_agent.cli.explain import explain
from dami_agent.cli.logs import logs
from dami_agent.cli.output import LINES, visible
from dami_agent.cli.pair import pair
from dami_agent.cli.policy import policy
from dami_agent.cli.replay import replay
from dami_agent.cli.report import report
from dami_agent.cli.runs import runs
from dami_agent.cli.serve import serve
from dami_agent.cli.sweep import sweep
from dami_agent.cli.tasks import tasks
from dami_agent.cli.train_estimator import train_estimator
from dami_agent.cli.watch import watch
from dami_agent.errors import DamiError, UsageError

app = typer.Typer(
    name="dami",
    help="Reasoning as deep as each step needs: an Instruct and a Thinking checkpoint run as one model.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # locals hold prompts
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo)
app.command()(chat)
app.command()(logs)
app.command()(runs)
app.command()(explain)
app.command()(watch)
app.command()(replay)
app.command()(report)
app.command()(doctor)
app.command()(calibrate)
app.command()(sweep)
app.command()(train_estimator)
app.command()(pair)
app.command()(serve)
app.add_typer(bench)
app.add_typer(tasks)
app.add_typer(policy)


def _print_version(wanted: bool) -> None:
    if wanted:
        import dami_agent

        typer.echo(dami_agent.__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None: ...


def main() -> None:
    """Run the command line. An error of ours is one message on stderr; status 2 for wrong usage, 1 for what failed."""
    try:
        app()
    except DamiError as error:
        typer.secho(f"error: {visible(error.message, keep=LINES)}", fg="red", err=True)
        if error.hint:
            typer.echo(f"  hint: {visible(error.hint, keep=LINES)}", err=True)
        sys.exit(2 if isinstance(error, UsageError) else 1)
