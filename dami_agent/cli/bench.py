"""Run ``dami bench``: DAMI, and a policy with budgets per tool, against always-Instruct and always-Thinking."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from dami_agent.cli.options import InstructOption, ThinkingOption
from dami_agent.cli.output import print_json, stdout
from dami_agent.cli.progress import progress_bar
from dami_agent.tasks import UNSEEN


def bench(
    tasks: Annotated[int, typer.Option(help="Number of agent tasks, from the test split.", min=1)] = 200,
    seed: Annotated[int, typer.Option(help="Seed for tasks, sampling, shuffling and bootstrap.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also write the JSON to this file.")] = None,
    controls: Annotated[bool, typer.Option(help="Also run fixed λs, and DAMI's λs shuffled over the steps.")] = True,
    unseen: Annotated[
        str | None, typer.Option(help=f"Only tasks with something training never showed: {', '.join(UNSEEN)}.")
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Policy file or preset to compare too (default: the example that ships)."),
    ] = None,
    concurrency: Annotated[int, typer.Option(help="Agents to run at the same time.", min=1)] = 48,
    instruct: InstructOption = None,
    thinking: ThinkingOption = None,
) -> None:
    """Solve seeded tasks with a LangChain agent, choosing λ in every possible way, and compare."""
    from dami_agent.evaluation.compare import compare
    from dami_agent.evaluation.policy_arm import SHIPPED

    if unseen is not None and unseen not in UNSEEN:
        raise typer.BadParameter(f"{unseen!r} is not one of {', '.join(UNSEEN)}", param_hint="--unseen")
    model = {name: value for name, value in (("instruct", instruct), ("thinking", thinking)) if value is not None}
    with progress_bar() as tell:
        result = compare(
            tasks=tasks,
            seed=seed,
            concurrency=concurrency,
            controls=controls,
            unseen=unseen,
            policy=policy or SHIPPED,
            model=model,
            progress=tell,
        )
    if output is not None:
        output.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if as_json:
        print_json(result)
    else:
        _show(result)


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
    console.print(f"\ngap closed: {_share(result['gap_closed'], result['gap_closed_ci'])} of always-Thinking's lead")
    console.print(f"tokens: {_share(result['tokens_ratio'], result['tokens_ratio_ci'])} of always-Thinking's")
    console.print(_policy(result["policy"]))
    unseen = f" with an unseen {result['unseen']}" if result["unseen"] else ""
    drawn = f"{result['tasks']} tasks of the {result['split']} split{unseen}, seed {result['seed']}"
    console.print(f"{result['pair']}, {drawn}")


def _share(value: float | None, interval: list[float] | None) -> str:
    if value is None:
        return "undefined, because always-Thinking does not lead: nothing"
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
