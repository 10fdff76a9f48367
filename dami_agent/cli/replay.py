"""Run ``dami replay``: decode a recorded run again at another λ, and so measure what it saved."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dami_agent.cli import call_view
from dami_agent.cli.grid import Column, distinct, grid
from dami_agent.cli.options import InstructOption, LedgerOption, ThinkingOption
from dami_agent.cli.output import print_json, stdout, visible
from dami_agent.errors import DamiError, RunError, UsageError
from dami_agent.types import Intensity, IntensityRequest, RunContext, Sampling, Step, Template, modules_of

if TYPE_CHECKING:
    from dami_agent.ledger import CallRow
    from dami_agent.pipeline import Pipeline

LAST = "last"
FIRST = "run something first, with DAMI_LEDGER_TEXT=1"
METHOD = (
    "measured: every recorded prompt decoded again at that λ, with the checkpoints' own sampling, the recorded seed "
    "and max_tokens, no other cap; the path of the agent is the recorded one"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """Compares one call as recorded (all attempts) with the same decoded again; output tokens, probes included."""

    call_id: str
    node: str | None
    intensity: float | None
    recorded_tokens: int
    replayed_tokens: int
    replayed_reasoning_tokens: int
    error: str | None = None


def replay(
    run: Annotated[
        str, typer.Argument(help="Id of a run or a call, as `dami runs` shows it, or how it begins; or: last.")
    ] = LAST,
    target: Annotated[
        str, typer.Option("--as", help="thinking (λ=1), instruct (λ=0), a number from 0 to 1, or a λ per module.")
    ] = "thinking",
    instruct: InstructOption = None,
    thinking: ThinkingOption = None,
    concurrency: Annotated[int, typer.Option(help="Calls to decode at the same time.", min=1)] = 4,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the table.")] = False,
    ledger: LedgerOption = None,
) -> None:
    """Decode a recorded run again at another λ and compare tokens. Needs a ledger with texts; records nothing."""
    intensity = _intensity(target)
    from dami_agent.ledger import CallRows, Ledger

    opened = Ledger.open(ledger)
    if run == LAST:
        newest = opened.rows(limit=1)
        if not newest:
            raise UsageError(visible(call_view.nothing(opened, newest, {})), hint=FIRST)
        run = newest[0].run
    rows = opened.rows(run=run) or opened.rows(call=run)
    if not rows and not opened.rows(limit=1):
        raise UsageError(visible(call_view.nothing(opened, CallRows(), {})), hint=FIRST)
    opened.close()
    call_view.warn_of_damage(rows)
    check(rows, run)
    from dami_agent import ChatDAMI

    merged: dict[str, Any] = {} if intensity.modules is None else {"weights_mode": "merged"}
    model = ChatDAMI(instruct=instruct, thinking=thinking, ledger="off", **merged)
    pipeline = model.pipeline()
    found = {row.fingerprint for row in rows} - {None, pipeline.engine.info.fingerprint}
    if found:
        raise UsageError(
            f"run {run} was decoded with other weights ({', '.join(sorted(map(str, found)))}) than these "
            f"({pipeline.engine.info.fingerprint})",
            hint="name the checkpoints it ran on with --instruct and --thinking",
        )
    check_prompts(rows, pipeline, run)
    print(f"decoding {len({row.call_id for row in rows})} calls at λ={intensity:g}", file=sys.stderr, flush=True)
    done = again(rows, pipeline, intensity, concurrency)
    model.close()
    _show(run, intensity, done, as_json)


def check(rows: Sequence[CallRow], run: str) -> None:
    """Raise ``UsageError`` if there is nothing to decode again, or not the text of all of it."""
    if not rows:
        raise UsageError(f"no call of run {run} is on record", hint="`dami runs` shows the ids; `last` is the newest")
    several = sorted({row.run for row in rows})
    if len(several) > 1:
        raise UsageError(f"{len(several)} runs begin with {run}: {', '.join(several[:5])}", hint="give more of the id")
    bare = {row.call_id for row in rows if row.prompt_text is None}
    if bare:
        raise UsageError(
            f"{len(bare)} of the {len({row.call_id for row in rows})} calls of run {run} have no text on record, "
            "so they cannot be decoded again",
            hint="from now on, keep texts with DAMI_LEDGER_TEXT=1 or Ledger.open(..., keep_text=True)",
        )


def check_prompts(rows: Sequence[CallRow], pipeline: Pipeline, run: str) -> None:
    """Raise ``UsageError`` where the text on record is not as long as the prompt that was sent: it was redacted."""
    changed = set()
    for row in rows:
        if row.weights_mode is not None and row.template in ("instruct", "thinking"):
            template: Template = "thinking" if row.template == "thinking" else "instruct"
            prompt = pipeline.dialogue.render(step(row, Intensity(0)), template)
            if len(prompt.token_ids) != row.prompt_tokens:
                changed.add(row.call_id)
    if changed:
        raise UsageError(
            f"for {len(changed)} calls of run {run} the text on record is not the prompt that was sent, so decoding it "
            "again would measure something else",
            hint="a redaction hook changes what is kept; replay a run that was recorded without one",
        )


def again(rows: Sequence[CallRow], pipeline: Pipeline, intensity: Intensity, concurrency: int = 4) -> list[Replayed]:
    """Decode every call of ``rows`` once more at ``intensity``; ``rows`` have their text, see :func:`check`.

    Args:
        rows: all attempts at the calls, oldest first.
        pipeline: decodes them.
        intensity: λ.
        concurrency: calls in flight.
    """
    attempts: dict[str, list[CallRow]] = {}
    for row in rows:
        attempts.setdefault(row.call_id, []).append(row)
    with ThreadPoolExecutor(concurrency) as pool:
        return list(pool.map(lambda group: _one(group, pipeline, intensity), attempts.values()))


def _one(attempts: Sequence[CallRow], pipeline: Pipeline, intensity: Intensity) -> Replayed:
    generation, error = None, None
    try:
        generation = pipeline.run(step(attempts[0], intensity)).record.generation
    except DamiError as e:
        error = type(e).__name__
        generation = e.generation if isinstance(e, RunError) else None
    return Replayed(
        call_id=attempts[0].call_id,
        node=attempts[0].node,
        intensity=attempts[-1].used,
        recorded_tokens=sum(row.output_tokens for row in attempts),
        replayed_tokens=generation.output_tokens if generation else 0,
        replayed_reasoning_tokens=generation.reasoning_tokens if generation else 0,
        error=error,
    )


def step(row: CallRow, intensity: Intensity) -> Step:
    """Rebuild the recorded step, to be decoded at ``intensity``.

    Raises:
        LedgerError: what is on record is damaged.
    """
    from dataclasses import replace

    from dami_agent.evaluation.recorded_steps import rebuilt_step

    rebuilt = rebuilt_step(row)
    return replace(
        rebuilt,
        intensity_request=IntensityRequest(intensity=intensity, origin="replay"),
        sampling=Sampling(seed=row.sampling.get("seed")),
        limits=replace(rebuilt.limits, max_tokens=row.limits.get("max_tokens")),
        prefix="exact" if row.intensity_prompt is None else "shared",
        run_context=RunContext(tags=("replay",), metadata={"replay_of": row.call_id}),
    )


def _intensity(target: str) -> Intensity:
    named = {"thinking": 1.0, "instruct": 0.0}
    if "=" in target:
        return Intensity(target)
    try:
        return Intensity(named[target] if target in named else float(target))
    except ValueError:  # InvalidIntensity is one too
        raise typer.BadParameter(
            f"{target!r} is neither thinking, instruct nor a number from 0 to 1", param_hint="--as"
        ) from None


def _show(run: str, intensity: Intensity, done: Sequence[Replayed], as_json: bool) -> None:
    failed = sum(call.error is not None for call in done)
    recorded, replayed = (sum(getattr(call, f"{name}_tokens") for call in done) for name in ("recorded", "replayed"))
    sums: dict[str, Any] = {
        "run": run,
        "baseline": f"λ={intensity:g} on every call",
        "method": METHOD,
        "recorded_tokens": recorded,
        "replayed_tokens": replayed,
        "saved_tokens": None if failed else replayed - recorded,
        "failed": failed,
    }
    if as_json:
        calls = [{**asdict(call), "intensity_modules": modules_of(call.intensity)} for call in done]
        print_json({**sums, "calls": calls})
        return
    console = stdout()
    columns = [Column(name, right=at > 1) for at, name in enumerate(("call", "node", "λ then", "tokens then"))]
    columns += [
        Column(f"at λ={intensity:g}", right=True),
        Column("of thought", rank=1, right=True),
        Column("end", rank=2),
    ]
    names = distinct([call.call_id for call in done], call_view.SHORT_ID)
    lines = []
    for call in done:
        then = "" if call.intensity is None else f"{call.intensity:g}"
        counts = (call.recorded_tokens, call.replayed_tokens, call.replayed_reasoning_tokens)
        lines.append((names[call.call_id], call.node or "", then, *map(str, counts), call.error or ""))
    console.print(grid(columns, lines, console.width))
    verdict = (
        f"{failed} call{'s' * (failed != 1)} failed, so no saving is claimed"
        if failed
        else f"saved {replayed - recorded:,}"
    )
    console.print(f"\n{recorded:,} output tokens then, {replayed:,} at {sums['baseline']}: {verdict}", markup=False)
    console.print(METHOD, markup=False, style="dim")
