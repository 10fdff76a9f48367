"""Judge whether a reply is rejected, and whether another attempt may follow; :mod:`resolve` chooses its λ."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dami_agent.errors import CheckFailed
from dami_agent.policy.declared import qualified_name, was_async
from dami_agent.policy.frontier import Frontier
from dami_agent.policy.grid import next_on_grid
from dami_agent.policy.rules import Escalation, Rule
from dami_agent.types import Decision, Reply, Step

Verifier = Callable[[Step, Reply], bool]
"""Whether a reply is good enough; False asks for another attempt with more λ."""


def rejection(spec: Escalation, verifier: Verifier | None, step: Step, reply: Reply) -> str:
    """Say why a reply is not good enough; "" if it is.

    Args:
        spec: what to reject for.
        verifier: the user's own judgement, if any.
        step: the call that was answered.
        reply: its answer.

    Raises:
        CheckFailed: the verifier is async.
    """
    if "invalid_tool_call" in spec.on:
        found = [c.error for c in reply.invalid_tool_calls] + [c.error for c in reply.tool_calls if c.error]
        if found:
            return f"invalid tool call: {found[0]}"
    if "schema_failure" in spec.on and step.check is not None:
        wrong = step.check(reply)
        if wrong:
            return f"schema failure: {wrong}"
    if "verifier" in spec.on and verifier is not None and not _verified(verifier, step, reply):
        return "rejected by the verifier"
    return ""


def _verified(verifier: Verifier, step: Step, reply: Reply) -> bool:
    found: object = verifier(step, reply)
    if was_async(found):
        raise CheckFailed(f"the verifier {qualified_name(verifier)} is async", hint="give a function that is not")
    return bool(found)


def may_retry(frontier: Frontier, decision: Decision, spec: Escalation, rules: Sequence[Rule]) -> bool:
    """Tell whether another attempt is allowed, and λ can still be raised (or a rule is about later attempts).

    Args:
        frontier: of the pair.
        decision: of the attempt that was rejected.
        spec: how many attempts there are.
        rules: all of the policy's.
    """
    if decision.attempt + 1 >= spec.attempts or decision.plan == "self_consistency":
        return False
    return _can_rise(frontier, decision) or any(rule.when.attempt is not None for rule in rules)


def may_redraw(frontier: Frontier, decision: Decision, spec: Escalation) -> bool:
    """Tell whether a call that cannot be read would be asked for once more, although no attempts are set.

    A λ that was asked for as a number or an effort stays, and the reply is drawn anew from another random stream; where
    nothing is drawn (greedy decoding), only another λ gives another reply.
    """
    if not spec.redraws_calls or decision.attempt or decision.plan:
        return False
    return decision.sampling.temperature != 0 or _can_rise(frontier, decision)


def _can_rise(frontier: Frontier, decision: Decision) -> bool:
    """Tell whether a λ of the grid lies above the decision's, within its bounds."""
    high = 1.0 if decision.bounds is None else decision.bounds[1]
    return next_on_grid(frontier, decision.intensity, 1, high) > decision.intensity


def unreadable_call(step: Step, decision: Decision, reply: Reply) -> str:
    """Say what is wrong with a call that cannot be read; "" if there is none, or another draw would not help.

    A cap that cut the call off would cut the next one too; a call that was not allowed is not missed.
    """
    unwanted = step.tool_choice.mode == "none" or decision.tools_disabled
    enough = bool(reply.tool_calls) and not step.parallel_tool_calls
    if not reply.invalid_tool_calls or reply.finish_reason == "length" or unwanted or enough:
        return ""
    return f"invalid tool call: {reply.invalid_tool_calls[0].error}"
