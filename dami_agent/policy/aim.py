"""From what was asked, the winning rule and the bounds to λ; see :class:`ReasoningPolicy` for who beats whom."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from dami_agent.policy import depth
from dami_agent.policy.frontier import Frontier
from dami_agent.policy.match import level
from dami_agent.policy.rules import PolicyFile, Rule, Settings
from dami_agent.types import Ask, Decision, Estimate, Intensity, Limits

Number = TypeVar("Number", int, float)
AskEstimator = Callable[[Decision], Estimate]
"""Runs the estimator that the decision names; the rest of it is what a λ=0 call of this step would get."""

DEFAULT_ANSWER_RESERVE = 512
"""Tokens of ``max_tokens`` that a thought may not use up, at most half of it."""

CHALLENGE_EFFORT = "high"
"""A doubted answer is thought over with at least this effort."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What λ is aimed at before bounds, and why; ``intensity`` None is the estimator's.

    ``number``: someone wrote down this very λ.
    """

    intensity: Intensity | None = None
    reason: str = ""
    number: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """The bounds of λ, what set them, and what to say about it."""

    low: float = 0.0
    high: float = 1.0
    by: str = ""
    notes: tuple[str, ...] = ()

    @property
    def pinned(self) -> bool:
        """Whether only one λ is left."""
        return self.low >= self.high

    @property
    def bounds(self) -> tuple[float, float] | None:
        """For the decision: None for all of [0, 1]."""
        return None if (self.low, self.high) == (0, 1) else (self.low, self.high)


def settings_of(ask: Ask) -> Settings:
    """A default given as what a caller would ask."""
    return Settings.model_validate({"intensity": ask.intensity, **({"effort": ask.effort} if ask.effort else {})})


def with_default(rule: Rule | None, default: Settings) -> Settings:
    """Caps, estimator and λ of the answer: the rule's, where it leaves one out the default's."""
    if rule is None:
        return default
    names = ("answer_intensity", "estimator", "max_reasoning_tokens", "max_tokens", "deadline")
    own = {name: getattr(rule, name) for name in names if getattr(rule, name) is not None}
    return default.model_copy(update=own)


def tightened(limits: Limits, settings: Settings) -> Limits:
    """The caller's limits under the rule's caps; the smaller of the two."""
    most = _least(limits.max_tokens, settings.max_tokens)
    return dataclasses.replace(
        limits,
        max_tokens=most,
        max_tokens_by="" if most is None else "caller" if most == limits.max_tokens else "policy",
        max_reasoning_tokens=_least(limits.max_reasoning_tokens, settings.max_reasoning_tokens),
        deadline=_least(limits.deadline, settings.deadline),
    )


def capped(limits: Limits, frontier: Frontier, room: int | None) -> Limits:
    """A cap where nobody set one: what the pair never comes near, or what the context window leaves if that is less."""
    limit = frontier.reply_limit
    if limits.max_tokens is not None:
        return limits
    if room is not None and 0 < room < (math.inf if limit is None else limit):
        return dataclasses.replace(limits, max_tokens=room, max_tokens_by="window")
    return dataclasses.replace(limits, max_tokens=limit, max_tokens_by="" if limit is None else "frontier")


def with_reserve(limits: Limits, least: int = 0) -> Limits:
    """Keep room for the answer, so that a thought cannot eat the whole of ``max_tokens``; ``least`` is a budget's."""
    half = DEFAULT_ANSWER_RESERVE if limits.max_tokens is None else limits.max_tokens // 2
    own = limits.answer_reserve or min(DEFAULT_ANSWER_RESERVE, half)
    return dataclasses.replace(limits, answer_reserve=max(own, least))


def _least(one: Number | None, other: Number | None) -> Number | None:
    given = [value for value in (one, other) if value is not None]
    return min(given) if given else None


def explicit(asked: Ask) -> bool:
    """Whether the caller named a λ or an effort."""
    return isinstance(asked.intensity, float) or (asked.effort is not None)


def room(frontier: Frontier, rule: Rule | None, spec: PolicyFile, ceiling: float, why: str, doubted: bool) -> Room:
    """Bounds in their order: the rule's (or the default's), a doubted answer's floor, the budget's ceiling."""
    low, high, by, notes = 0.0, 1.0, "", []
    silent = rule is None or (rule.intensity is None and rule.effort is None)
    source = spec.default if silent else rule
    if source is not None and source.bounds is not None:
        low, high = (level(end, frontier) for end in source.bounds)
        low, by = min(low, high), "policy default" if silent or rule is None else f"rule {rule.name}"
    if doubted and spec.challenge and (rule is None or rule.when.challenge is None):
        floor = min(high, float(frontier.for_effort(CHALLENGE_EFFORT)))
        if floor > low:
            low = floor
            notes.append(f"the user doubts the answer: at least {floor:g}")
    ceiling = max((g for g in frontier.grid if g <= ceiling), default=ceiling)  # saving must not lead into a valley
    if ceiling < high:
        high, low = ceiling, min(low, ceiling)
        by = "budget"
    if why:
        notes.append(f"budget: {why}")
    return Room(low=low, high=high, by=by, notes=tuple(notes))


def target(frontier: Frontier, asked: Ask, rule: Rule | None, spec: PolicyFile) -> Target:
    """Caller's number or effort, else the rule's, else the caller's ``auto``, else the default's, else an estimate."""
    if isinstance(asked.intensity, float):
        number = Intensity(asked.intensity)
        return Target(intensity=number, reason=f"reasoning_intensity={number:g} ({asked.origin})", number=True)
    if asked.effort is not None:
        return Target(
            intensity=frontier.for_effort(asked.effort), reason=f"reasoning_effort={asked.effort} ({asked.origin})"
        )
    if rule is not None:
        found = _of_settings(frontier, rule, f"rule {rule.name}")
        if found is not None or rule.intensity == "auto":
            return found or Target()
    if asked.intensity == "auto":
        return Target()
    return _of_settings(frontier, spec.default, "policy default") or Target()


def _of_settings(frontier: Frontier, settings: Settings, origin: str) -> Target | None:
    if settings.number is not None:
        return Target(intensity=settings.number, reason=f"intensity={settings.number:g} ({origin})", number=True)
    if settings.effort is not None:
        return Target(intensity=frontier.for_effort(settings.effort), reason=f"effort={settings.effort} ({origin})")
    return None


def aimed(frontier: Frontier, base: Decision, wanted: Target, space: Room, ask: AskEstimator, knob: float) -> Decision:
    """``base`` with λ inside ``space``; asks the estimator only where its answer can matter."""
    if wanted.intensity is not None:
        value = depth.clamped(wanted.intensity, space.low, space.high)
        moved = f", {space.by or 'bounds'}: {value:g}" if value != wanted.intensity else ""
        requested = float(wanted.intensity)
        reason = wanted.reason + moved
        return dataclasses.replace(base, intensity=value, requested=requested, bounded=value, reason=reason)
    if space.pinned or knob in (0.0, 1.0):
        value = depth.within(frontier, knob, space.low, space.high)
        reason = f"only {value:g} is allowed ({space.by})" if space.pinned else f"accuracy_over_cost={knob:g}"
        return _snapped(frontier, base, knob, space, reason)
    estimate = ask(base)
    if estimate.note:
        reason = f"{estimate.estimator} passed over: {estimate.note}"
        return dataclasses.replace(_snapped(frontier, base, estimate.intensity, space, reason), estimate=estimate)
    pushed = depth.shifted(frontier, estimate.intensity, knob)
    value = depth.within(frontier, pushed, space.low, space.high)
    plain = frontier.snap(estimate.intensity)
    moved = f", snapped from {estimate.intensity:.2f}" if abs(plain - estimate.intensity) > 5e-3 else ""
    reason = f"{estimate.estimator} estimate {plain:.2f}{moved}"
    if depth.within(frontier, pushed, 0, 1) != plain:
        reason += f", accuracy_over_cost={knob:g}: {depth.within(frontier, pushed, 0, 1):g}"
    if value != depth.within(frontier, pushed, 0, 1):
        reason += f", {space.by or 'bounds'}: {value:g}"
    return dataclasses.replace(_snapped(frontier, base, pushed, space, reason), estimate=estimate)


def _snapped(frontier: Frontier, base: Decision, wanted: float, space: Room, reason: str) -> Decision:
    """``base`` with the grid's λ nearest to ``wanted`` between the bounds, and the way there."""
    value = depth.within(frontier, wanted, space.low, space.high)
    bounded = depth.clamped(wanted, space.low, space.high)
    snapped = value if value in frontier.grid else None
    return dataclasses.replace(base, intensity=value, bounded=bounded, snapped=snapped, reason=reason)


def after_probe(decision: Decision) -> Decision:
    """Under a budget a probe that is not carried on is paid from what was set aside for this attempt."""
    estimate, limits = decision.estimate, decision.limits
    if estimate is None or estimate.tokens == 0:
        return decision
    probe, prompt = estimate.probe, estimate.probe_prompt
    if probe is not None and prompt is not None:
        if (probe.intensity, prompt.template) == (decision.intensity, decision.template):
            return decision
        room = math.inf if limits.max_tokens is None else limits.max_tokens - estimate.tokens - limits.answer_reserve
        if room < estimate.tokens:  # a thought shorter than the probe is not worth throwing the probe away
            reason = f"{decision.reason}; the budget ends with the probe"
            return dataclasses.replace(decision, intensity=probe.intensity, template=prompt.template, reason=reason)
    thought = 0 if probe is None else sum(event.part == "reasoning" for event in probe.events)
    left = dataclasses.replace(
        limits,
        max_tokens=_less(limits.max_tokens, estimate.tokens, 1),
        max_reasoning_tokens=_less(limits.max_reasoning_tokens, thought, 0),
        deadline=_less(limits.deadline, estimate.seconds, 1e-3),
    )
    return dataclasses.replace(decision, limits=left)


def _less(limit: Number | None, used: Number, least: Number) -> Number | None:
    return None if limit is None else max(least, limit - used)
