"""Run ``dami tasks``: look at the questions and agent tasks that sweeps and benchmarks ask."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, get_args

import typer

from dami_agent.cli.output import print_json, stdout
from dami_agent.errors import UsageError
from dami_agent.tasks import FAMILIES, LEVELS, UNSEEN, AgentTask, PlannedCall, Question, Working, agent_tasks, questions
from dami_agent.tasks.agent import Kind
from dami_agent.tasks.questions import NAMED

KINDS: tuple[Kind, ...] = get_args(Kind)
"""Families of agent tasks."""

tasks = typer.Typer(
    name="tasks",
    help="Show the questions and agent tasks of `dami sweep` and `dami bench`.",
    no_args_is_help=True,
)


@tasks.callback()
def _root() -> None: ...


@tasks.command()
def sample(
    family: Annotated[
        str, typer.Argument(help=f"Questions: {', '.join(FAMILIES)}. Agent tasks with tools: {', '.join(KINDS)}.")
    ],
    level: Annotated[
        int | None,
        typer.Option(help=f"Level of questions, from {LEVELS[0]} (easiest) to {LEVELS[-1]} (default: all)."),
    ] = None,
    count: Annotated[int, typer.Option(help="How many to print.", min=1, max=10_000)] = 5,
    seed: Annotated[int, typer.Option(help="Seed; the same seed gives the same questions and tasks.")] = 0,
    split: Annotated[str, typer.Option(help="Split: train, calibration or test.")] = "test",
    unseen: Annotated[
        str | None, typer.Option(help=f"Only those with something training never showed: {', '.join(UNSEEN)}.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array with everything.")] = False,
) -> None:
    """Print seeded questions with answers, or agent tasks with tools and a reference solution turn by turn."""
    _check(family, level, split, unseen)
    if family in KINDS:
        asked = agent_tasks(split, count, seed=seed, kinds=(family,), unseen=unseen)  # type: ignore[arg-type]
        if as_json:
            print_json([_task_data(task) for task in asked])
        else:
            _show_tasks(asked)
        return
    levels = LEVELS if level is None else (level,)
    found = questions(split, count, seed=seed, families=(family,), levels=levels, unseen=unseen)  # type: ignore[arg-type]
    if as_json:
        print_json([_data(question) for question in found])
    else:
        _show(found)


def _check(family: str, level: int | None, split: str, unseen: str | None) -> None:
    """Refuse what is unknown, and what this family does not have."""
    if family not in (*FAMILIES, *KINDS):
        raise typer.BadParameter(f"{family!r} is not one of {', '.join((*FAMILIES, *KINDS))}", param_hint="FAMILY")
    if level is not None and family in KINDS:
        raise UsageError(
            f"{family} has no levels: agent tasks are not graded by difficulty",
            hint=f"leave out --level, or choose questions: {', '.join(FAMILIES)}",
        )
    if level is not None and level not in LEVELS:
        raise typer.BadParameter(f"{level} is not one of {', '.join(map(str, LEVELS))}", param_hint="--level")
    if split not in ("train", "calibration", "test"):
        raise typer.BadParameter(f"{split!r} is not one of train, calibration, test", param_hint="--split")
    if unseen is not None and unseen not in UNSEEN:
        raise typer.BadParameter(f"{unseen!r} is not one of {', '.join(UNSEEN)}", param_hint="--unseen")
    if unseen == "name" and family in FAMILIES and family not in NAMED:
        raise typer.BadParameter(f"{family} has no names; {', '.join(NAMED)} have", param_hint="--unseen")
    if unseen is not None and family == "novel":
        raise UsageError(
            f"novel has no separate tasks with an unseen {unseen}: outside the train split all its tools are unseen",
            hint="leave out --unseen",
        )


def _show(found: Sequence[Question]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("level", justify="right")
    table.add_column("question", ratio=1)
    table.add_column("answer", justify="right")
    for question in found:
        table.add_row(str(question.level), escape(question.prompt), str(question.answer))
    stdout().print(table)


def _show_tasks(found: Sequence[AgentTask]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(ratio=1)
    for number, task in enumerate(found):
        if number:
            table.add_row()
        for label, text in _lines(task):
            table.add_row(label, escape(text))
    stdout().print(table)


def _lines(task: AgentTask) -> Iterator[tuple[str, str]]:
    """Yield labelled lines of a task: the prompt, the tools, turn by turn what is worked out and called, the answer."""
    yield task.name, task.prompt
    for place, tool in enumerate(task.tools):
        yield "" if place else "tools", f"{tool.spec.name}: {' '.join(tool.spec.description.split())}"
    for turn, calls in enumerate(task.rounds, 1):
        yield from _turn(f"turn {turn}", [step for call in calls for step in call.work], "; ".join(map(_call, calls)))
    yield from _turn("answer", task.work, ", ".join(task.answers))


def _turn(label: str, work: Sequence[Working], said: str) -> Iterator[tuple[str, str]]:
    """Format what is worked out, if anything is, and on the next line what is then called or answered."""
    if work:
        yield label, ", ".join(step.line for step in work)
    yield "" if work else label, said


def _call(call: PlannedCall) -> str:
    """Format a call and its result: ``get_price(item="lamp") → 12``."""
    given = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in call.arguments.items())
    return f"{call.name}({given}) → {call.result}"


def _data(question: Question) -> dict[str, Any]:
    fields = ("family", "level", "prompt", "answer", "unseen")
    return {name: getattr(question, name) for name in fields} | {"work": _work(question.work)}


def _task_data(task: AgentTask) -> dict[str, Any]:
    """Convert a task with its tools and plan, a list of calls per turn; ``work`` is what comes before the answer."""
    return {
        "kind": task.kind,
        "name": task.name,
        "prompt": task.prompt,
        "tools": [
            {"name": tool.spec.name, "description": tool.spec.description, "parameters": tool.spec.parameters}
            for tool in task.tools
        ],
        "turns": [
            [
                {"name": call.name, "arguments": call.arguments, "result": call.result, "work": _work(call.work)}
                for call in calls
            ]
            for calls in task.rounds
        ],
        "work": _work(task.work),
        "answers": task.answers,
        "reply": task.reply,
        "unseen": task.unseen,
    }


def _work(steps: Sequence[Working]) -> list[str]:
    return [step.line for step in steps]
