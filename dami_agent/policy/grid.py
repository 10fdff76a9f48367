"""Move λ along a frontier's grid, and keep it between bounds: what choosing and escalating share."""

from __future__ import annotations

from dami_agent.policy.frontier import Frontier
from dami_agent.types import Intensity

_UNMEASURED_STEP = 0.25  # one "step up the grid" of a pair that nobody has measured


def snap_within(frontier: Frontier, value: float, low: float, high: float) -> Intensity:
    """Snap an estimate to the nearest λ of the grid between the bounds; where none lies there, only clamp it.

    Ties go up, as :meth:`Frontier.snap` has it: thinking a little more is the safer error.

    Args:
        frontier: holds the grid.
        value: λ as estimated.
        low, high: bounds of λ.
    """
    inside = [g for g in frontier.grid if low <= g <= high]
    if inside:
        return min(inside, key=lambda g: (abs(g - value), -g))
    return clamp(value, low, high)


def clamp(value: float, low: float, high: float) -> Intensity:
    """Clamp ``value``, of each module, between the bounds; the high one wins where they cross."""
    return value.clamped(low, high) if isinstance(value, Intensity) else Intensity(min(max(value, low), high))


def apply_cost_preference(frontier: Frontier, value: float, accuracy_over_cost: float) -> Intensity:
    """Move an estimate along the grid towards less cost or more accuracy.

    With a grid of n λs, the estimate's place on it moves by ``round((2a - 1) * (n - 1))`` places: 0.5 leaves it, 1
    always ends at λ=1, 0 at λ=0. Without a grid λ itself moves by ``2a - 1``. Monotone in both arguments.
    """
    push = 2 * accuracy_over_cost - 1
    if push == 0:
        return Intensity(value)
    grid = frontier.grid
    if not grid:
        return clamp(value + push, 0, 1)
    span = len(grid) - 1
    places = round(abs(push) * span) * (1 if push > 0 else -1)
    if places == 0:  # not even snapped: a little less λ for the asking must not end above the estimate
        return Intensity(value)
    return grid[min(span, max(0, grid.index(frontier.snap(Intensity(value))) + places))]


def next_on_grid(frontier: Frontier, value: float, steps: int, high: float) -> Intensity:
    """Go that many places up the grid, not above ``high``; ``value`` stays where nothing of the grid lies between.

    Args:
        frontier: holds the grid; without one a step is 0.25.
        value: λ to start from.
        steps: places.
        high: upper bound of λ.
    """
    if not frontier.grid:
        return Intensity(max(value, min(high, value + _UNMEASURED_STEP * steps)))
    above = [g for g in frontier.grid if value < g <= high][:steps]
    return above[-1] if above else Intensity(value)
