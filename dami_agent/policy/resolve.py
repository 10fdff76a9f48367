"""Choose λ: :func:`resolve` reads from top to bottom, and what it calls stands below it in that order.

The winning rule and the budget's allowance are known before. Who beats whom is written down at
:class:`~dami_agent.policy.ReasoningPolicy`. All functions are pure but for the estimator, which is asked at most once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from dami_agent.errors import InvalidRequest
from dami_agent.policy.cautions import warn_of_valley
from dami_agent.policy.frontier import Frontier
from dami_agent.policy.grid import apply_cost_preference, clamp, next_on_grid, snap_within
from dami_agent.policy.intensity_query import IntensityQuery
from dami_agent.policy.match import level, tool_errors
from dami_agent.policy.plans import Cascade
from dami_agent.policy.rules import PolicyFile, Rule, Settings
from dami_agent.types import Decision, Estimate, Intensity, IntensityRequest, Sampling

EstimateFn = Callable[[Decision], Estimate]
"""Runs the estimator that the decision names; the rest of it is what a λ=0 call of this step would get."""

CHALLENGE_EFFORT = "high"
"""A challenged answer is reconsidered with at least this effort."""

_LONGEST_WHY = 200  # characters of a rejection in the next attempt's reason


@dataclass(frozen=True, slots=True, kw_only=True)
class IntensityBounds:
    """Holds the range that λ must stay in, what set it, and what to say about it."""

    low: float = 0.0
    high: float = 1.0
    by: str = ""
    notes: tuple[str, ...] = ()

    @property
    def pinned(self) -> bool:
        """Tell whether only one λ is left."""
        return self.low >= self.high

    @property
    def pair(self) -> tuple[float, float] | None:
        """Return ``(low, high)`` as the decision keeps it: None for all of [0, 1]."""
        return None if (self.low, self.high) == (0, 1) else (self.low, self.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Holds the λ that was asked for, before bounds, and why; ``intensity`` None leaves it to the estimator.

    ``number``: someone wrote down this very λ.
    """

    intensity: Intensity | None = None
    reason: str = ""
    number: bool = False


def resolve(query: IntensityQuery, base: Decision, estimate: EstimateFn) -> Decision:
    """Choose λ for one attempt.

    Args:
        query: all that bears on it.
        base: the decision so far: limits, sampling, the rule that won.
        estimate: runs the estimator; called only where its answer can matter.

    Returns:
        ``base`` with λ, template, bounds, random stream and the reason in words.
    """
    frontier = query.frontier
    # 1. Bounds: the rule's, a challenged answer's floor, the budget's ceiling.
    bounds = bounds_for(query)
    decision = dataclasses.replace(base, bounds=bounds.pair)
    # 2. Target: a step deeper after a rejected attempt; else what caller, rule or default ask for, or a cascade begins.
    target = retry_target(query, bounds) or requested_target(
        frontier, query.step.intensity_request, query.rule, query.spec
    )
    decision = planned(query, decision, target, bounds)
    if decision.plan == "cascade" and query.previous is None:
        target = first_rung(query.spec.cascade, decision)
    # 3. λ: the target inside the bounds, or the estimate, moved by accuracy_over_cost and snapped to the grid.
    decision = resolve_intensity(query, decision, target, bounds, estimate)
    # 4. Deeper where the step's tools have failed.
    decision = raise_after_tool_errors(query, decision, bounds)
    # 5. A repeated λ draws from another random stream; the answer may have a λ of its own.
    decision = dataclasses.replace(decision, sampling=redrawn(decision.sampling, query.previous, decision))
    if query.answer_intensity is not None:
        own = clamp(query.answer_intensity, 0, query.ceiling)
        decision = dataclasses.replace(decision, answer_intensity=own if own != decision.intensity else None)
    # 6. Template and the whole reason.
    reason = [decision.reason]
    if target.number and target.intensity == decision.intensity and frontier.in_valley(decision.intensity):
        warn_of_valley(decision.intensity, frontier)
        reason[0] += ", in the valley"
    if decision.rule and f"rule {decision.rule}" not in decision.reason:
        reason.append(f"rule {decision.rule}")
    return dataclasses.replace(
        decision, template=frontier.template(decision.intensity), reason="; ".join([*reason, *bounds.notes])
    )


# ---- 1. bounds --------------------------------------------------------------------------------------------------


def bounds_for(query: IntensityQuery) -> IntensityBounds:
    """Bound λ, in this order: by the rule (or the default), a challenged answer's floor, the budget's ceiling."""
    frontier, rule, spec = query.frontier, query.rule, query.spec
    low, high, by, notes = 0.0, 1.0, "", []
    silent = rule is None or (rule.intensity is None and rule.effort is None)
    source = spec.default if silent else rule
    if source is not None and source.bounds is not None:
        low, high = (level(end, frontier) for end in source.bounds)
        low, by = min(low, high), "policy default" if silent or rule is None else f"rule {rule.name}"
    challenged = query.challenge and spec.challenge and not is_explicit(query.step.intensity_request)
    if challenged and (rule is None or rule.when.challenge is None):
        floor = min(high, float(frontier.for_effort(CHALLENGE_EFFORT)))
        if floor > low:
            low = floor
            notes.append(f"the user challenges the answer: at least {floor:g}")
    # Saving must not lead into a valley: the ceiling is one of the grid's λs.
    ceiling = max((g for g in frontier.grid if g <= query.ceiling), default=query.ceiling)
    if ceiling < high:
        high, low = ceiling, min(low, ceiling)
        by = "budget"
    if query.ceiling_reason:
        notes.append(f"budget: {query.ceiling_reason}")
    return IntensityBounds(low=low, high=high, by=by, notes=tuple(notes))


def is_explicit(asked: IntensityRequest) -> bool:
    """Tell whether the caller named a λ or an effort."""
    return isinstance(asked.intensity, float) or (asked.effort is not None)


# ---- 2. target --------------------------------------------------------------------------------------------------


def retry_target(query: IntensityQuery, bounds: IntensityBounds) -> Target | None:
    """Aim one step up the grid after a rejected attempt, unless a rule about this attempt says otherwise."""
    previous, rule = query.previous, query.rule
    if previous is None:
        return None
    if previous.plan and not query.final:
        return planned_target(query, previous, bounds)
    if rule is not None and rule.when.attempt is not None and (rule.number is not None or rule.effort is not None):
        return requested_target(query.frontier, IntensityRequest(), rule, query.spec)
    high = bounds.high if previous.estimate is None else bounds_in_room(query, previous.estimate, bounds).high
    deeper = next_on_grid(query.frontier, previous.intensity, 1, high)
    # An explicit λ stays where another random stream can give another reply.
    if query.spec.escalation.redraws_calls and previous.requested is not None and previous.sampling.temperature != 0:
        deeper = clamp(previous.intensity, bounds.low, bounds.high)
    reason = f"attempt {previous.attempt + 1} after λ={previous.intensity:g}"
    return Target(intensity=deeper, reason=f"{reason}: {query.why[:_LONGEST_WHY]}" if query.why else reason)


def requested_target(frontier: Frontier, asked: IntensityRequest, rule: Rule | None, spec: PolicyFile) -> Target:
    """Find who asks for a λ: the caller's number or effort, then the rule, the caller's ``auto``, the default.

    Args:
        frontier: turns an effort's name into λ.
        asked: by the caller.
        rule: the one that won.
        spec: holds the default.

    Returns:
        The λ asked for, or a target without one: then it is to be estimated.
    """
    if isinstance(asked.intensity, float):
        number = Intensity(asked.intensity)
        return Target(intensity=number, reason=f"reasoning_intensity={number:g} ({asked.origin})", number=True)
    if asked.effort is not None:
        return Target(
            intensity=frontier.for_effort(asked.effort), reason=f"reasoning_effort={asked.effort} ({asked.origin})"
        )
    if rule is not None:
        found = _target_of(frontier, rule, f"rule {rule.name}")
        if found is not None or rule.intensity == "auto":
            return found or Target()
    if asked.intensity == "auto":
        return Target()
    return _target_of(frontier, spec.default, "policy default") or Target()


def _target_of(frontier: Frontier, settings: Settings, origin: str) -> Target | None:
    if settings.number is not None:
        return Target(intensity=settings.number, reason=f"intensity={settings.number:g} ({origin})", number=True)
    if settings.effort is not None:
        return Target(intensity=frontier.for_effort(settings.effort), reason=f"effort={settings.effort} ({origin})")
    return None


def planned(query: IntensityQuery, base: Decision, target: Target, bounds: IntensityBounds) -> Decision:
    """Complete ``base`` with the plan that the attempt belongs to, if any; a final answer belongs to none.

    A cascade begins where λ is left open and more than one of its λs is allowed; a rule's own estimator goes before
    it. Votes need replies that are drawn: greedy decoding would give the same one again.

    Raises:
        InvalidRequest: the cascade is to compare two replies, and the caller wants greedy decoding.
    """
    spec, previous = query.spec, query.previous
    if query.final or base.tools_disabled:
        return base
    drawn, sampling = base.sampling.temperature != 0, base.sampling
    if sampling.logprobs is None:  # a reply is judged, and a vote's tie decided, by them
        sampling = dataclasses.replace(sampling, logprobs=0)
    if previous is not None:
        again = query.redraw and previous.plan
        sample = base.attempt if previous.plan == "self_consistency" else previous.sample + 1 if again else 0
        return dataclasses.replace(
            base, plan=previous.plan, sample=sample, sampling=sampling if previous.plan else base.sampling
        )
    if spec.self_consistency is not None:
        return dataclasses.replace(base, plan="self_consistency", sampling=sampling) if drawn else base
    own = query.rule is not None and query.rule.estimator is not None
    if spec.cascade is None or own or target.intensity is not None or len(spec.cascade.rungs(bounds.pair)) < 2:
        return base
    if spec.cascade.check == "agreement" and not drawn:
        raise InvalidRequest(
            "the policy's cascade compares two replies, and temperature=0 draws the same one twice",
            hint="leave temperature out, or let the cascade check by confidence",
        )
    return dataclasses.replace(base, plan="cascade", sampling=sampling)


def first_rung(cascade: Cascade | None, decision: Decision) -> Target:
    """Aim at a cascade's first λ."""
    assert cascade is not None  # it was planned
    rungs = cascade.rungs(decision.bounds)
    return Target(intensity=rungs[0], reason=f"cascade {' → '.join(f'{each:g}' for each in rungs)}: first")


def planned_target(query: IntensityQuery, previous: Decision, bounds: IntensityBounds) -> Target:
    """Aim at the λ of a plan's next reply: the same once more, or the next one of a cascade, else of the grid."""
    why = f": {query.why[:_LONGEST_WHY]}" if query.why else ""
    if previous.plan == "self_consistency":
        return Target(intensity=previous.intensity, reason=f"another sample at λ={previous.intensity:g}{why}")
    reason = f"attempt {previous.attempt + 1} after λ={previous.intensity:g}{why}"
    if query.redraw:
        return Target(intensity=previous.intensity, reason=reason)
    above = query.spec.cascade.above(previous) if query.spec.cascade is not None else None
    if above is None:
        above = next_on_grid(query.frontier, previous.intensity, 1, bounds.high)
    return Target(intensity=above, reason=reason)


# ---- 3. λ -------------------------------------------------------------------------------------------------------


def resolve_intensity(
    query: IntensityQuery, base: Decision, target: Target, bounds: IntensityBounds, estimate: EstimateFn
) -> Decision:
    """Turn the target, or the estimator's λ where there is none, into a λ inside the bounds.

    Args:
        query: holds the frontier and ``accuracy_over_cost``.
        base: completed with λ, how it came about, and the reason.
        target: what was asked for.
        bounds: what λ must stay in.
        estimate: called only where its answer can matter.
    """
    frontier, preference = query.frontier, query.spec.accuracy_over_cost
    # A λ that somebody asked for is never snapped, only clamped.
    if target.intensity is not None:
        value = clamp(target.intensity, bounds.low, bounds.high)
        moved = f", {bounds.by or 'bounds'}: {value:g}" if value != target.intensity else ""
        return dataclasses.replace(
            base, intensity=value, requested=target.intensity, bounded=value, reason=target.reason + moved
        )
    # No estimate where it could change nothing.
    if bounds.pinned or preference in (0.0, 1.0):
        value = snap_within(frontier, preference, bounds.low, bounds.high)
        reason = f"only {value:g} is allowed ({bounds.by})" if bounds.pinned else f"accuracy_over_cost={preference:g}"
        return _snapped(frontier, base, preference, bounds, reason)
    found = estimate(base)
    bounds = bounds_in_room(query, found, bounds)
    if found.note:
        reason = f"{found.estimator} passed over: {found.note}"
        return dataclasses.replace(_snapped(frontier, base, found.intensity, bounds, reason), estimate=found)
    # The estimate, or the best λ whose thought fits, moved along the grid by the preference, snapped within bounds.
    fitting = (each.intensity for each in found.candidates if query.fits(found, each.intensity))
    wanted = found.intensity if query.fits(found, found.intensity) else next(fitting, Intensity(0))
    preferred = apply_cost_preference(frontier, wanted, preference)
    free, plain = snap_within(frontier, preferred, 0, 1), frontier.snap(wanted)
    value = snap_within(frontier, preferred, bounds.low, bounds.high)
    moved = f", snapped from {wanted:.2f}" if abs(plain - wanted) > 5e-3 else ""
    reason = f"{found.estimator} estimate {plain:.2f}{moved}"
    if wanted != found.intensity:
        needed = f"a thought at {found.intensity:g} takes about {query.expects(found, found.intensity)} tokens"
        reason += f" ({needed}, there is room for {query.room(found):.0f})"
    if free != plain:
        reason += f", accuracy_over_cost={preference:g}: {free:g}"
    if value != free:
        reason += f", {bounds.by or 'bounds'}: {value:g}"
    # The λ of the step before, where another is not worth reading the history again.
    if query.history is not None and (why := query.not_worth_rereading(found, value, bounds.low, bounds.high)):
        preferred, reason = query.history.intensity, f"{reason}; {why}"
    return dataclasses.replace(_snapped(frontier, base, preferred, bounds, reason), estimate=found)


def bounds_in_room(query: IntensityQuery, found: Estimate, bounds: IntensityBounds) -> IntensityBounds:
    """Lower the upper bound to the highest λ whose thought fits; a rule's lower bound stands.

    What fits is told by the grid and by the λs that the estimator looked at; 0 always does.
    """
    known = {*query.frontier.grid, *(each.intensity for each in found.candidates)}
    if all(query.fits(found, value) for value in known if value <= bounds.high):
        return bounds
    highest = max((value for value in known if value <= bounds.high and query.fits(found, value)), default=0.0)
    return dataclasses.replace(bounds, high=max(bounds.low, highest), by="room for a thought")


def _snapped(frontier: Frontier, base: Decision, wanted: float, bounds: IntensityBounds, reason: str) -> Decision:
    """Complete ``base`` with the grid's λ nearest to ``wanted`` between the bounds, and the way there."""
    value = snap_within(frontier, wanted, bounds.low, bounds.high)
    bounded = clamp(wanted, bounds.low, bounds.high)
    snapped = value if value in frontier.grid else None
    return dataclasses.replace(base, intensity=value, bounded=bounded, snapped=snapped, reason=reason)


# ---- 4. and 5.: after errors, and another draw ------------------------------------------------------------------


def raise_after_tool_errors(query: IntensityQuery, decision: Decision, bounds: IntensityBounds) -> Decision:
    """Raise λ by one step of the grid for each error in a row that the step's tools report."""
    escalation = query.spec.escalation
    if "tool_error" not in escalation.on or decision.attempt:
        return decision
    if decision.estimate is not None:
        bounds = bounds_in_room(query, decision.estimate, bounds)
    errors = min(tool_errors(query.step.messages), escalation.attempts - 1)
    deeper = next_on_grid(query.frontier, decision.intensity, errors, bounds.high)
    if deeper == decision.intensity:
        return decision
    reason = f"{decision.reason}, {errors} tool error{'s' if errors > 1 else ''} in a row: {deeper:g}"
    return dataclasses.replace(decision, intensity=deeper, reason=reason)


def redrawn(sampling: Sampling, previous: Decision | None, decision: Decision) -> Sampling:
    """Seed another random stream for an attempt at the λ of the one before, which would give the same reply again."""
    if previous is None or sampling.seed is None or decision.intensity != previous.intensity:
        return sampling
    return dataclasses.replace(sampling, seed=(sampling.seed + decision.attempt) % 2**63)
