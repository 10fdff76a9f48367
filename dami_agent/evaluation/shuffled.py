"""Assign the same λs to the steps at random, a control that loses only the choice of step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from dami_agent.types import Decision, Engine, Estimate, Intensity, Prompt


@dataclass(slots=True)
class ShuffledEstimator:
    """Control estimator: returns a preassigned sequence of λs cyclically, independent of the prompt."""

    lambdas: Sequence[float]
    given: int = 0

    @property
    def name(self) -> str:
        """Return ``shuffled``."""
        return "shuffled"

    def estimate(self, prompt: Prompt, decision: Decision, engine: Engine) -> Estimate:
        """Return the next λ; costs no tokens."""
        value = self.lambdas[self.given % len(self.lambdas)]
        self.given += 1
        return Estimate(estimator=self.name, intensity=Intensity(value))


def shuffled(lambdas: Sequence[Sequence[float]], seed: int) -> tuple[tuple[float, ...], ...]:
    """Permute the λs over all steps of all tasks at random; every task keeps its number of steps."""
    pool = [value for steps in lambdas for value in steps]
    Random(f"shuffled:{seed}").shuffle(pool)
    assigned: list[tuple[float, ...]] = []
    for steps in lambdas:
        assigned.append(tuple(pool[: len(steps)]) or (0.0,))  # a task that failed before its first step
        del pool[: len(steps)]
    return tuple(assigned)
