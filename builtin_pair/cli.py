"""The command line of ``python -m builtin_pair``: train the built-in pair, and accept what was measured of it."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Train and accept the pair that ships.")


@app.callback()
def builtin_pair() -> None:
    """Train and accept the pair that ships with dami-agent."""


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
def train(context: typer.Context) -> None:
    """Run one stage of the recipe: tokenizer, base, slips, finish, tune, evaluate or ablate (train --help)."""
    from builtin_pair.training import command

    command.main(context.args)
