"""``dami tasks``: look at the questions that sweeps and benchmarks ask."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dami_agent.cli.output import print_json, stdout
from dami_agent.tasks import FAMILIES, LEVELS, UNSEEN, questions
from dami_agent.tasks.questions import NAMED

tasks = typer.Typer(name="tasks", help="Look at the questions that sweeps and benchmarks ask.", no_args_is_help=True)


@tasks.callback()
def _root() -> None: ...


@tasks.command()
def sample(
    family: Annotated[str, typer.Argument(help=f"One of: {', '.join(FAMILIES)}.")],
    level: Annotated[
        int | None, typer.Option(help=f"From {LEVELS[0]} (easiest) to {LEVELS[-1]}; left out: all.")
    ] = None,
    count: Annotated[int, typer.Option(help="How many.", min=1, max=10_000)] = 5,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal questions.")] = 0,
    split: Annotated[str, typer.Option(help="train, calibration or test.")] = "test",
    unseen: Annotated[
        str | None, typer.Option(help=f"With one of {', '.join(UNSEEN)} that training never shows.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON array.")] = False,
) -> None:
    """Print seeded questions with their answers."""
    if family not in FAMILIES:
        raise typer.BadParameter(f"{family!r} is none of {', '.join(FAMILIES)}", param_hint="FAMILY")
    if level is not None and level not in LEVELS:
        raise typer.BadParameter(f"{level} is none of {', '.join(map(str, LEVELS))}", param_hint="--level")
    if split not in ("train", "calibration", "test"):
        raise typer.BadParameter(f"{split!r} is none of train, calibration, test", param_hint="--split")
    if unseen is not None and unseen not in UNSEEN:
        raise typer.BadParameter(f"{unseen!r} is none of {', '.join(UNSEEN)}", param_hint="--unseen")
    if unseen == "name" and family not in NAMED:
        raise typer.BadParameter(f"{family} has no names; {', '.join(NAMED)} have", param_hint="--unseen")
    levels = LEVELS if level is None else (level,)
    found = questions(split, count, seed=seed, families=(family,), levels=levels, unseen=unseen)  # type: ignore[arg-type]
    if as_json:
        print_json([_data(q) for q in found])
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("level", justify="right")
    table.add_column("question", ratio=1)
    table.add_column("answer", justify="right")
    for question in found:
        table.add_row(str(question.level), escape(question.prompt), str(question.answer))
    stdout().print(table)


def _data(question: Any) -> dict[str, Any]:
    work = [operation.line for operation in question.work]
    fields = ("family", "level", "prompt", "answer", "unseen")
    return {name: getattr(question, name) for name in fields} | {"work": work}
