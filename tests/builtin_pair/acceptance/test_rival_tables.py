"""A table of many comparisons says how many of them chance alone would set apart."""

from __future__ import annotations

from builtin_pair.acceptance.rival_tables import merges


def test_merges_that_are_clearly_better_or_worse_are_counted() -> None:
    row = {"method": "linear", "settings": "λ=0.2", "accuracy": 0.7, "tokens": 109.4, "finished": 0.999}
    gains = ((0.004, 0.02), (0.012, 0.009), (-0.03, 0.02), (-0.04, 0.02), (-0.01, 0.02), (0.02, 0.02))
    rows = [row, *(row | {"method": "ties", "gain": gain, "gain_ci": ci} for gain, ci in gains)]
    text = merges({"questions": 600, "seeds": 3, "rows": rows})
    assert (
        "Clearly above the straight path: 1 of 6 merges, clearly below: 2; chance would set apart one of forty" in text
    )
    assert "| linear | λ=0.2 | 0.700 | 109 | 99.9% | – |" in text
    assert "| ties | λ=0.2 | 0.700 | 109 | 99.9% | +1.2 ± 0.9 |" in text
