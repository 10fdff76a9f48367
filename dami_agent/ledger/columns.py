"""Convert a record to a row's columns: what the ledger keeps of a call."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from dami_agent.ledger.call_text import TEXTS, Redaction, texts_of
from dami_agent.ledger.cells import fitted
from dami_agent.ledger.database import first_line
from dami_agent.ledger.plain import plain
from dami_agent.ledger.price_table import Prices
from dami_agent.types import CallRecord, Decision, Generation, Limits, Sampling, Step, modules_of

log = logging.getLogger("dami_agent.ledger")

# Shown to the redaction hook: what may quote a prompt, an answer or a secret, or says who asked. Names by which calls
# are told apart and added up (ids of calls and runs, names of tools, nodes, models and rules) are not.
REDACTED = frozenset(
    {"thread_id", "tags", "metadata", "run_name", "root_run_name", "trace_names"}
    | {"reason", "considered", "stop", "limits", "error"}
)


def values_of(
    record: CallRecord,
    *,
    prices: Prices | None = None,
    keep_text: bool = False,
    redact: Redaction | None = None,
    trace_names: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the columns of ``schema.calls`` for a record, all but ``id``; plain values that any database takes.

    Args:
        record: the attempt.
        prices: for ``cost``; None, or no price of its model, leaves it NULL.
        keep_text: fill the columns of text, uncut.
        redact: shown every text that is kept, see ``REDACTED``; what it returns is kept.
        trace_names: names of the traces that are open around the call, the outermost first.
    """
    redaction = redact or Redaction(None)
    error_type, _, error = str(record.error or "").partition(": ")
    cost = _cost(record, prices)
    values: dict[str, Any] = {
        **_of_step(record.step),
        **_of_decision(record.decision),
        "attempt": record.decision.attempt if record.decision else record.attempt,
        **_of_generation(record.generation),
        "invalid_tool_calls": len(record.reply.invalid_tool_calls) if record.reply else 0,
        "tools_called": [c.name for c in record.reply.tool_calls] if record.reply else [],
        "accepted": record.reply.accepted if record.reply else None,
        "probe_tokens": record.probe_tokens,
        "discarded_tokens": record.discarded_tokens,
        "output_tokens": record.output_tokens,
        "error_type": error_type or None,
        "error": error or None,
        "model": record.model,
        "version": _version(),
        "started_at": record.started_at,
        "seconds": record.seconds,
        "cached_tokens": record.cached_tokens,
        "reread_tokens": record.reread_tokens,
        "fingerprint": record.fingerprint or None,
        "frontier": record.frontier or None,
        "cost": cost,
        "currency": None if prices is None or cost is None else prices.currency,
        "trace_names": trace_names,
    }
    if record.generation is None and record.prompt is not None:
        values["prompt_tokens"] = len(record.prompt.token_ids)
    if record.reply is not None:
        values["finish_reason"] = record.reply.finish_reason
    hook = redaction if redaction.hook is not None else None
    modules = {name: value for name, value in values.items() if name.endswith("_modules")}  # read back: never cut
    kept = {name: plain(value, hook if name in REDACTED else None) for name, value in values.items()} | modules
    texts = texts_of(record, redaction) if keep_text else dict.fromkeys(TEXTS)
    return fitted(kept | texts)


def _cost(record: CallRecord, prices: Prices | None) -> float | None:
    try:
        return None if prices is None else prices.cost_of(record)
    except Exception as e:  # a table of the user's own making
        log.warning("the price of call %s is unknown: %s", plain(record.step.run_context.call_id), first_line(e))
        return None


@cache
def _version() -> str:
    try:
        return version("dami-agent")
    except PackageNotFoundError:  # a source tree that was never installed
        return "unknown"


def _of_step(step: Step) -> dict[str, Any]:
    run_context, intensity_request = step.run_context, step.intensity_request
    asked = intensity_request.effort if intensity_request.intensity is None else intensity_request.intensity
    return {
        "call_id": run_context.call_id,
        "run_id": run_context.run_id,
        "parent_run_id": run_context.parent_run_id,
        "root_run_id": run_context.root_run_id,
        "run_name": run_context.run_name,
        "root_run_name": run_context.root_run_name,
        "thread_id": run_context.thread_id,
        "node": run_context.node,
        "step": run_context.step,
        "tags": run_context.tags,
        "metadata": run_context.metadata,
        "messages": len(step.messages),
        "tools_bound": [t.name for t in step.tools],
        "tools_digested": step.digested_tools,
        "asked": (modules_of(asked) or str(float(asked))) if isinstance(asked, float) else asked,
        "asked_by": intensity_request.origin,
    }


def _of_decision(decision: Decision | None) -> dict[str, Any]:
    estimate = decision.estimate if decision else None
    return {
        "intensity_requested": decision.requested if decision else None,
        "intensity_requested_modules": modules_of(decision.requested) if decision else None,
        "intensity": decision.intensity if decision else None,
        "intensity_modules": modules_of(decision.intensity) if decision else None,
        "template": decision.template if decision else None,
        "reason": decision.reason if decision else None,
        "policy": decision.policy if decision else None,
        "sampling": _fields(decision.sampling) if decision else {},
        "limits": _fields(decision.limits) if decision else {},
        "intensity_estimated": estimate.intensity if estimate else None,
        "estimator": estimate.estimator if estimate else None,
        "features": estimate.features if estimate else {},
        "scored_tokens": estimate.scored_tokens if estimate else 0,
        "estimate_seconds": estimate.seconds if estimate else None,
        "intensity_low": decision.bounds[0] if decision and decision.bounds else None,
        "intensity_high": decision.bounds[1] if decision and decision.bounds else None,
        "intensity_bounded": decision.bounded if decision else None,
        "intensity_bounded_modules": modules_of(decision.bounded) if decision else None,
        "intensity_snapped": decision.snapped if decision else None,
        "rule": (decision.rule or None) if decision else None,
        "considered": decision.considered if decision else (),
        "charged_to": decision.charged_to if decision else None,
        "tools_disabled": decision.tools_disabled if decision else None,
    }


def _of_generation(generation: Generation | None) -> dict[str, Any]:
    if generation is None:
        none = ("finish_reason", "thought_closed_by", "stop", "weights_mode", "weights_version")
        times = ("queue_seconds", "switch_seconds", "prefill_seconds", "first_token_seconds", "decode_seconds")
        intensities = ("intensity_answer", "intensity_answer_modules", "intensity_prompt")
        return dict.fromkeys((*none, *times, *intensities)) | dict.fromkeys(
            ("prompt_tokens", "reasoning_tokens", "answer_tokens"), 0
        )
    timing = generation.timing
    return {
        "finish_reason": generation.finish_reason,
        "thought_closed_by": generation.thought_closed_by,
        "stop": generation.stop_string,
        "intensity": generation.intensity,
        "intensity_modules": modules_of(generation.intensity),
        "intensity_answer": generation.answer_intensity,
        "intensity_answer_modules": modules_of(generation.answer_intensity),
        "intensity_prompt": generation.prefix_intensity,
        "sampling": _fields(generation.sampling),  # as drawn: defaults and seed filled in
        "weights_mode": generation.weights_mode,
        "weights_version": generation.weights_version,
        "prompt_tokens": generation.prompt_tokens,
        "reasoning_tokens": generation.reasoning_tokens,
        "answer_tokens": generation.answer_tokens,
        "queue_seconds": timing.queue,
        "switch_seconds": timing.switch,
        "prefill_seconds": timing.prefill,
        "first_token_seconds": timing.first_token,
        "decode_seconds": timing.decode,
    }


def _fields(value: Sampling | Limits) -> dict[str, Any]:
    """Map fields by name; not ``dataclasses.asdict``, which copies deeply and takes ten times as long."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
