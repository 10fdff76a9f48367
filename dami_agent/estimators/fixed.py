"""Give the same λ to every query: the static interpolation that every dynamic method has to beat."""

from __future__ import annotations

from dataclasses import dataclass, field

from dami_agent.types import Decision, Engine, Estimate, Intensity, Prompt, require_one


@dataclass(frozen=True, slots=True)
class FixedEstimator:
    """Estimate λ(q) = ``intensity`` for every query.

    Raises:
        InvalidIntensity: if it is not a finite number in [0, 1].
    """

    intensity: Intensity = field(default_factory=lambda: Intensity(1))

    def __post_init__(self) -> None:
        object.__setattr__(self, "intensity", Intensity(self.intensity))
        require_one(self.intensity, "an estimator gives")

    @property
    def name(self) -> str:
        """Return ``fixed``, the name that the ledger records."""
        return "fixed"

    def estimate(self, prompt: Prompt, decision: Decision, engine: Engine) -> Estimate:
        """Return the constant λ; asks the engine nothing."""
        return Estimate(estimator=self.name, intensity=self.intensity)
