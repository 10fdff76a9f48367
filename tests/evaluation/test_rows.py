"""Rows, differences, cells: counted again the slow way."""

from __future__ import annotations

import math
import statistics

import pytest

from dami_agent.evaluation import rows
from dami_agent.evaluation.stats import Z, half_width
from dami_agent.types import Intensity
from tests.evaluation.outcomes import asked, found, outcome


def test_a_row_counts_what_it_says() -> None:
    few = asked(4, seeds=2)
    outcomes = [
        outcome(True, 4, thought=True, reasoning_tokens=2),
        outcome(False, 6),
        outcome(True, 20, thought=True, finished=False, reasoning_tokens=10),
        outcome(False, 10, failed=True, finished=False),
    ]
    row = rows.summary(Intensity(1), few, outcomes)
    assert (row["lambda"], row["accuracy"], row["tokens"], row["reasoning_tokens"]) == (1.0, 0.5, 10.0, 3.0)
    assert (row["think_ratio"], row["finished"], row["errors"]) == (0.5, 0.5, 1)
    assert (row["thinking_outputs"], row["thinking_tokens"]) == (2, 12.0)
    assert row["by_level"] == {"1": 0.5}
    assert row["by_seed"] == {"0": 0.5, "1": 0.5}
    one_of_one = pytest.approx(half_width(1, 1), abs=1e-4)
    assert row["cells"]["chain"] == {
        "1": {"accuracy": 1.0, "accuracy_ci": one_of_one, "tokens": 4.0, "tokens_ci": None, "questions": 1}
    }
    assert row["accuracy_ci"] == pytest.approx(half_width(2, 4), abs=1e-4)
    assert row["tokens_ci"] == pytest.approx(Z * statistics.stdev([4, 6, 20, 10]) / 2, abs=1e-2)


def test_every_group_of_a_row_against_a_plain_filter() -> None:
    questions = asked(333)
    outcomes = found(questions)[Intensity(0.5)]
    row = rows.summary(Intensity(0.5), questions, outcomes)
    both = list(zip(questions, outcomes, strict=True))
    cells = [cell for levels in row["cells"].values() for cell in levels.values()]
    assert sum(cell["questions"] for cell in cells) == len(questions) > 0
    for family, levels in row["cells"].items():
        for level, cell in levels.items():
            members = [o for (_, q), o in both if (q.family, q.level) == (family, int(level))]
            assert cell["questions"] == len(members)
            assert cell["accuracy"] == pytest.approx(statistics.fmean(o.right for o in members), abs=1e-4)
            assert cell["tokens"] == pytest.approx(statistics.fmean(o.tokens for o in members), abs=1e-2)
            spread = half_width(sum(o.right for o in members), len(members))
            assert cell["accuracy_ci"] == pytest.approx(spread, abs=1e-4)
            spread = Z * statistics.stdev(o.tokens for o in members) / math.sqrt(len(members))
            assert cell["tokens_ci"] == pytest.approx(spread, abs=1e-2)
    for level in row["by_level"]:
        members = [o for (_, q), o in both if q.level == int(level)]
        assert row["by_level"][level] == pytest.approx(statistics.fmean(o.right for o in members), abs=1e-4)
        assert row["tokens_by_level"][level] == pytest.approx(statistics.fmean(o.tokens for o in members), abs=1e-2)
        spread = Z * statistics.stdev(o.tokens for o in members) / math.sqrt(len(members))
        assert row["tokens_by_level_ci"][level] == pytest.approx(spread, abs=1e-2)
    thinking = [o.tokens for o in outcomes if o.thought]
    assert (row["thinking_outputs"], row["thinking_tokens"]) == (
        len(thinking),
        pytest.approx(statistics.fmean(thinking), abs=1e-2),
    )


def test_differences_are_paired_over_questions() -> None:
    questions = asked(90)
    outcomes = found(questions, (0, 0.5, 1))
    told = rows.differences(questions, outcomes)
    assert [set(row) for row in told] == [
        {"lambda", "thinking"},
        {"lambda", "instruct", "thinking", "previous"},
        {"lambda", "instruct", "previous"},
    ]
    first, last = outcomes[Intensity(0)], outcomes[Intensity(1)]
    gains = [b.right - a.right for a, b in zip(first, last, strict=True)]
    lead = told[2]["instruct"]
    assert lead["accuracy"] == pytest.approx(statistics.fmean(gains), abs=1e-4)
    assert lead["accuracy_ci"] == pytest.approx(Z * statistics.stdev(gains) / math.sqrt(90), abs=1e-4)
    assert lead["by_seed"]["1"] == pytest.approx(statistics.fmean(gains[30:60]), abs=1e-4)
    assert told[0]["thinking"]["tokens"] == -lead["tokens"]
    assert told[1]["previous"] == told[1]["instruct"]
