"""Another attempt with more λ: when there is one, how deep it is, and what a tool's error has to do with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from dami_agent.policy import depth
from dami_agent.policy.aim import Room, Target, target
from dami_agent.policy.frontier import Frontier
from dami_agent.policy.match import tool_errors
from dami_agent.policy.rules import Escalation, PolicyFile, Rule
from dami_agent.types import Ask, Decision, Reply, Sampling, Step

Verifier = Callable[[Step, Reply], bool]
"""Whether a reply is good enough; False asks for another attempt with more λ."""

_LONGEST_WHY = 200  # characters of a rejection in the next attempt's reason


def again(
    frontier: Frontier, previous: Decision | None, why: str, rule: Rule | None, spec: PolicyFile, space: Room
) -> Target | None:
    """After a rejected attempt: one step up the grid, unless a rule about this attempt says otherwise."""
    if previous is None:
        return None
    if rule is not None and rule.when.attempt is not None and (rule.number is not None or rule.effort is not None):
        return target(frontier, Ask(), rule, spec)
    deeper = depth.raised(frontier, previous.intensity, 1, space.high)
    if spec.escalation.redraws_calls and _must_stay(previous):
        deeper = depth.clamped(previous.intensity, space.low, space.high)
    reason = f"attempt {previous.attempt + 1} after λ={previous.intensity:g}"
    return Target(intensity=deeper, reason=f"{reason}: {why[:_LONGEST_WHY]}" if why else reason)


def after_errors(frontier: Frontier, decision: Decision, step: Step, spec: Escalation, space: Room) -> Decision:
    """One step up the grid for each error in a row that the step's tools report."""
    if "tool_error" not in spec.on or decision.attempt:
        return decision
    errors = min(tool_errors(step.messages), spec.attempts - 1)
    deeper = depth.raised(frontier, decision.intensity, errors, space.high)
    if deeper == decision.intensity:
        return decision
    reason = f"{decision.reason}, {errors} tool error{'s' if errors > 1 else ''} in a row: {deeper:g}"
    return dataclasses.replace(decision, intensity=deeper, reason=reason)


def rejection(spec: Escalation, verifier: Verifier | None, step: Step, reply: Reply) -> str:
    """Why a reply is not good enough; "" if it is."""
    if "invalid_tool_call" in spec.on:
        found = [c.error for c in reply.invalid_tool_calls] + [c.error for c in reply.tool_calls if c.error]
        if found:
            return f"invalid tool call: {found[0]}"
    if "schema_failure" in spec.on and step.check is not None:
        wrong = step.check(reply)
        if wrong:
            return f"schema failure: {wrong}"
    if "verifier" in spec.on and verifier is not None and not verifier(step, reply):
        return "the verifier said no"
    return ""


def may_retry(frontier: Frontier, decision: Decision, spec: Escalation, rules: Sequence[Rule]) -> bool:
    """Whether another attempt is allowed, and λ can still be raised (or a rule is about later attempts)."""
    if decision.attempt + 1 >= spec.attempts:
        return False
    high = 1.0 if decision.bounds is None else decision.bounds[1]
    higher = depth.raised(frontier, decision.intensity, 1, high) > decision.intensity
    return higher or any(rule.when.attempt is not None for rule in rules)


def may_redraw(frontier: Frontier, decision: Decision, spec: Escalation) -> bool:
    """Whether a call that cannot be read would be asked for once more, although no attempts are set.

    A λ that was asked for as a number or an effort stays, and the reply is drawn anew from another random stream; where
    nothing is drawn (greedy decoding), only another λ gives another reply.
    """
    if not spec.redraws_calls or decision.attempt:
        return False
    high = 1.0 if decision.bounds is None else decision.bounds[1]
    return (
        decision.sampling.temperature != 0 or depth.raised(frontier, decision.intensity, 1, high) > decision.intensity
    )


def unreadable_call(step: Step, decision: Decision, reply: Reply) -> str:
    """What is wrong with a call that cannot be read; "" if there is none, or another draw would not help.

    A cap that cut the call off would cut the next one too; a call that was not allowed is not missed.
    """
    unwanted = step.tool_choice.mode == "none" or decision.tools_disabled
    enough = bool(reply.tool_calls) and not step.parallel_tool_calls
    if not reply.invalid_tool_calls or reply.finish_reason == "length" or unwanted or enough:
        return ""
    return f"invalid tool call: {reply.invalid_tool_calls[0].error}"


def redrawn(sampling: Sampling, previous: Decision | None, decision: Decision) -> Sampling:
    """Another random stream for an attempt at the λ of the one before, which would otherwise give the same reply."""
    if previous is None or sampling.seed is None or decision.intensity != previous.intensity:
        return sampling
    return dataclasses.replace(sampling, seed=(sampling.seed + decision.attempt) % 2**63)


def _must_stay(previous: Decision) -> bool:
    """Whether λ was asked for, and another draw at it can differ."""
    return previous.requested is not None and previous.sampling.temperature != 0
