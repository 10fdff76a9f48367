"""Run ``dami calibrate``: find the λs that pay on a pair, on questions of the user's own, and train its heads."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dami_agent.checkpoints.pair import both_or_neither
from dami_agent.cli.calibrate_sources import asked_of, check_ledger_options, name_of, recorded
from dami_agent.cli.call_view import span
from dami_agent.cli.options import BatchOption, WorkersOption
from dami_agent.cli.output import check_writable, print_json, stdout
from dami_agent.cli.progress import progress_bar
from dami_agent.cli.sweep import numbers
from dami_agent.errors import UsageError
from dami_agent.files import write_whole

if TYPE_CHECKING:
    from dami_agent.estimators.heads import Heads

_PROMISED_LOSS, _RISK = 0.05, 0.05
_FEW = 50


def calibrate(
    instruct: Annotated[
        str | None, typer.Argument(help="Folder or hub id of the Instruct checkpoint; left out: the built-in pair.")
    ] = None,
    thinking: Annotated[str | None, typer.Argument(help="Folder or hub id of the Thinking checkpoint.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of both hub ids.")] = None,
    questions: Annotated[
        Path | None, typer.Option(help="Your own questions, one JSON object a line: question, answer, grader.")
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(help="builtin (the default), or reasoning-gym:NAME,NAME… for its questions of these names."),
    ] = None,
    ledger: Annotated[
        str | None,
        typer.Option(
            help="Path or URL of a ledger with texts: this pair's recorded steps, held to the majority of Thinking's "
            "replies to each."
        ),
    ] = None,
    votes: Annotated[
        int | None, typer.Option(help="Replies of Thinking to each step of --ledger that vote (default: 5).", min=3)
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            help="Questions to draw of --tasks; of builtin, 2 agent tasks for 7. Of --ledger, the newest steps.", min=8
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="About how long it may take, the first 48 prompts aside: 90s, 60m, 2h (default: no bound)."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Frontier file (default: your data folder, found by the pair)."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw accuracy against tokens into this .svg or .png.")] = None,
    lambdas: Annotated[str, typer.Option(help="λs to begin with; 0 and 1 always are.")] = "0,.2,.4,.6,.8,1",
    temperature: Annotated[
        float | None, typer.Option(help="Sampling temperature at every λ (default: the checkpoints' own).", min=0)
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(help="Output tokens of a reply at most (default: Thinking's own cap, else the window).", min=2),
    ] = None,
    batch: BatchOption = None,
    workers: WorkersOption = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Measure a pair on questions like yours, once: from then on λ is chosen by what was found.

    It goes on where it broke off, and stops at the budget with what it has.
    """
    both_or_neither(instruct, thinking, "INSTRUCT and THINKING")
    if revision is not None and instruct is None:
        raise UsageError(
            "--revision is of checkpoints on the hub, and none is named", hint="name both, or leave it out"
        )
    if questions is not None and (tasks is not None or count is not None):
        raise UsageError("--questions brings your own, and --tasks and --count draw others", hint="give one of them")
    check_ledger_options(ledger, votes, temperature, {"--questions": questions, "--tasks": tasks})
    values, seconds = numbers(lambdas), _seconds(budget)
    for path in (output, plot):
        if path is not None:
            check_writable(path)
    from dami_agent.evaluation import calibration_plot, runner
    from dami_agent.evaluation.asked import SamplePlan
    from dami_agent.evaluation.calibration import CalibrationPlan
    from dami_agent.evaluation.calibration import calibrate as measure
    from dami_agent.evaluation.call_batches import PairSource
    from dami_agent.evaluation.majority import VOTES, vote
    from dami_agent.frontiers import answers_folder, frontier_path

    if plot is not None:
        calibration_plot.blank(plot)
    source = PairSource(instruct=instruct, thinking=thinking, revision=revision, batch=batch or runner.BATCH)
    samples = SamplePlan(lambdas=values, temperature=temperature, max_tokens=max_tokens)
    given: dict[str, Any] = {"kept": answers_folder(), "workers": workers}
    about: dict[str, Any] = {}
    if ledger is not None:
        steps, begun = recorded(ledger, source, count), time.monotonic()
        with progress_bar() as tell:
            voted = vote(source, samples, steps, votes=votes or VOTES, seconds=seconds, tell=tell, **given)
        asked, said = voted.asked, "recorded steps"
        about = {"source": voted.said(name_of(ledger)), "majority": voted.counts}
        seconds = seconds and max(1.0, seconds - (time.monotonic() - begun))
    else:
        asked, said = asked_of(questions, tasks or "builtin", count)
    with progress_bar() as tell:
        found = measure(source, CalibrationPlan(samples=samples, seconds=seconds), asked, tell=tell, **given)
    frontier = {**found.frontier, "asked": said, **about, "date": date.today().isoformat()}
    path = output or frontier_path(frontier["fingerprint"])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, f"{json.dumps(frontier, indent=1, ensure_ascii=False)}\n".encode())
    kept = _keep_heads(found.heads, output)
    if plot is not None:
        calibration_plot.draw(frontier, plot)
    if as_json:
        print_json({**frontier, "file": str(path), "heads": kept and str(kept), "without_heads": found.without})
        return
    _show(frontier)
    _say_heads(found.heads, found.without)
    stdout().print(f"kept in {path}" + (f" and {kept}" if kept else ""), soft_wrap=True, markup=False)
    if output is None:
        stdout().print(
            "models of this pair that are opened from now on choose λ by it, where their policy names no frontier; "
            "take the file away to undo it",
            soft_wrap=True,
        )
    if frontier["questions"] < _FEW:
        stdout().print(f"{frontier['questions']} prompts say little: intervals are wide, and no λ was left out by them")


def _seconds(budget: str | None) -> float | None:
    if budget is None:
        return None
    found = span(budget)
    if found is None or not found:
        raise typer.BadParameter(f"{budget!r} is not a span such as 90s, 60m or 2h", param_hint="--budget")
    return found.total_seconds()


def _heads_beside(output: Path) -> Path:
    """Return where heads go beside a frontier file: a name that no weights have."""
    return output.with_name(f"{output.stem}.heads.safetensors")


def _keep_heads(heads: Heads | None, output: Path | None) -> Path | None:
    """Write the heads beside the frontier that was asked for, or where they are found by the pair."""
    from dami_agent.estimators.head_files import heads_path

    if heads is None:
        return None
    path = heads_path(heads.fingerprint) if output is None else _heads_beside(output)
    heads.save(path)
    return path


def _show(frontier: Mapping[str, Any]) -> None:
    from rich.table import Table

    from dami_agent.policy import EFFORTS, Frontier

    console, read = stdout(), Frontier.from_dict(frontier)
    efforts: dict[float, list[str]] = {}
    for name in EFFORTS:
        efforts.setdefault(float(read.for_effort(name)), []).append(name)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("λ", "accuracy", "tokens", "thinks", "finished", "of Thinking's accuracy", "of its tokens", "effort"):
        table.add_column(name, justify="left" if name == "effort" else "right")
    for row in frontier["rows"]:
        share = row["of_thinking"]
        inside = row["lambda"] in map(float, read.grid)
        table.add_row(
            f"{row['lambda']:g}",
            f"{row['accuracy']:.3f} ± {row['accuracy_ci']:.3f}",
            f"{row['tokens']:,.1f}",
            _percent(row["think_ratio"]),
            _percent(row["finished"]),
            _around(share),
            "–" if share["tokens"] is None else _percent(share["tokens"]),
            ", ".join(efforts.get(row["lambda"], [])) if inside else "not efficient",
        )
    console.print(table)
    asked = f"{frontier['questions']:,} of {frontier['of']:,} prompts asked"
    console.print(f"{asked}; Instruct's template up to λ={frontier['switch_point']:g}")
    if "source" in frontier:
        _say_vote(frontier)
    for row in frontier["left_out"]:
        console.print(f"λ={row['lambda']:g} left out after {row['questions']} prompts: λ={row['beaten_by']:g} beats it")
    for effort in ("low", "medium", "high"):
        value = float(read.for_effort(effort))
        share = next(row["of_thinking"] for row in frontier["rows"] if row["lambda"] == value)
        if share["tokens"] is not None:
            kept = f"{_around(share)} of Thinking's accuracy at {_percent(share['tokens'])} of its tokens"
            console.print(f"at '{effort}' (λ={value:g}) you keep {kept}")


def _say_vote(frontier: Mapping[str, Any]) -> None:
    """Say what accuracy is here, and which steps it is not of."""
    console, counts = stdout(), frontier["majority"]
    console.print(f"accuracy is {frontier['source']}", soft_wrap=True, markup=False)
    left = [f"{counts['without']} of {counts['steps']} steps without a majority are left out"]
    left += [f"{counts['changed']} whose text on record is not what was sent"] if counts["changed"] else []
    left += [f"{counts['unasked']} that there was no time for"] if counts["unasked"] else []
    console.print(", ".join(left), soft_wrap=True)


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _around(share: Mapping[str, float | None]) -> str:
    value, half = share["accuracy"], share["accuracy_ci"]
    return "–" if value is None else _percent(value) + ("" if half is None else f" ± {100 * half:.1f}")


def _say_heads(heads: Heads | None, without: str) -> None:
    """Say what choosing λ per prompt is worth, judged by folds left out."""
    from dami_agent.estimators.preference import MAX_LOSS

    if heads is None:
        stdout().print(f"no heads were trained: {without}", markup=False)
        return
    for kind, of in (("plain", "prompts without tools"), ("tools", "prompts with tools")):
        best = heads.best(kind)  # type: ignore[arg-type]
        if best is None:
            if any(head.kind == kind for head in heads):
                stdout().print(f"{of}: λ per prompt is not better than a fixed λ beyond doubt")
            continue
        point, fixed = best.point_within(MAX_LOSS), best.card["fixed"][-1]
        gain = f"{100 * point.gain:+.1f} ± {100 * point.gain_ci:.1f} points against Thinking"
        static = f"{100 * point.static_gain:+.1f} ± {100 * point.static_gain_ci:.1f} against fixed λs at equal tokens"
        share = f"{_percent(point.tokens / fixed['tokens'])} of its tokens"
        stdout().print(f"{of}: λ per prompt ('auto') {gain} at {share}, {static}", soft_wrap=True)
        promised = best.point_promised(_PROMISED_LOSS, _RISK)
        if promised is not None:
            bound = f"max_loss={_PROMISED_LOSS:g}, risk={_RISK:g}"
            share = _percent(promised.tokens / fixed["tokens"])
            stdout().print(
                f"  {bound}: at most {100 * _PROMISED_LOSS:.0f} points below Thinking at {share} of its tokens"
            )
