"""Step -> decision: what was asked, what the estimator says, what the frontier allows, and the reason in words."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

from dami_agent.policy.frontier import Frontier
from dami_agent.types import Ask, Decision, Estimate, Intensity, Limits, Step

AskEstimator = Callable[[Decision], Estimate]
"""Runs the estimator; the decision it is given is the one a λ=0 call of this step would get (limits, sampling)."""

DEFAULT_ANSWER_RESERVE = 512
"""Tokens of ``max_tokens`` that a thought may not use up, at most half of it."""


class IntensityWarning(UserWarning):
    """A λ that runs as asked although the measurements speak against it."""


class GreedyThinkingWarning(UserWarning):
    """Greedy decoding with a thought: thinking models then tend to repeat themselves without end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningPolicy:
    """Chooses λ, template and limits for each step.

    Precedence of what is asked is settled before (:class:`~dami_agent.types.Ask`); here a number beats an effort name,
    an effort name beats ``"auto"``. Only estimates snap to the frontier's grid.

    Attributes:
        frontier: of the pair in use.
        default: what to do when nothing is asked.
        name: kept in the ledger.
    """

    frontier: Frontier = field(default_factory=Frontier)
    default: Ask = field(default_factory=lambda: Ask(intensity="auto", origin="default"))
    name: str = "default"
    _warned: set[str] = field(default_factory=set, repr=False, compare=False)

    def decide(self, step: Step, attempt: int, ask: AskEstimator) -> Decision:
        """λ, template, limits and reason for one attempt at ``step``; calls ``ask`` only if an estimate is needed."""
        asked = step.ask if step.ask.intensity is not None or step.ask.effort is not None else self.default
        limits = _with_reserve(step.limits)
        base = Decision(
            intensity=Intensity(0),
            template=self.frontier.template(Intensity(0)),
            reason="probe",
            sampling=step.sampling,
            limits=limits,
            attempt=attempt,
            policy=self.name,
        )
        if isinstance(asked.intensity, float):
            return self._settle(base, Intensity(asked.intensity), self._explicit_reason(asked))
        if asked.effort is not None:
            intensity = self.frontier.for_effort(asked.effort)
            return self._settle(base, intensity, f"reasoning_effort={asked.effort} ({asked.origin})")
        estimate = ask(base)
        snapped = self.frontier.snap(estimate.intensity)
        moved = f", snapped from {estimate.intensity:.2f}" if abs(snapped - estimate.intensity) > 5e-3 else ""
        decision = self._settle(base, snapped, f"{estimate.estimator} estimate {snapped:.2f}{moved}")
        return dataclasses.replace(decision, estimate=estimate, requested=None)

    def _explicit_reason(self, asked: Ask) -> str:
        intensity = Intensity(asked.intensity)  # type: ignore[arg-type]  # the caller has checked that it is a float
        reason = f"reasoning_intensity={intensity:g} ({asked.origin})"
        if not self.frontier.in_valley(intensity):
            return reason
        warnings.warn(
            f"reasoning_intensity={intensity:g} lies in the valley of this pair's frontier: another λ is more accurate "
            f"at no more tokens; measured grid: {[float(g) for g in self.frontier.grid]}",
            IntensityWarning,
            stacklevel=2,
        )
        return f"{reason}, in the valley"

    def _settle(self, base: Decision, intensity: Intensity, reason: str) -> Decision:
        if intensity > 0 and base.sampling.temperature == 0 and "greedy" not in self._warned:
            self._warned.add("greedy")
            warnings.warn(
                f"temperature=0 at λ={intensity:g}: thinking models loop under greedy decoding; leave temperature out "
                "for the checkpoint's own (a runaway repetition is cut off either way)",
                GreedyThinkingWarning,
                stacklevel=2,
            )
        template = self.frontier.template(intensity)
        return dataclasses.replace(
            base, intensity=intensity, template=template, reason=reason, requested=float(intensity)
        )


def _with_reserve(limits: Limits) -> Limits:
    """Keep room for the answer, so that a thought cannot eat the whole of ``max_tokens``."""
    if limits.answer_reserve:
        return limits
    half = DEFAULT_ANSWER_RESERVE if limits.max_tokens is None else limits.max_tokens // 2
    return dataclasses.replace(limits, answer_reserve=min(DEFAULT_ANSWER_RESERVE, half))
