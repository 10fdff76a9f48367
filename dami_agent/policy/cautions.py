"""Warn of a λ that runs as asked, although something speaks against it."""

from __future__ import annotations

import warnings

from dami_agent.policy.frontier import Frontier
from dami_agent.types import Intensity


class IntensityWarning(UserWarning):
    """A λ that runs as asked although the measurements speak against it."""


class GreedyThinkingWarning(UserWarning):
    """Greedy decoding with a thought: thinking models then tend to repeat themselves without end."""


def warn_of_valley(intensity: Intensity, frontier: Frontier) -> None:
    """Warn that another λ is more accurate at no more tokens; shown at the caller of ``ReasoningPolicy.decide``."""
    warnings.warn(
        f"λ={intensity:g} lies in the valley of this pair's frontier: another λ is more accurate "
        f"at no more tokens; measured grid: {[float(g) for g in frontier.grid]}",
        IntensityWarning,
        stacklevel=4,
    )


def warn_of_greedy_thinking(intensity: Intensity) -> None:
    """Warn that ``temperature=0`` and a thought go badly together; shown at the caller of ``decide``."""
    warnings.warn(
        f"temperature=0 at λ={intensity:g}: thinking models loop under greedy decoding; leave temperature out "
        "for the checkpoint's own (a runaway repetition is cut off either way)",
        GreedyThinkingWarning,
        stacklevel=3,
    )
