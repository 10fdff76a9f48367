"""Run ``dami policy check``: check that a policy file can be read and that the tools and nodes it names exist."""

from __future__ import annotations

from typing import Annotated

import typer

from dami_agent.cli.output import visible

policy = typer.Typer(name="policy", help="Check policy files.", no_args_is_help=True)


def _names(given: str | None) -> list[str] | None:
    return None if given is None else [name.strip() for name in given.split(",") if name.strip()]


@policy.callback()
def _group() -> None: ...


@policy.command()
def check(
    file: Annotated[str, typer.Argument(help="Policy file (.yaml, .yml or .toml), or the name of a preset.")],
    tools: Annotated[str | None, typer.Option(help="Names of all tools of the agent, separated by commas.")] = None,
    nodes: Annotated[str | None, typer.Option(help="Names of all nodes of the graph, separated by commas.")] = None,
) -> None:
    """Print every problem of a policy; the exit status is 1 if there is any."""
    from dami_agent.policy.names import unknown_names
    from dami_agent.policy.registry import read_policy

    read = read_policy(file)
    assert read is not None
    problems = list(unknown_names(read, _names(tools), _names(nodes)))
    for problem in problems:
        typer.echo(visible(problem))
    if problems:
        raise typer.Exit(1)
    typer.echo(f"{visible(read.name)}: {len(read.all_rules)} rules, no problem found")
