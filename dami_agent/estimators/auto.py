"""The estimator where none is named: whatever was measured to be best for the pair, else Instruct's confidence."""

from __future__ import annotations

from dataclasses import dataclass, field

from dami_agent.estimators.confidence import ConfidenceEstimator
from dami_agent.estimators.joint import JointEstimator
from dami_agent.estimators.preference import PreferenceEstimator, kind_of
from dami_agent.types import Decision, Engine, Estimate, Estimator, Prompt, StateReader

__all__ = ["AutoEstimator"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoEstimator:
    """Asks ``joint`` or ``preference`` where their head is the best of the pair's heads for such prompts.

    Best is what pays (:meth:`~dami_agent.estimators.head.Head.pays`) and gains most on fixed λs at equal output tokens.
    Else, and of engines that give no hidden states, it asks ``confidence``. Estimates bear the name of the one asked.
    """

    confidence: ConfidenceEstimator = field(default_factory=ConfidenceEstimator)
    preference: PreferenceEstimator = field(default_factory=PreferenceEstimator)
    joint: JointEstimator = field(default_factory=JointEstimator)

    @property
    def name(self) -> str:
        """Return ``auto``."""
        return "auto"

    def estimate(self, prompt: Prompt, decision: Decision, engine: Engine) -> Estimate:
        """Ask the one of the three that is known to be better for such prompts; see the class."""
        return self.chosen(prompt, engine).estimate(prompt, decision, engine)

    def chosen(self, prompt: Prompt, engine: Engine) -> Estimator:
        """Return the estimator that is asked about such a prompt."""
        from dami_agent.estimators.heads import usable_heads  # imports torch

        heads = usable_heads(engine.info.fingerprint)
        best = heads.best(kind_of(prompt)) if heads is not None else None
        if best is None or best.reads == "probe" or not isinstance(engine, StateReader):
            return self.confidence
        return self.joint if best.reads == "joint" else self.preference
