"""Columns hold what the rows hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dami_agent.report.page_table import encode, table
from tests.report.rows import make_row, make_rows

TEXT = st.text(max_size=4)
NUMBERS = st.one_of(st.none(), st.booleans(), st.integers(-9999, 9999), st.sampled_from([0.25, -1.5, 3.0]))
VALUES = st.one_of(NUMBERS, TEXT, st.lists(TEXT, max_size=3), st.dictionaries(TEXT, NUMBERS, max_size=3))


def read(column: dict[str, Any], i: int) -> Any:
    """The value of row ``i``, as the page's script reads it."""
    if "all" in column:
        return column["all"]
    if "list" in column:
        return column["list"][i]
    if "codes" in column:
        return column["values"][column["codes"][i]]
    return {name: v for name, inner in column["fields"].items() if (v := read(inner, i)) is not None}


@given(st.one_of(*(st.lists(v, max_size=30) for v in (NUMBERS, TEXT, st.lists(TEXT, max_size=2), VALUES))))
def test_a_column_reads_back(values: list[Any]) -> None:
    column = json.loads(json.dumps(encode(values), allow_nan=False))
    for i, value in enumerate(values):
        back = read(column, i)
        if "fields" in column:
            assert back == {k: v for k, v in (value or {}).items() if v is not None}
        else:
            assert back == value


def test_floats_are_rounded_and_infinity_is_text() -> None:
    assert encode([0.123456789, float("inf"), 2.0, None]) == {"list": [0.123457, "inf", 2, None]}


@pytest.mark.parametrize("seed", range(3))
def test_every_field_of_every_row_is_in_the_table(seed: int) -> None:
    rows = make_rows(50, seed)
    made = table(rows)
    for i, row in enumerate(rows):
        kept = {name: read(column, i) for name, column in made["columns"].items()}
        for name, value in row.to_dict().items():
            if name == "started_at":
                assert abs(made["epoch"] + kept[name] - row.started_at.timestamp() * 1000) <= 0.5
            elif isinstance(value, float) or name == "features":
                assert kept[name] == pytest.approx(value, rel=1e-5)
            elif name not in ("id", "root_run_id"):
                assert kept[name] == value


def test_steps_are_numbered_within_their_run_and_attempts_share_the_number() -> None:
    calls = [("r", "a", 0), ("r", "a", 1), ("s", "x", 0), ("r", "b", 0), ("s", "x", 1), ("s", "y", 0), ("r", "a", 2)]
    rows = [make_row(root_run_id=run, call_id=call, attempt=attempt) for run, call, attempt in calls]
    made = table(rows)["columns"]
    assert [read(made["ordinal"], i) for i in range(7)] == [1, 1, 1, 2, 1, 2, 1]
    assert [read(made["run"], i) for i in range(7)] == [run for run, _, _ in calls]
