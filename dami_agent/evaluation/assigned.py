"""Estimators of the controls: λs that were fixed beforehand, step by step, and the two-way router.

What a per-step λ is worth shows only beside selectors that cost as much and know less: the same λs shuffled over the
steps, λs drawn at random from the same histogram, and a choice between the two ends alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from dami_agent.estimators import AutoEstimator
from dami_agent.types import Decision, Engine, Estimate, Estimator, Intensity, Prompt

Lambdas = tuple[tuple[float, ...], ...]
"""Per task the λs of its steps, in order."""


@dataclass(slots=True)
class AssignedEstimator:
    """Return a preassigned sequence of λs, independent of the prompt, at no cost; the last one again after its end."""

    lambdas: Sequence[float]
    given: int = 0

    @property
    def name(self) -> str:
        """Return ``assigned``."""
        return "assigned"

    def estimate(self, prompt: Prompt, decision: Decision, engine: Engine) -> Estimate:
        """Return the next λ; costs no tokens."""
        value = self.lambdas[min(self.given, len(self.lambdas) - 1)]
        self.given += 1
        return Estimate(estimator=self.name, intensity=Intensity(value))


@dataclass(frozen=True, slots=True)
class TwoWayRouter:
    """Choose between λ=0 and λ=1 alone: Thinking wherever the other estimator asks for any thought.

    The control that published tables hold; :class:`~dami_agent.estimators.RouterEstimator` weighs the ends instead.
    """

    inner: Estimator = field(default_factory=AutoEstimator)

    @property
    def name(self) -> str:
        """Return ``router``."""
        return "router"

    def estimate(self, prompt: Prompt, decision: Decision, engine: Engine) -> Estimate:
        """Ask the other estimator, at its cost, and round up."""
        found = self.inner.estimate(prompt, decision, engine)
        return dataclasses.replace(found, intensity=Intensity(1 if found.intensity > Intensity(0) else 0))


def shuffled(lambdas: Sequence[Sequence[float]], seed: int) -> Lambdas:
    """Permute the λs over all steps of all tasks at random; every task keeps its number of steps."""
    pool = [value for steps in lambdas for value in steps]
    Random(f"shuffled:{seed}").shuffle(pool)
    assigned: list[tuple[float, ...]] = []
    for steps in lambdas:
        assigned.append(tuple(pool[: len(steps)]) or (0.0,))  # a task that failed before its first step
        del pool[: len(steps)]
    return tuple(assigned)


def redrawn(lambdas: Sequence[Sequence[float]], seed: int, steps: int) -> Lambdas:
    """Draw ``steps`` λs for every task from the histogram of all, with replacement."""
    pool = [value for own in lambdas for value in own] or [0.0]
    rng = Random(f"redrawn:{seed}")
    return tuple(tuple(rng.choice(pool) for _ in range(steps)) for _ in lambdas)
