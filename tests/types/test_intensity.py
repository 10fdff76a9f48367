"""λ as a value: what it accepts, and what it refuses."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dami_agent.errors import InvalidIntensity
from dami_agent.types import Intensity


@given(st.floats(0, 1) | st.integers(0, 1))
def test_a_number_from_0_to_1_is_kept(number: float) -> None:
    value = Intensity(number)
    assert value == number
    assert hash(value) == hash(float(number))
    assert math.copysign(1, value) == 1  # -0.0 too: one cache key per λ
    assert pickle.loads(pickle.dumps(value)) == copy.deepcopy(value) == value


@given(
    st.floats(max_value=0, exclude_max=True).filter(lambda x: x < 0)
    | st.floats(min_value=1, exclude_min=True)
    | st.sampled_from([math.nan, True, False, "0.5", "", None, [], 2, -1, 10**400])
)
def test_anything_else_is_refused_with_a_hint(value: object) -> None:
    with pytest.raises(InvalidIntensity, match=r"finite number in \[0, 1\]") as refused:
        Intensity(value)  # type: ignore[arg-type]
    assert "reasoning_effort" in str(refused.value.hint)


def test_it_shows_as_it_is_written() -> None:
    assert [repr(Intensity(number)) for number in (0, 0.25, 1)] == ["Intensity(0)", "Intensity(0.25)", "Intensity(1)"]
    assert repr(Intensity(0.1234567)) == "Intensity(0.1234567)", "fingerprints and cache keys tell it from 0.123457"
