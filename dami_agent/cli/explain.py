"""Run ``dami explain``: show why one call got its λ, and what it cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from dami_agent.cli import call_view
from dami_agent.cli.options import FrontierOption, LedgerOption
from dami_agent.cli.output import print_json, visible
from dami_agent.errors import UsageError

if TYPE_CHECKING:
    from dami_agent.ledger import CallRow, Savings

LAST = "last"


def explain(
    call: Annotated[str, typer.Argument(help="Id of a call, as `dami logs` shows it, or how it begins.")] = LAST,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array of the call's attempts.")] = False,
    frontier: FrontierOption = None,
    ledger: LedgerOption = None,
) -> None:
    """Explain one call: the rule that won, the estimator's features, the bounds, what else was considered."""
    from dami_agent.cli.open_savings import open_savings
    from dami_agent.ledger import Ledger

    savings = open_savings(frontier)
    opened = Ledger.open(ledger)
    newest = opened.rows(limit=1)
    found = opened.rows(call=newest[0].call_id if call == LAST and newest else call)
    ids = list(dict.fromkeys(row.call_id for row in found))
    if not ids:
        why = call_view.nothing(opened, newest if call == LAST else found, {} if call == LAST else {"call": call})
        known = newest and call != LAST
        raise UsageError(
            visible(f"no call {call} in {opened.url}" if known else why),
            hint="`dami logs` shows the ids" if known else "run something first, or name another ledger with --ledger",
        )
    opened.close()
    call_view.warn_of_damage(found)
    if len(ids) > 1 and call not in ids:
        shown = ", ".join(ids[:5]) + (", …" if len(ids) > 5 else "")
        raise UsageError(visible(f"{len(ids)} calls begin with {call}: {shown}"), hint="give more of the id")
    rows = [row for row in found if len(ids) == 1 or row.call_id == call]
    if as_json:
        print_json([row.to_dict() | {"saved_tokens_expected": savings.expected(row)} for row in rows])
        return
    for n, row in enumerate(rows):
        typer.echo("\n" if n else "", nl=False)
        for name, value in story(row, savings):
            typer.echo(f"{name:<12}{visible(value)}")


def story(row: CallRow, savings: Savings) -> Iterator[tuple[str, str]]:
    """Yield (what, how it was) in the order in which it happened."""
    place = [f"node {row.node}" if row.node else "", f"step {row.step}" if row.step is not None else ""]
    place += [f"thread {row.thread_id}" if row.thread_id else "", f"run {row.run}" if row.run != row.call_id else ""]
    yield "call", f"{row.call_id}, attempt {row.attempt + 1}, {call_view.local(row.started_at)}"
    yield "where", ", ".join(filter(None, place)) or "outside any run"
    if row.names or row.user:
        yield "names", ", ".join((*row.names, *((f"user {row.user}",) if row.user else ())))
    yield "model", ", ".join(filter(None, (row.model, row.fingerprint, row.weights_mode)))
    yield "tools", f"{call_view.tools(row) or 'none read, none called'}; bound: {', '.join(row.tools_bound) or 'none'}"
    yield from _depth(row)
    yield from _cost(row, savings)
    yield from _limits(row)
    drawn = {name: value for name, value in row.sampling.items() if value is not None}
    if drawn:
        yield "sampled", ", ".join(f"{name} {value}" for name, value in drawn.items())
    if row.error_type:
        yield "failed", f"{row.error_type}: {row.error or ''}"
    else:
        yield "ended", f"{row.finish_reason}{'' if row.accepted in (None, True) else ', not accepted'}"


def _depth(row: CallRow) -> Iterator[tuple[str, str]]:
    """Tell the way from what was asked to the λ used."""
    yield "asked", f"{row.asked or 'nothing'} (set by {row.asked_by or 'nobody'})"
    if row.estimator:
        features = ", ".join(f"{name} {_number(value)}" for name, value in row.features.items())
        estimated = "–" if row.intensity_estimated is None else f"{row.intensity_estimated:.3g}"
        yield "estimated", f"λ = {estimated} by {row.estimator}{f', from {features}' if features else ''}"
    if row.intensity_requested is not None:
        yield "requested", f"λ = {row.intensity_requested_modules or f'{row.intensity_requested:g}'}"
    yield "rule", row.rule or f"none: policy {row.policy or '–'} has none for this step"
    if row.intensity_low is not None and row.intensity_high is not None:
        yield "bounds", f"λ in [{row.intensity_low:g}, {row.intensity_high:g}], left by rules and budgets"
    if row.intensity_bounded is not None:
        yield "bounded", f"λ = {row.intensity_bounded_modules or f'{row.intensity_bounded:.3g}'}"
        yield "snapped", _snapped(row)
    used = "not decided" if row.used is None else f"λ = {row.used:g} with {row.template}'s template"
    answer = "" if row.answered is None else f"; the answer with λ = {row.answered:g}"
    read = "" if row.intensity_prompt is None else f"; the prompt read at λ = {row.intensity_prompt:g}, as all are"
    yield "used", used + answer + read
    yield "because", row.reason or "it failed before a decision"
    for n, other in enumerate(row.considered):
        yield "considered" if n == 0 else "", other
    if row.tools_disabled:
        yield "budget", "exhausted: no tool could be called"


_CAP_BY = {
    "caller": "as the caller asked",
    "policy": "by the policy",
    "budget": "all that a budget left",
    "window": "all that the context window leaves",
    "frontier": "nobody set one; this pair's measured replies come nowhere near",
}


def _limits(row: CallRow) -> Iterator[tuple[str, str]]:
    most, by = row.limits.get("max_tokens"), row.limits.get("max_tokens_by", "")
    if most is not None:
        yield "at most", f"{most} tokens{f', {_CAP_BY[by]}' if by in _CAP_BY else ''}"


def _snapped(row: CallRow) -> str:
    if row.intensity_snapped is not None:
        return f"λ = {row.intensity_snapped:g}, the nearest that was measured"
    asked = row.intensity_requested is not None
    return "no: λ runs as it was asked for" if asked else "no: nothing within the bounds was measured"


def _cost(row: CallRow, savings: Savings) -> Iterator[tuple[str, str]]:
    cached = f" ({row.cached_tokens} of them cached)" if row.cached_tokens else ""
    closed = f", closed by {row.thought_closed_by}" if row.thought_closed_by else ""
    probe = f", {row.probe_tokens} of a discarded probe" if row.probe_tokens else ""
    probe += f", {row.discarded_tokens} begun at the thought's λ and discarded" if row.discarded_tokens else ""
    yield "tokens", f"{row.prompt_tokens} read{cached}; {row.output_tokens} decoded:"
    yield "", f"{row.reasoning_tokens} of thought{closed}, {row.answer_tokens} of answer{probe}"
    if row.reread_tokens:
        yield "read again", f"{row.reread_tokens} tokens of the prompt, kept from before but read at another λ"
    if row.charged_to:
        yield "charged to", row.charged_to
    names = ("estimate", "queue", "switch", "prefill", "first_token", "decode")
    parts = ((name, getattr(row, f"{name}_seconds")) for name in names)
    times = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in parts if value)
    yield "seconds", f"{row.seconds:.3f}{f' ({times})' if times else ''}"
    if row.cost is not None:
        yield "cost", f"{row.cost:.6g} {row.currency}"
    saved = savings.expected(row)
    if saved is not None:
        statement = savings.statement([row])
        yield "saved", f"{saved:,.0f} of {saved + row.output_tokens:,.0f} tokens against {statement['baseline']}"
        yield (
            "",
            f"(expected, not measured; frontier: {', '.join(statement['frontiers'])}; `dami runs` says how)",
        )


def _number(value: float | str) -> str:
    return f"{value:.3g}" if isinstance(value, (int, float)) else str(value)
