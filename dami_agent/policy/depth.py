"""How deep: λ moved along a frontier's grid and kept between bounds. Pure functions of numbers."""

from __future__ import annotations

from dami_agent.policy.frontier import Frontier
from dami_agent.types import Intensity

_UNMEASURED_STEP = 0.25
"""One "step up the grid" of a pair that nobody has measured."""


def within(frontier: Frontier, value: float, low: float, high: float) -> Intensity:
    """An estimate snapped to the nearest λ of the grid between the bounds; where none lies there, just clamped.

    Ties go up, as :meth:`Frontier.snap` has it: thinking a little more is the safer error.
    """
    inside = [g for g in frontier.grid if low <= g <= high]
    if inside:
        return min(inside, key=lambda g: (abs(g - value), -g))
    return clamped(value, low, high)


def clamped(value: float, low: float, high: float) -> Intensity:
    """``value`` between the bounds; the high one wins where they cross."""
    return Intensity(min(max(value, low), high))


def shifted(frontier: Frontier, value: float, accuracy_over_cost: float) -> Intensity:
    """An estimate, made cheaper or deeper by the one knob.

    With a grid of n λs, the estimate's place on it moves by ``round((2a - 1) * (n - 1))`` places: 0.5 leaves it, 1
    always ends at λ=1, 0 at λ=0. Without a grid λ itself moves by ``2a - 1``. Monotone in both arguments.
    """
    push = 2 * accuracy_over_cost - 1
    if push == 0:
        return Intensity(value)
    grid = frontier.grid
    if not grid:
        return clamped(value + push, 0, 1)
    span = len(grid) - 1
    places = round(abs(push) * span) * (1 if push > 0 else -1)
    return grid[min(span, max(0, grid.index(frontier.snap(Intensity(value))) + places))]


def raised(frontier: Frontier, value: float, steps: int, high: float) -> Intensity:
    """λ that many places further up the grid, not above ``high``; ``value`` where nothing of the grid lies between."""
    if not frontier.grid:
        return Intensity(max(value, min(high, value + _UNMEASURED_STEP * steps)))
    above = [g for g in frontier.grid if value < g <= high][:steps]
    return above[-1] if above else Intensity(value)
