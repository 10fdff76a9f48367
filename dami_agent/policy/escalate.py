"""Another attempt with more λ: when there is one, how deep it is, and what a tool's error has to do with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from dami_agent.policy import depth
from dami_agent.policy.aim import Room, Target, target
from dami_agent.policy.frontier import Frontier
from dami_agent.policy.match import tool_errors
from dami_agent.policy.rules import Escalation, PolicyFile, Rule
from dami_agent.types import Ask, Decision, Reply, Step

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
    reason = f"attempt {previous.attempt + 1} after λ={previous.intensity:g}"
    return Target(intensity=deeper, reason=f"{reason}: {why[:_LONGEST_WHY]}" if why else reason)


def after_errors(frontier: Frontier, decision: Decision, step: Step, spec: Escalation, space: Room) -> Decision:
    """One step up the grid for each error in a row that the step's tools report."""
    if "tool_error" not in spec.on or decision.attempt:
        return decision
    errors = min(tool_errors(step.messages), spec.max_attempts - 1)
    deeper = depth.raised(frontier, decision.intensity, errors, space.high)
    if deeper == decision.intensity:
        return decision
    reason = f"{decision.reason}, {errors} tool error{'s' if errors > 1 else ''} in a row: {deeper:g}"
    return dataclasses.replace(decision, intensity=deeper, reason=reason)


def rejection(spec: Escalation, verifier: Verifier | None, step: Step, reply: Reply) -> str:
    """Why a reply is not good enough; "" if it is."""
    if "invalid_tool_call" in spec.on and reply.invalid_tool_calls:
        return f"invalid tool call: {reply.invalid_tool_calls[0].error}"
    if "schema_failure" in spec.on and step.check is not None:
        wrong = step.check(reply)
        if wrong:
            return f"schema failure: {wrong}"
    if "verifier" in spec.on and verifier is not None and not verifier(step, reply):
        return "the verifier said no"
    return ""


def may_retry(frontier: Frontier, decision: Decision, spec: Escalation, rules: Sequence[Rule]) -> bool:
    """Whether another attempt is allowed, and λ can still be raised (or a rule is about later attempts)."""
    if decision.attempt + 1 >= spec.max_attempts:
        return False
    high = 1.0 if decision.bounds is None else decision.bounds[1]
    higher = depth.raised(frontier, decision.intensity, 1, high) > decision.intensity
    return higher or any(rule.when.attempt is not None for rule in rules)
