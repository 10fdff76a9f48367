"""Hold all that bears on the λ of one attempt, and tell what follows for one λ; :mod:`resolve` chooses by it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from dami_agent.policy.budget_allowance import Allowance
from dami_agent.policy.caps import thought_room
from dami_agent.policy.frontier import Frontier
from dami_agent.policy.history import History
from dami_agent.policy.rules import PolicyFile, Rule
from dami_agent.types import Candidate, Decision, Estimate, Intensity, Limits, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class IntensityQuery:
    """Holds all that bears on the λ of one attempt.

    Attributes:
        frontier: of the pair.
        spec: the policy.
        rule: the one that won; None: none matches.
        step: the call.
        challenge: whether its last user message challenges an answer.
        ceiling: highest λ that the run's budget allows.
        ceiling_reason: why the budget says so; "" if it says nothing.
        answer_intensity: λ that the rule sets for the answer after the thought.
        previous: the decision of the attempt that was rejected before this one.
        why: what was wrong with that attempt.
        redraw: the plan asks for another reply at that attempt's λ.
        final: answer now, whatever is left: no plan.
        widest: limits that a thought gets if it is estimated to need them.
        history: how the steps that this one goes on from were read, where reading them again is to be weighed.
    """

    frontier: Frontier
    spec: PolicyFile
    rule: Rule | None
    step: Step
    challenge: bool = False
    ceiling: float = 1.0
    ceiling_reason: str = ""
    answer_intensity: float | None = None
    previous: Decision | None = None
    why: str = ""
    redraw: bool = False
    final: bool = False
    widest: Limits = Limits()
    history: History | None = None

    def under(self, allowance: Allowance) -> IntensityQuery:
        """Return the query with the ceiling and the room that a budget's allowance leaves."""
        return dataclasses.replace(
            self, ceiling=allowance.ceiling, ceiling_reason=allowance.reason, widest=allowance.widest_reserved
        )

    def room(self, estimate: Estimate | None) -> float:
        """Return the tokens that a thought may have at most, beside a probe that is discarded for it."""
        return thought_room(self.widest, 0 if estimate is None else estimate.tokens)

    def thought(self, estimate: Estimate | None, intensity: Intensity) -> Candidate | None:
        """Return what is known of a thought at λ; None if nothing is, or Instruct's template has none."""
        silent = estimate is None or self.frontier.template(intensity) == "instruct"
        return None if silent or estimate is None else estimate.candidate(intensity)

    def expects(self, estimate: Estimate | None, intensity: Intensity) -> int:
        """Return the tokens that a thought at λ is expected to take; 0 if unknown."""
        thought = self.thought(estimate, intensity)
        return 0 if thought is None else thought.reasoning_tokens

    def need(self, estimate: Estimate | None, intensity: Intensity) -> int:
        """Return the tokens that a thought at λ asks for, so that it is seldom cut short; 0 if unknown."""
        thought = self.thought(estimate, intensity)
        return 0 if thought is None else max(thought.reasoning_tokens, thought.most_reasoning_tokens)

    def fits(self, estimate: Estimate | None, intensity: Intensity) -> bool:
        """Tell whether a thought at λ is expected to have room, as far as is known."""
        return self.expects(estimate, intensity) <= self.room(estimate)

    def not_worth_rereading(self, found: Estimate, value: Intensity, low: float, high: float) -> str:
        """Say why λ stays at that of the step before; "" if it does not.

        It stays where an estimator that knows what both λs are worth finds ``value`` worth more by less than it costs
        to read again at it what was read at the other. At λ=0 nothing is: such estimators read every prompt there.
        Whoever moves estimates by ``accuracy_over_cost`` wants another λ than the one of the best value, so nothing is
        weighed then.

        Args:
            found: what the estimator said.
            value: λ that it leads to, inside the bounds.
            low, high: bounds of λ, those that the room for a thought sets included.
        """
        history = self.history
        if history is None or value in (0, history.intensity) or self.spec.accuracy_over_cost != 0.5:
            return ""
        before, there, here = history.intensity, found.value(history.intensity), found.value(value)
        allowed = low <= before <= high and self.frontier.snap(before) == before and self.fits(found, before)
        if there is None or here is None or not allowed:
            return ""
        tokens = history.reread(value)
        cost = tokens * self.spec.reread_cost * found.token_price
        if not cost or here - there >= cost:
            return ""
        gain = max(0.0, here - there)
        return f"stays at {before:g}, as {value:g} gains {gain:.2g} and reading {tokens} tokens again costs {cost:.2g}"
