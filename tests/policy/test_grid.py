"""Moving λ along the grid: monotone, inside its bounds, and exactly as documented."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dami_agent.policy import Frontier
from dami_agent.policy.grid import apply_cost_preference, next_on_grid, snap_within
from tests.policy.support import FRONTIER

unit = st.floats(0, 1)
tables = st.sampled_from([FRONTIER, Frontier()])


@settings(deadline=None)
@given(tables, unit, unit, unit, unit)
def test_the_knob_is_monotone_in_both_arguments(table: Frontier, one: float, other: float, a: float, b: float) -> None:
    assert apply_cost_preference(table, min(one, other), a) <= apply_cost_preference(table, max(one, other), a)
    assert apply_cost_preference(table, one, min(a, b)) <= apply_cost_preference(table, one, max(a, b))


@settings(deadline=None)
@given(tables, unit)
def test_the_knobs_ends_and_its_middle(table: Frontier, value: float) -> None:
    assert apply_cost_preference(table, value, 0.5) == value
    assert apply_cost_preference(table, value, 1) == 1
    assert apply_cost_preference(table, value, 0) == 0


def test_a_push_of_less_than_a_place_moves_nothing() -> None:
    assert apply_cost_preference(FRONTIER, 0.5, 0.4375) == 0.5
    assert apply_cost_preference(FRONTIER, 0.3, 0.5625) == 0.3


def test_the_knob_moves_by_places_of_the_grid() -> None:
    assert [float(apply_cost_preference(FRONTIER, 0.6, a)) for a in (0.25, 0.4, 0.5, 0.6, 0.75)] == [
        0,
        0.2,
        0.6,
        0.8,
        1,
    ]
    assert apply_cost_preference(Frontier(), 0.3, 0.6) == pytest.approx(0.5)


@settings(deadline=None)
@given(tables, unit, unit, unit)
def test_an_estimate_stays_between_its_bounds(table: Frontier, value: float, a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    got = snap_within(table, value, low, high)
    assert low <= got <= high
    inside = [g for g in table.grid if low <= g <= high]
    expected = min((abs(g - value) for g in inside), default=abs(min(max(value, low), high) - value))
    assert abs(got - value) == expected


@settings(deadline=None)
@given(tables, unit, st.integers(0, 6), unit)
def test_raising_never_lowers_nor_leaves_the_grid(table: Frontier, value: float, steps: int, high: float) -> None:
    got = next_on_grid(table, value, steps, high)
    assert got >= value
    assert got == value or got <= high
    assert got == value or not table.grid or sum(value < g <= got for g in table.grid) <= steps
    if table.grid and steps and any(value < g <= high for g in table.grid):
        assert got in table.grid
        assert got > value
