"""Ask the head on the prompt's hidden states first, and probe only where that head is unsure.

Reading the prompt costs no output token; a probe costs up to 32 unless it becomes the answer. A head is **unsure**
where its two best λs are worth nearly the same,

    margin = value(best λ) − value(second best λ) < threshold,      value = P(right | λ) − price · tokens(λ)

since then a little more knowledge of the query may turn its choice, while elsewhere it hardly can. Cascades of models
call this deferral by margin; :class:`~dami_agent.estimators.AutoEstimator` in contrast asks one estimator for all
prompts.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

from dami_agent.errors import InvalidRequest
from dami_agent.estimators.confidence import ConfidenceEstimator
from dami_agent.estimators.joint import JointEstimator
from dami_agent.estimators.preference import PreferenceEstimator
from dami_agent.types import Decision, Engine, Estimate, Estimator, Prompt

__all__ = ["StagedEstimator"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedEstimator:
    """Estimates λ(q) by a head on hidden states, and with a probe as well where that head's two best λs are close.

    A probe is judged together with the states where the pair has a head on both, else by itself.
    The ledger's features are those of the one that decided, ``margin``, ``probed`` (0 or 1), and, where it was probed,
    what the head had said under ``head_…``. A probe's tokens are counted as those of ``confidence`` are.

    Attributes:
        margin: threshold on the difference of the two best values, in shares of a right reply: 0 never probes, 1
            nearly always does.
        preference: the head's estimator.
        joint: the one that judges probe and states together, where the pair has a head for it; None: one with the
            settings of ``preference``.
        confidence: the one that judges the probe alone.

    Raises:
        InvalidRequest: a margin that is no finite number in [0, 1]; or one of them promises a loss: what was tested is
            its choice alone.
    """

    margin: float = 0.005
    preference: PreferenceEstimator = field(default_factory=PreferenceEstimator)
    joint: JointEstimator | None = None
    confidence: ConfidenceEstimator = field(default_factory=ConfidenceEstimator)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.margin) and 0 <= self.margin <= 1):
            raise InvalidRequest(f"margin must be a finite number in [0, 1], got {self.margin!r}")
        if any(getattr(each, "risk", None) is not None for each in (self.preference, self.joint, self.confidence)):
            raise InvalidRequest(
                "estimators in turn cannot promise a loss: the bound holds for the choice of one of them",
                hint="leave risk= out, or use that estimator itself",
            )

    @property
    def name(self) -> str:
        """Return ``staged``, the name that the ledger records."""
        return "staged"

    def estimate(self, prompt: Prompt, decision: Decision, engine: Engine) -> Estimate:
        """Ask the head; where it is unsure, probe as well and take what the probe leads to.

        Raises:
            InvalidRequest: there is no head on hidden states for this pair, or the engine gives no hidden states.
        """
        head = self.preference.estimate(prompt, decision, engine)
        best, second = (each.value or 0.0 for each in head.candidates[:2])
        told = {"margin": best - second, "probed": 0.0}
        if told["margin"] >= self.margin:
            return dataclasses.replace(head, estimator=self.name, features={**head.features, **told})
        probed = self._second(prompt, engine).estimate(prompt, decision, engine)
        before = {f"head_{name}": value for name, value in head.features.items()}
        return dataclasses.replace(
            probed,
            estimator=self.name,
            features={**probed.features, **told, "probed": 1.0, "head_intensity": float(head.intensity), **before},
            scored_tokens=head.scored_tokens + probed.scored_tokens,
            seconds=head.seconds + probed.seconds,
        )

    def _second(self, prompt: Prompt, engine: Engine) -> Estimator:
        """Return who judges the probe."""
        first = self.preference
        joint = self.joint or JointEstimator(heads=first.heads, max_loss=first.max_loss, price=first.price)
        return joint if joint.knows(prompt, engine) else self.confidence
