"""A record as a row: what the ledger keeps of a call, and how it is read back. No prompt, no answer, no thought."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from dami_agent.types import CallRecord, Decision, Generation, Step

LONGEST_TEXT = 2_000  # characters of one string (an error, a metadata value): a ledger is no dump
DEEPEST = 6  # levels of nesting kept in metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One attempt at one call, as kept.

    Attributes:
        id: counts up in the order of writing.
        started_at: UTC. All ``*seconds`` are seconds; ``first_token_seconds`` counts from submission.
        asked, asked_by: the depth asked for (``"0.5"``, ``"auto"``, an effort's name) and where that came from.
        intensity_requested, intensity_estimated, intensity: λ as requested, as estimated, as used.
        features: the estimator's numbers.
        messages: how many the prompt held.
        probe_tokens: decoded to estimate and thrown away.
        output_tokens: probe, reasoning and answer together.
        scored_tokens: only read, by teacher forcing.
        error_type, error: class and message of what failed; None for a call that did not.
        version: of this package.
    """

    id: int
    call_id: str
    attempt: int
    run_id: str | None
    parent_run_id: str | None
    root_run_id: str | None
    thread_id: str | None
    node: str | None
    step: int | None
    tags: tuple[str, ...]
    metadata: Mapping[str, Any]
    messages: int
    tools_bound: tuple[str, ...]
    tools_digested: tuple[str, ...]
    tools_called: tuple[str, ...]
    invalid_tool_calls: int
    asked: str | None
    asked_by: str | None
    intensity_requested: float | None
    intensity_estimated: float | None
    intensity: float | None
    template: str | None
    reason: str | None
    policy: str | None
    estimator: str | None
    features: Mapping[str, float]
    prompt_tokens: int
    probe_tokens: int
    scored_tokens: int
    reasoning_tokens: int
    answer_tokens: int
    output_tokens: int
    finish_reason: str | None
    thought_closed_by: str | None
    stop: str | None
    accepted: bool | None
    error_type: str | None
    error: str | None
    model: str
    weights_mode: str | None
    weights_version: int | None
    sampling: Mapping[str, Any]
    limits: Mapping[str, Any]
    version: str
    started_at: datetime
    seconds: float
    estimate_seconds: float | None
    queue_seconds: float | None
    switch_seconds: float | None
    prefill_seconds: float | None
    first_token_seconds: float | None
    decode_seconds: float | None

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Row:
        """From a database row, by column name."""
        fields: dict[str, Any] = dict(values)
        for name in ("tags", "tools_bound", "tools_digested", "tools_called"):
            fields[name] = tuple(fields[name])
        fields["started_at"] = datetime.fromtimestamp(fields["started_at"], timezone.utc)
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, ready for JSON; the time as ISO 8601."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        lists = {k: list(v) for k, v in values.items() if isinstance(v, tuple)}
        return values | lists | {"started_at": self.started_at.isoformat()}


def values_of(record: CallRecord) -> dict[str, Any]:
    """The columns of ``schema.calls`` for a record, all but ``id``; plain values that any database takes."""
    error_type, _, error = (record.error or "").partition(": ")
    values: dict[str, Any] = {
        **_of_step(record.step),
        **_of_decision(record.decision),
        **_of_generation(record.generation),
        "invalid_tool_calls": len(record.reply.invalid_tool_calls) if record.reply else 0,
        "tools_called": [c.name for c in record.reply.tool_calls] if record.reply else [],
        "accepted": record.reply.accepted if record.reply else None,
        "probe_tokens": record.probe_tokens,
        "output_tokens": record.output_tokens,
        "error_type": error_type or None,
        "error": error or None,
        "model": record.model,
        "version": _version(),
        "started_at": record.started_at,
        "seconds": record.seconds,
    }
    if record.generation is None and record.prompt is not None:
        values["prompt_tokens"] = len(record.prompt.token_ids)
    if record.reply is not None:
        values["finish_reason"] = record.reply.finish_reason
    return {name: _plain(value) for name, value in values.items()}


@cache
def _version() -> str:
    try:
        return version("dami-agent")
    except PackageNotFoundError:  # a source tree that was never installed
        return "unknown"


def _of_step(step: Step) -> dict[str, Any]:
    trace, ask = step.trace, step.ask
    asked = ask.effort if ask.intensity is None else ask.intensity
    return {
        "call_id": trace.call_id,
        "run_id": trace.run_id,
        "parent_run_id": trace.parent_run_id,
        "root_run_id": trace.root_run_id,
        "thread_id": trace.thread_id,
        "node": trace.node,
        "step": trace.step,
        "tags": trace.tags,
        "metadata": trace.metadata,
        "messages": len(step.messages),
        "tools_bound": [t.name for t in step.tools],
        "tools_digested": step.digested_tools,
        "asked": None if asked is None else str(float(asked)) if isinstance(asked, float) else asked,
        "asked_by": ask.origin,
    }


def _of_decision(decision: Decision | None) -> dict[str, Any]:
    estimate = decision.estimate if decision else None
    return {
        "attempt": decision.attempt if decision else 0,
        "intensity_requested": decision.requested if decision else None,
        "intensity": decision.intensity if decision else None,
        "template": decision.template if decision else None,
        "reason": decision.reason if decision else None,
        "policy": decision.policy if decision else None,
        "sampling": dataclasses.asdict(decision.sampling) if decision else {},
        "limits": dataclasses.asdict(decision.limits) if decision else {},
        "intensity_estimated": estimate.intensity if estimate else None,
        "estimator": estimate.estimator if estimate else None,
        "features": estimate.features if estimate else {},
        "scored_tokens": estimate.scored_tokens if estimate else 0,
        "estimate_seconds": estimate.seconds if estimate else None,
    }


def _of_generation(generation: Generation | None) -> dict[str, Any]:
    if generation is None:
        none = ("finish_reason", "thought_closed_by", "stop", "weights_mode", "weights_version")
        times = ("queue_seconds", "switch_seconds", "prefill_seconds", "first_token_seconds", "decode_seconds")
        return dict.fromkeys((*none, *times)) | dict.fromkeys(("prompt_tokens", "reasoning_tokens", "answer_tokens"), 0)
    timing = generation.timing
    return {
        "finish_reason": generation.finish_reason,
        "thought_closed_by": generation.thought_closed_by,
        "stop": generation.stop_string,
        "intensity": generation.intensity,
        "sampling": dataclasses.asdict(generation.sampling),  # as drawn: defaults and seed filled in
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


def _plain(value: Any, depth: int = 0) -> Any:
    """``value`` as JSON can hold it, whatever it is: strings cut and made encodable, unknown things by their text."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, str):
        return _text(value)
    if depth < DEEPEST and isinstance(value, Mapping):
        return {_text(str(k)): _plain(v, depth + 1) for k, v in value.items()}
    if depth < DEEPEST and isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(v, depth + 1) for v in value]
    try:
        return _text(str(value))
    except Exception:  # a foreign object whose text cannot be had must not cost the row
        return f"<{type(value).__name__}>"


def _text(text: str) -> str:
    """Cut to ``LONGEST_TEXT``; lone surrogates and NUL, which databases refuse, become visible escapes."""
    cut = text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + "…"
    return cut.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")
