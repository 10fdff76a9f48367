"""Run ``dami doctor``: show whether two checkpoints fit together and how they would run here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dami_agent.checkpoints.pair import both_or_neither, calibrate_command, unmeasured
from dami_agent.cli.output import LINES, print_json, visible
from dami_agent.errors import (
    CheckpointError,
    DamiError,
    IncompatiblePair,
    InsufficientMemory,
    RunError,
    UsageError,
)

if TYPE_CHECKING:
    from rich.console import Console

    from dami_agent.checkpoints import Check, Checkpoint, CheckpointPair, Inspection, Plan
    from dami_agent.cli.speed import Speed

STYLES = {"ok": "green", "note": "yellow", "warning": "bold yellow", "mismatch": "bold red"}


@dataclass
class Report:
    """Holds all that was found out, as far as it went; ``error`` is what ended it, if something did."""

    checkpoints: tuple[Checkpoint, ...] = ()
    inspection: Inspection | None = None
    pair: CheckpointPair | None = None
    options: tuple[tuple[str, str, Plan | InsufficientMemory], ...] = ()
    plan: Plan | None = None
    speed: Speed | None = None
    error: DamiError | None = None


def doctor(
    instruct: Annotated[
        str | None, typer.Argument(help="Folder or hub id of the Instruct checkpoint; left out: the built-in pair.")
    ] = None,
    thinking: Annotated[str | None, typer.Argument(help="Folder or hub id of the Thinking checkpoint.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps…")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    mode: Annotated[str, typer.Option(help="Weights mode: auto, merged or mixed.")] = "auto",
    context: Annotated[int | None, typer.Option(help="Context length in tokens; left out: as much as fits.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of the hub ids.")] = None,
    speed: Annotated[
        bool,
        typer.Option("--speed", help="Also load the pair; measure loading, switching λ, tokens per second."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--allow-unrelated", help="Accept two models that were not fine-tuned from one base.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Check that two checkpoints fit together and show how they would run here.

    Reads headers and a small sample of the weights; only --speed loads them. Ends with status 1 when the two are
    refused or fit nowhere, 2 when the command itself is wrong.
    """
    both_or_neither(instruct, thinking, "INSTRUCT and THINKING")
    requested = {"device": device, "dtype": dtype, "mode": mode, "context_length": context}
    report = examine(instruct, thinking, revision=revision, requested=requested, speed=speed, force=force or None)
    if as_json:
        print_json(as_data(report))
    else:
        from rich.console import Console

        show(report, Console(soft_wrap=False))
    if report.error is not None:
        raise typer.Exit(2 if isinstance(report.error, UsageError) else 1)


def examine(
    instruct: str | None,
    thinking: str | None,
    *,
    revision: str | None,
    requested: Mapping[str, Any],
    speed: bool = False,
    force: bool | None = None,
) -> Report:
    """Examine a pair as far as possible; an error of ours ends the examination and stands in the report.

    Args:
        instruct, thinking: folders or hub ids; None: the built-in pair.
        revision: hub revision of both.
        requested: device, dtype, mode and context_length, as :func:`~dami_agent.checkpoints.plan` takes them.
        speed: load the weights and measure how fast they decode.
        force: examine unrelated checkpoints too; None: as the environment says.
    """
    from dami_agent.checkpoints import CheckpointPair, compare, plan
    from dami_agent.checkpoints.hub import Hub
    from dami_agent.checkpoints.memory import free_memory
    from dami_agent.checkpoints.pair import CheckpointSource

    report = Report()
    try:
        if instruct is None or thinking is None:
            report.pair = CheckpointPair.builtin()
            report.checkpoints = report.pair.instruct, report.pair.thinking
        else:
            sources = CheckpointSource.of((instruct, thinking), revision=revision)
            report.checkpoints = tuple(source.open(Hub(), weights=False) for source in sources)
        report.inspection = compare(report.checkpoints[0], report.checkpoints[1], allow_unrelated=force)
        report.pair = report.pair or CheckpointPair.of(
            report.checkpoints[0], report.checkpoints[1], inspection=report.inspection
        )
        report.inspection = replace(report.inspection, checks=(*report.inspection.checks, _measured(report.pair)))
        free = free_memory()
        report.options = _options(report.pair, free, requested)
        report.plan = plan(report.pair, memory=free, **requested)
        if speed:
            from dami_agent.cli.speed import measure

            if not all(checkpoint.downloaded for checkpoint in report.checkpoints):
                report.pair = CheckpointPair.open(
                    str(instruct), str(thinking), revision=revision, allow_unrelated=force
                )
            report.speed = measure(report.pair, report.plan)
    except (CheckpointError, UsageError, RunError) as error:
        report.error = error
    return report


def _measured(pair: CheckpointPair) -> Check:
    """Say which frontier λ is chosen by, and what to run where it is not of this pair's own measuring."""
    from dami_agent.checkpoints import Check
    from dami_agent.frontiers import candidates, find_frontier, read_frontier

    sides = pair.instruct.source, pair.thinking.source
    for path in candidates(pair):
        found, why = read_frontier(path, pair)
        if found is None:
            return Check("frontier", "warning", f"{path} is passed over: {why}")
    frontier = find_frontier(pair)
    if not frontier.rows:
        return Check("frontier", "warning", unmeasured(*sides))
    if frontier.published:
        return Check(
            "frontier", "note", f"as published ({frontier.published}); to measure: {calibrate_command(*sides)}"
        )
    return Check("frontier", "ok", f"{len(frontier.rows)} λs measured ({frontier.source})")


def _options(
    pair: CheckpointPair, free: Mapping[str, int], requested: Mapping[str, Any]
) -> tuple[tuple[str, str, Plan | InsufficientMemory], ...]:
    """Plan every device with every weights mode, or say why it does not fit."""
    from dami_agent.checkpoints import plan
    from dami_agent.checkpoints.placements import MIXED_FAMILIES

    modes = ("mixed", "merged") if pair.config.get("model_type") in MIXED_FAMILIES else ("merged",)
    found: list[tuple[str, str, Plan | InsufficientMemory]] = []
    for device in free:
        for mode in modes:
            try:
                verdict: Plan | InsufficientMemory = plan(
                    pair, memory=free, **{**requested, "device": device, "mode": mode}
                )
            except InsufficientMemory as error:
                verdict = error
            found.append((device, mode, verdict))
    return tuple(found)


def as_data(report: Report) -> dict[str, Any]:
    """Convert the report to JSON data."""
    data: dict[str, Any] = {"ok": report.error is None}
    for side, checkpoint in zip(("instruct", "thinking"), report.checkpoints, strict=False):
        size = sum(entry.nbytes for entry in checkpoint.tensors.values())
        data[side] = {"source": checkpoint.source, "path": str(checkpoint.path), "revision": checkpoint.revision}
        data[side] |= {
            "downloaded": checkpoint.downloaded,
            "files": len(checkpoint.files),
            "tensors": len(checkpoint.tensors),
            "bytes": size,
        }
    if report.pair:
        data |= {"name": report.pair.name, "fingerprint": report.pair.fingerprint}
    if report.inspection:
        data["checks"] = [asdict(check) for check in report.inspection.checks]
        data["mismatches"] = [asdict(mismatch) for mismatch in report.inspection.mismatches]
    data["options"] = [
        {"device": d, "mode": m, "fits": not isinstance(p, InsufficientMemory)}
        | ({"message": p.message} if isinstance(p, InsufficientMemory) else _plan_data(p))
        for d, m, p in report.options
    ]
    data["plan"] = _plan_data(report.plan) if report.plan else None
    data["speed"] = asdict(report.speed) if report.speed else None
    if report.error:
        error = report.error
        data["error"] = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
    return data


def _plan_data(plan: Plan) -> dict[str, Any]:
    return asdict(plan) | {"kv_bytes": plan.kv_bytes, "total_bytes": plan.total_bytes}


def show(report: Report, console: Console) -> None:
    """Print the report as tables for a terminal."""
    from dami_agent.checkpoints.memory import gigabytes

    for side, checkpoint in zip(("instruct", "thinking"), report.checkpoints, strict=False):
        revision = f" @ {_text(checkpoint.revision[:12])}" if checkpoint.revision else ""
        if not checkpoint.downloaded:
            size = sum(entry.nbytes for entry in checkpoint.tensors.values())
            revision += f"  [dim]{gigabytes(size)} still on the hub; headers read there[/dim]"
        console.print(f"[bold]{side:9}[/bold]{_text(checkpoint.source)}{revision}", highlight=False, soft_wrap=True)
    if report.pair:
        console.print(
            f"[bold]pair     [/bold]{_text(report.pair.name)}  [dim]fingerprint {report.pair.fingerprint}[/dim]",
            highlight=False,
        )
    if report.inspection:
        _show_checks(report.inspection, console)
    if report.options:
        _show_options(report, console)
    if report.plan:
        _show_plan(report.plan, console)
    if report.speed:
        _show_speed(report.speed, console)
    if report.error:
        listed = isinstance(report.error, IncompatiblePair) and report.inspection is not None
        message = report.error.message.splitlines()[0] if listed else report.error.message
        console.print(f"\n[bold red]refused[/bold red]  {_text(message, keep=LINES)}", highlight=False)
        if report.error.hint and not listed:
            console.print(f"[bold]do[/bold]       {_text(report.error.hint, keep=LINES)}", highlight=False)


def _text(text: str, *, keep: str = "") -> str:
    """Return what may stem from a checkpoint's files as text that neither a terminal nor rich obeys."""
    from rich.markup import escape

    return escape(visible(text, keep=keep))


def _show_checks(inspection: Inspection, console: Console) -> None:
    from rich.table import Table

    table = Table("check", "", "found", box=None, pad_edge=False, header_style="dim")
    for check in inspection.checks:
        table.add_row(check.name, f"[{STYLES[check.status]}]{check.status}[/]", _text(check.detail))
    console.print("", table)
    if not inspection.mismatches:
        return
    for number, m in enumerate(inspection.mismatches, 1):
        console.print(f"\n[bold red]{number}.[/] {_text(m.file)}: [bold]{_text(m.field)}[/bold]", highlight=False)
        console.print(f"   instruct  {_text(m.instruct)}\n   thinking  {_text(m.thinking)}", highlight=False)
        console.print(f"   do        {_text(m.remedy)}", highlight=False)


def _show_options(report: Report, console: Console) -> None:
    from rich.table import Table

    from dami_agent.checkpoints.memory import gigabytes

    columns = ("device", "mode", "dtype", "weights", "KV/token", "activations", "context", "in all")
    table = Table(*columns, box=None, pad_edge=False, header_style="dim")
    fitting = [p for _, _, p in report.options if not isinstance(p, InsufficientMemory)]
    for device, mode, plan in report.options:
        if isinstance(plan, InsufficientMemory):
            table.add_row(device, mode, "[red]does not fit[/red]")
            continue
        need = plan.needs[plan.mode]
        weights = gigabytes(need.resident) + (f" + {gigabytes(need.mapped)} mapped" if need.mapped else "")
        sizes = weights, gigabytes(plan.kv_bytes_per_token), gigabytes(plan.activation_bytes), str(plan.context_length)
        table.add_row(device, mode, plan.dtype, *sizes, gigabytes(plan.total_bytes))
    console.print("", table)
    if fitting:
        free = ", ".join(f"{device} {gigabytes(size)}" for device, size in fitting[0].available.items())
        console.print(f"[dim]free: {free} (a tenth is left alone); activations are an estimate[/dim]", highlight=False)


def _show_plan(plan: Plan, console: Console) -> None:
    from rich.table import Table

    table = Table("plan", "", "why", box=None, pad_edge=False, header_style="dim")
    for name in ("device", "dtype", "mode", "context_length"):
        table.add_row(name.replace("_", " "), f"[bold]{getattr(plan, name)}[/bold]", _text(plan.reasons[name]))
    if plan.device_map:
        places = sorted({str(place) for place in plan.device_map.values()})
        table.add_row("layers on", ", ".join(places), "placed by accelerate")
    console.print("", table)


def _show_speed(speed: Speed, console: Console) -> None:
    from rich.table import Table

    table = Table("speed", "", box=None, pad_edge=False, header_style="dim")
    table.add_row("load both checkpoints", f"{speed.load_seconds:.2f} s")
    table.add_row("switch λ", f"{speed.switch_seconds * 1e3:.2f} ms")
    for size, rate in speed.tokens_per_second.items():
        table.add_row(f"tokens/s at batch {size}", f"{rate:.0f}")
    console.print("", table)
