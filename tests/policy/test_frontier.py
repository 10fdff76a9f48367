"""The frontier against a slow definition of Pareto efficiency, and the rules that stand on it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dami_agent.errors import InvalidIntensity, InvalidPolicy
from dami_agent.policy import EFFORTS, Frontier, FrontierRow
from dami_agent.types import Intensity


def frontier(*rows: tuple[float, float, float], ci: float = 0.01, switch: float = 0.0) -> Frontier:
    return Frontier(
        rows=tuple(
            FrontierRow(intensity=Intensity(x), accuracy=a, tokens=t, accuracy_ci=ci) for x, a, t in sorted(rows)
        ),
        switch_point=switch,
    )


# Qwen3-4B on AIME'25 (arXiv 2510.10977, table 2): .2 is dearer than .4 and worse.
QWEN = frontier((0, 0.466, 15097), (0.2, 0.522, 16794), (0.4, 0.558, 12448), (0.5, 0.625, 11189), (1, 0.804, 22813))

row = st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(1, 1e4))


@given(st.lists(row, min_size=1, max_size=12, unique_by=lambda r: r[0]))
def test_grid_is_what_nobody_beats(rows: list[tuple[float, float, float]]) -> None:
    table = frontier(*rows)
    expected = {0.0, 1.0}
    for x, a, t in rows:
        beaten = any(b >= a and u <= t and (b > a or u < t) for _, b, u in rows)
        if not beaten:
            expected.add(x)
    assert set(map(float, table.grid)) == expected
    assert list(table.grid) == sorted(table.grid)


@given(st.floats(0, 1))
def test_snapping_goes_to_the_nearest_grid_point(x: float) -> None:
    snapped = QWEN.snap(Intensity(x))
    assert snapped in QWEN.grid
    assert all(abs(snapped - x) <= abs(other - x) for other in QWEN.grid)


def test_an_unmeasured_pair_snaps_nothing_and_has_no_valley() -> None:
    assert Frontier().snap(Intensity(0.37)) == 0.37
    assert Frontier().grid == ()
    assert not Frontier().in_valley(Intensity(0.3))


def test_the_published_valley_is_found() -> None:
    assert QWEN.in_valley(Intensity(0.2))
    assert not QWEN.in_valley(Intensity(0.5))
    assert not QWEN.in_valley(Intensity(1))
    assert Intensity(0.2) not in QWEN.grid


@pytest.mark.parametrize("table", [QWEN, Frontier()])
def test_efforts_rise_from_instruct_to_thinking(table: Frontier) -> None:
    levels = [table.for_effort(name) for name in EFFORTS]
    assert levels[0] == 0
    assert levels[-1] == 1
    assert levels == sorted(levels)


def test_an_effort_stays_within_its_tokens() -> None:
    table = frontier((0, 0.5, 10), (0.3, 0.6, 30), (0.6, 0.8, 60), (1, 0.9, 110))
    assert table.for_effort("low") == 0.3  # 10 + .4 * 100 = 50 tokens
    assert table.for_effort("medium") == 0.6  # 70 tokens
    with pytest.raises(InvalidIntensity, match="minimal"):
        table.for_effort("enormous")


def test_template_switches_above_the_measured_point() -> None:
    table = frontier((0, 0.5, 10), (1, 0.9, 100), switch=0.25)
    assert [table.template(Intensity(x)) for x in (0, 0.25, 0.26, 1)] == [
        "instruct",
        "instruct",
        "thinking",
        "thinking",
    ]
    assert Frontier().template(Intensity(0)) == "instruct"
    assert Frontier().template(Intensity(0.01)) == "thinking"


def test_file_round_trip_and_errors(tmp_path) -> None:
    path = tmp_path / "frontier.json"
    rows = [
        {"lambda": 1, "accuracy": 0.9, "tokens": 60, "by_level": {"1": 1.0}},
        {"lambda": 0, "accuracy": 0.5, "tokens": 6},
    ]
    path.write_text(json.dumps({"rows": rows, "switch_point": 0.1}))
    table = Frontier.from_file(path)
    assert [r.intensity for r in table.rows] == [0, 1]
    assert table.rows[1].by_level == {"1": 1.0}
    for broken in (
        "{",
        json.dumps({"rows": [{"lambda": 2, "accuracy": 1, "tokens": 1}]}),
        json.dumps({"rows": rows * 2}),
    ):
        path.write_text(broken)
        with pytest.raises(InvalidPolicy, match=r"frontier\.json"):
            Frontier.from_file(path)
