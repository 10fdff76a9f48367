"""What a usage costs, against plain arithmetic in exact fractions."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dami_agent.errors import UsageError
from dami_agent.types import Price, Usage
from dami_agent.types.price import misfits

COUNTS = st.integers(0, 10**9)
RATES = st.floats(0, 1e6)
USAGES = st.builds(
    Usage,
    tokens=COUNTS,
    prompt_tokens=COUNTS,
    cached_tokens=COUNTS,
    scored_tokens=COUNTS,
    device_seconds=st.floats(0, 1e5),
)


@given(USAGES, RATES, st.none() | RATES, RATES, RATES)
def test_a_cost_is_the_sum_of_its_parts(
    usage: Usage, prompt: float, cached: float | None, output: float, second: float
) -> None:
    price = Price(prompt=prompt, cached=cached, output=output, device_second=second)
    hits = min(usage.cached_tokens, usage.prompt_tokens)
    parts = [
        (usage.prompt_tokens - hits, Fraction(prompt) / 10**6),
        (usage.scored_tokens, Fraction(prompt) / 10**6),
        (hits, Fraction(prompt if cached is None else cached) / 10**6),
        (usage.tokens, Fraction(output) / 10**6),
        (Fraction(usage.device_seconds), Fraction(second)),
    ]
    assert price.cost_of(usage) == pytest.approx(
        float(sum(count * rate for count, rate in parts)), rel=1e-9, abs=1e-300
    )
    assert price.is_free == (not any((prompt, cached, output, second)))


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf"), "1", True, 1e16])
@pytest.mark.parametrize("field", ["prompt", "cached", "output", "device_second"])
def test_what_is_no_price_is_refused_by_field(field: str, wrong: object) -> None:
    with pytest.raises(UsageError, match=f"price: {field} must be a number of at least 0") as refused:
        Price(**{field: wrong})  # type: ignore[arg-type]
    assert refused.value.hint


def test_every_misfit_of_a_file_is_told() -> None:
    found = list(misfits({"prompt": -1, "cached": None, "outptu": 3, "output": 1e16, "device_second": 0}))
    assert [name for name, _ in found] == ["prompt", "outptu", "output"]
    assert "known: prompt, cached, output, device_second" in found[1][1]
    assert "one that large" in found[2][1]
