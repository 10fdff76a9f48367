"""Define one attempt at one call, as the ledger gives it back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from dami_agent.types import Intensity

USER_KEYS = ("user_id", "user", "langgraph_auth_user_id", "enduser.id", "user.id")
"""Metadata that names a user: by habit, in LangGraph's platform, and in OpenTelemetry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRow:
    """Holds one attempt at one call, as kept.

    Attributes:
        id: counts up in the order of writing.
        started_at: UTC. All ``*seconds`` are seconds; ``first_token_seconds`` counts from submission.
        asked, asked_by: the depth asked for (``"0.5"``, ``"auto"``, an effort's name) and where that came from.
        intensity_requested, intensity_estimated, intensity: λ as requested, as estimated, as used.
        features: the estimator's numbers.
        messages: how many the prompt held.
        probe_tokens: decoded to estimate and discarded.
        output_tokens: probe, reasoning, answer and discarded ones together.
        scored_tokens: only read, by teacher forcing.
        error_type, error: class and message of what failed; None for a call that did not.
        version: of this package.
        intensity_low, intensity_high: the λs that rules and budgets left; None where nothing bounded it.
        intensity_answer: λ of the answer where it is not the thought's.
        intensity_prompt: λ that the prompt was read at but for its last token, as prompts of all replies are; None: it
            was read at the reply's own.
        rule, considered: the rule that won, if one did; what else was looked at, each with why it did not win.
        charged_to: the tool whose reasoning budget paid, or ``answer``; None in rows of the first release.
        tools_disabled: a budget was used up, so no tool could be called.
        cached_tokens: of the prompt, not computed anew; None in rows of the first release.
        reread_tokens: of the prompt, and of a probe's, computed anew although the engine had them, read at another λ;
            None in older rows.
        fingerprint, frontier: which weights, and which measured table the policy used.
        cost, currency: by the price table; None without one.
        intensity_bounded: λ as requested, or as estimated and moved by ``accuracy_over_cost``, within the bounds.
        intensity_snapped: the measured λ that became of it; None where λ was to run as given. Both None in older rows.
        discarded_tokens: begun at the thought's λ after the thought, where the answer has its own, and discarded; None
            in older rows.
        prompt_text, reasoning_text, answer_text: None unless the user had the ledger keep text. ``prompt_text`` is
            JSON: messages, tools, tool choice, response format.
        run_name, root_run_name: LangChain's names (``run_name``, or a chain's own) of the call's run, and of the run at
            the root of its tree. None in older rows.
        trace_names: of the ``trace(...)`` blocks around the call, the outermost first.
        intensity_modules, intensity_requested_modules, intensity_bounded_modules, intensity_answer_modules: the λ per
            module in canonical form (``"ffn=0.9,other=0.5"``), where it was one; the column of the same name without
            ``_modules`` then holds the largest of its λs.
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
    intensity_low: float | None
    intensity_high: float | None
    intensity_answer: float | None
    rule: str | None
    considered: tuple[str, ...]
    charged_to: str | None
    tools_disabled: bool | None
    cached_tokens: int | None
    fingerprint: str | None
    frontier: str | None
    cost: float | None
    currency: str | None
    prompt_text: str | None
    reasoning_text: str | None
    answer_text: str | None
    intensity_bounded: float | None
    intensity_snapped: float | None
    discarded_tokens: int | None
    run_name: str | None
    root_run_name: str | None
    trace_names: tuple[str, ...]
    intensity_prompt: float | None
    reread_tokens: int | None
    intensity_modules: str | None
    intensity_requested_modules: str | None
    intensity_bounded_modules: str | None
    intensity_answer_modules: str | None

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> CallRow:
        """Build a row from a database's columns by name."""
        fields: dict[str, Any] = dict(values)
        for name in ("tags", "tools_bound", "tools_digested", "tools_called", "considered", "trace_names"):
            fields[name] = tuple(fields[name] or ())
        fields["started_at"] = datetime.fromtimestamp(fields["started_at"], timezone.utc)
        return cls(**fields)

    @property
    def used(self) -> Intensity | None:
        """Return λ as used, one per module where it was so; None if nothing was decided."""
        return None if self.intensity is None else Intensity(self.intensity_modules or self.intensity)

    @property
    def answered(self) -> Intensity | None:
        """Return λ of the answer where it is not the thought's, one per module where it was so; else None."""
        number = self.intensity_answer
        return None if number is None else Intensity(self.intensity_answer_modules or number)

    @property
    def run(self) -> str:
        """Return what this call is counted under: the root of its run tree as far as known, else the call itself."""
        return self.root_run_id or self.parent_run_id or self.run_id or self.call_id

    @property
    def names(self) -> tuple[str, ...]:
        """List the names that the user gave: of traces, of the whole run, of this call; the widest first, each once."""
        given = (*self.trace_names, self.root_run_name, self.run_name)
        return tuple(dict.fromkeys(name for name in given if name))

    @property
    def user(self) -> str | None:
        """Name who asked, if the call's metadata says so under one of ``USER_KEYS``."""
        return next((str(self.metadata[key]) for key in USER_KEYS if self.metadata.get(key) not in (None, "")), None)

    def to_dict(self) -> dict[str, Any]:
        """Convert the row to plain values, ready for JSON; the time as ISO 8601."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        lists = {k: list(v) for k, v in values.items() if isinstance(v, tuple)}
        return values | lists | {"started_at": self.started_at.isoformat()}
