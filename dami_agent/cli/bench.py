"""Run ``dami bench``: agents that choose λ in every possible way; its subcommands measure other things."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, get_args

import typer

from dami_agent.cli.bench_merges import bench_merges
from dami_agent.cli.bench_prefix import bench_prefix
from dami_agent.cli.bench_quality import bench_quality
from dami_agent.cli.bench_speed import bench_speed
from dami_agent.cli.options import AlsoOutputOption, InstructOption, JsonOption, ThinkingOption, WorkersOption
from dami_agent.cli.output import put_out, stdout
from dami_agent.cli.progress import progress_bar
from dami_agent.errors import UsageError
from dami_agent.evaluation.task_set import KINDS, TaskSet
from dami_agent.tasks import UNSEEN
from dami_agent.tasks.agent import Kind

bench = typer.Typer(
    name="bench", help="Compare λ per step, or per question, with all that knows less.", invoke_without_command=True
)
bench.command("quality")(bench_quality)
bench.command("prefix")(bench_prefix)
bench.command("merges")(bench_merges)
bench.command("speed")(bench_speed)


@bench.command("agents")
@bench.callback()
def agents(
    context: typer.Context,
    tasks: Annotated[int, typer.Option(help="Number of agent tasks, from the test split.", min=1)] = 402,
    seeds: Annotated[int, typer.Option(help="Seeds that share the tasks: of tasks and random streams.", min=1)] = 3,
    as_json: JsonOption = False,
    output: AlsoOutputOption = None,
    controls: Annotated[
        bool,
        typer.Option(help="Also run every static λ, λs shuffled and redrawn, a router, caps, retries, the oracle."),
    ] = True,
    kinds: Annotated[str, typer.Option(help="Kinds of tasks in turn, comma-separated.")] = ",".join(KINDS),
    unseen: Annotated[
        str | None, typer.Option(help=f"Only tasks with something training never showed: {', '.join(UNSEEN)}.")
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Policy file or preset to compare too (default: the example that ships)."),
    ] = None,
    concurrency: Annotated[int, typer.Option(help="Agents to run at the same time, in each process.", min=1)] = 48,
    budgets: Annotated[
        bool, typer.Option("--budgets", help="Instead: tasks solved under reasoning budgets, generous to starving.")
    ] = False,
    workers: WorkersOption = 1,
    instruct: InstructOption = None,
    thinking: ThinkingOption = None,
) -> None:
    """Solve seeded tasks with a LangChain agent, choosing λ in every possible way, and compare."""
    if context.invoked_subcommand is not None:
        sources = {name: context.get_parameter_source(name) for name in context.params}
        given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
        if given:
            raise UsageError(f"--{given[0]} stands before {context.invoked_subcommand}", hint="put options after it")
        return
    from dami_agent.evaluation.budget_curve import budget_curve
    from dami_agent.evaluation.compare import compare
    from dami_agent.evaluation.policy_arm import SHIPPED

    if unseen is not None and unseen not in UNSEEN:
        raise typer.BadParameter(f"{unseen!r} is not one of {', '.join(UNSEEN)}", param_hint="--unseen")
    model = {name: value for name, value in (("instruct", instruct), ("thinking", thinking)) if value is not None}
    chosen = [kind.strip() for kind in kinds.split(",")]
    if unknown := sorted({*chosen} - {*get_args(Kind)}):
        raise typer.BadParameter(f"{unknown[0]!r} is not one of {', '.join(get_args(Kind))}", param_hint="--kinds")
    asked = TaskSet(count=tasks, seeds=tuple(range(min(seeds, tasks))), kinds=tuple(chosen), unseen=unseen)  # type: ignore[arg-type]
    with progress_bar() as tell:
        if budgets:
            result = budget_curve(asked, workers=workers, concurrency=concurrency, model=model, progress=tell)
        else:
            result = compare(
                asked,
                workers=workers,
                concurrency=concurrency,
                controls=controls,
                policy=policy or SHIPPED,
                model=model,
                progress=tell,
            )
    put_out(result, output=output, as_json=as_json, show=_show_budgets if budgets else _show)


def _show(result: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("mode", "solved", "±", "output tokens", "a task", "reasoning", "mean λ", "calls", "seconds"):
        table.add_column(name, justify="left" if name == "mode" else "right")
    for name, mode in result["modes"].items():
        shown = [name, f"{mode['solved']}/{mode['tasks']}", f"{mode['solved_ci']:.0f}", f"{mode['output_tokens']:,}"]
        shown += [f"{mode['tokens_per_task']:.1f}", f"{mode['reasoning_tokens']:,}", f"{mode['mean_lambda']:.2f}"]
        table.add_row(*shown, str(mode["calls"]), f"{mode['seconds']:.1f}")
    console = stdout()
    console.print(table)
    console.print()
    for line in _verdict(result):
        console.print(line)
    console.print(_policy(result["policy"]))
    unseen = f" with an unseen {result['unseen']}" if result["unseen"] else ""
    drawn = (
        f"{result['tasks']} tasks of the {result['split']} split{unseen}, seeds {', '.join(map(str, result['seeds']))}"
    )
    console.print(f"{result['pair']}, {drawn}")


def _show_budgets(result: Mapping[str, Any]) -> None:
    """Print a line for each budget: what each arm solves, and λ per step against Thinking under the same budget."""
    from rich.table import Table

    from dami_agent.evaluation.budget_curve import used

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("budget", "share", "tokens a run", "used", "auto", "thinking", "λ=0.5", "auto − thinking", "95 %"):
        table.add_column(name, justify="left" if name == "budget" else "right")
    for point in result["points"]:
        against = point["auto_against_thinking"]
        low, high = against["solved_ci"]
        solved = [str(point["arms"][name]["solved"]) for name in ("auto", "thinking", "lambda=0.5")]
        interval = f"{100 * low:+.1f} to {100 * high:+.1f}"
        spent = used(result, point["arms"]["auto"])
        cells = [f"per {point['scope']}", f"{point['share']:.0%}", f"{point['budget']:.0f}", f"{spent:.0%}", *solved]
        table.add_row(*cells, f"{100 * against['solved']:+.1f}", interval)
    console, free = stdout(), result["auto"]
    console.print(table)
    console.print(
        f"\nwithout a budget auto solves {free['solved']} of {result['tasks']} tasks with "
        f"{free['thought_per_task']:.0f} tokens of thought a run, of which the budgets are shares"
    )


def _verdict(result: Mapping[str, Any]) -> Iterator[str]:
    """Compare λ per step with Thinking and the best static λs, and λ with what a step must work out."""
    yield "λ per step against always-Thinking: " + _difference(result["modes"]["dami"]["against_thinking"])
    for key, what in (
        ("best_static", "the best static λ"),
        ("best_static_at_most_its_tokens", "the best at its tokens"),
    ):
        if key in result:
            yield f"against {what} ({result[key]['mode'].replace('lambda', 'λ')}): {_difference(result[key])}"
    found = result["lambda_by_depth"]
    if found is not None:
        yield f"λ and the depth of a step: rank correlation {found:.2f}"


def _difference(found: Mapping[str, Any]) -> str:
    low, high = found["solved_ci"]
    return (
        f"{100 * found['solved']:+.1f} points solved (95 %: {100 * low:+.1f} to {100 * high:+.1f}) at "
        f"{_share(found['tokens'], found['tokens_ci'])} of the tokens"
    )


def _share(value: float | None, interval: list[float] | None) -> str:
    if value is None:
        return "an undefined share"
    return f"{value:.0%}" + (f" (95 %: {interval[0]:.0%} to {interval[1]:.0%})" if interval else "")


def _policy(found: Mapping[str, Any]) -> str:
    """Say what the policy saved of always-Thinking's thought, whether it cost success, and whose thought that was."""
    from dami_agent.evaluation.policy_arm import describe_against_auto

    saved, spent = found["reasoning_saved"], found["reasoning_tokens"]
    if saved is None:
        return f"policy {found['name']}: always-Thinking spent no reasoning tokens, so there is nothing to save"
    low, high = found["solved_difference_ci"]
    lines = [
        f"policy {found['name']}: {_share(saved, found['reasoning_saved_ci'])} of always-Thinking's reasoning tokens "
        f"saved ({spent['policy']:,} of {spent['thinking']:,} spent)",
        f"  tasks solved: {100 * found['solved_difference']:+.1f} points against it (95 %: {100 * low:+.1f} to "
        f"{100 * high:+.1f}); at least half saved and success not below: "
        + ("yes" if found["saves_enough"] and found["success_not_below"] else "NO"),
    ]
    tools = [f"{name} {each['policy']:,}/{each['thinking']:,}" for name, each in found["by_tool"].items()]
    lines.append(f"  by tool, policy/thinking: {', '.join(tools)}")
    if "against_auto" in found:
        lines.append(f"  {describe_against_auto(found['against_auto']).replace('`', '')}")
    return "\n".join(lines)
