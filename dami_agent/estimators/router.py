"""Choose between λ=0 and λ=1 alone, as a router between two models does, by what the other estimators know."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from dami_agent.errors import InvalidRequest
from dami_agent.estimators.auto import AutoEstimator
from dami_agent.types import Decision, Engine, Estimate, Estimator, Intensity, Prompt

__all__ = ["RouterEstimator"]

_ENDS = (0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterEstimator:
    """Estimates λ(q) in {0, 1}: Instruct or Thinking, with nothing of what lies between them.

    Where the other estimator goes by a head, the end is taken that the head values more at the same price of tokens,
    the probe's counted in. Where it goes by a rule, the rule decides: λ=0 for a probe that it accepts, else λ=1. It
    spares nothing that a λ in between would have, and so is what such a λ has to beat; on a pair whose middle was
    measured to be bad, it is the choice to make. The two ends belong to every grid.

    Attributes:
        inner: the estimator that is asked, at its cost.

    Raises:
        InvalidRequest: ``inner`` promises a loss: what was tested is its choice among all λs, not that of an end.
    """

    inner: Estimator = field(default_factory=AutoEstimator)

    def __post_init__(self) -> None:
        inner = self.inner
        asked = (inner.confidence, inner.preference, inner.joint) if isinstance(inner, AutoEstimator) else (inner,)
        if any(getattr(each, "risk", None) is not None for each in asked):
            raise InvalidRequest(
                "a router cannot promise a loss: the bound holds for a choice among all λs of the head",
                hint="leave risk= out, or use that estimator itself",
            )

    @property
    def name(self) -> str:
        """Return ``router``, the name that the ledger records."""
        return "router"

    def estimate(self, prompt: Prompt, decision: Decision, engine: Engine) -> Estimate:
        """Ask the other estimator, and take the end that it prefers."""
        found = self.inner.estimate(prompt, decision, engine)
        ends = tuple(each for each in found.candidates if each.intensity in _ENDS)  # the better one first
        chosen = ends[0].intensity if ends else Intensity(1 if found.intensity > Intensity(0) else 0)
        return dataclasses.replace(found, estimator=self.name, intensity=chosen, candidates=ends)
