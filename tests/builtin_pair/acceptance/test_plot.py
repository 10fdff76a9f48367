"""Pictures are drawn from what was measured."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

from builtin_pair.acceptance import plot
from tests.builtin_pair.acceptance.measured import a_budget_curve


def test_the_picture_is_an_opaque_svg_without_a_date(results: Path) -> None:
    data = json.loads((results / "sweep.json").read_text())
    drawn = plot.picture(data)
    assert drawn == plot.picture(data)
    assert ET.fromstring(drawn).tag.endswith("svg")
    assert "dc:date" not in drawn
    assert "fill: #ffffff" in drawn
    moved = data | {"rows": [row | {"tokens": row["tokens"] + 1} for row in data["rows"]]}
    assert plot.picture(moved) != drawn


def test_the_picture_of_budgets_moves_with_what_was_solved() -> None:
    curve = a_budget_curve()
    drawn = plot.budget_picture(curve)
    assert drawn == plot.budget_picture(curve)
    text = "".join(ET.fromstring(drawn).itertext())
    assert "a budget per run" in text
    assert "a budget per tool" in text
    assert "λ=0.5" in text
    moved = curve | {"auto": curve["auto"] | {"solved": 120}}
    assert plot.budget_picture(moved) != drawn
