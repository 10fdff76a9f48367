"""The head first, the probe only where the head is unsure; both on record, the probe's tokens counted."""

from __future__ import annotations

import math

import pytest

from dami_agent.errors import InvalidRequest
from dami_agent.estimators import ConfidenceEstimator, PreferenceEstimator, StagedEstimator, estimator_named
from dami_agent.estimators.heads import Heads
from tests.estimators.support import DECISION, PROMPT, Both, drawn, rows_of_the_builtin_pair
from tests.estimators.test_estimators import ProbabilityEngine


@pytest.fixture(scope="module")
def heads(heads: Heads) -> Heads:
    return Heads(fingerprint="pair-1", heads=tuple(head for head in heads if head.reads != "joint"))


def staged(heads: Heads, margin: float) -> StagedEstimator:
    inner = PreferenceEstimator(heads=heads, price=0.1)
    return StagedEstimator(margin=margin, preference=inner, confidence=ConfidenceEstimator(calibrated=False))


def test_it_probes_exactly_where_the_two_best_values_are_closer_than_the_margin(heads: Heads) -> None:
    probed = 0
    for states in drawn(60, seed=3).states:
        engine = Both(states, [0.99, 0.9])
        head = PreferenceEstimator(heads=heads, price=0.1).estimate(PROMPT, DECISION, engine)
        values = sorted((each.value for each in head.candidates if each.value is not None), reverse=True)
        found = staged(heads, 0.1).estimate(PROMPT, DECISION, engine)
        unsure = values[0] - values[1] < 0.1
        assert found.estimator == "staged"
        assert found.features["margin"] == pytest.approx(values[0] - values[1])
        assert found.features["probed"] == unsure == bool(engine.probed.asked)
        if unsure:
            assert (found.intensity, found.tokens) == (0, 2)  # the rule accepts such a probe
            assert found.probe is not None
            assert found.scored_tokens == head.scored_tokens + 2
            assert found.features["confidence"] == pytest.approx(0.9)
            assert found.features["head_intensity"] == head.intensity
            assert found.features["head_right@1"] == head.features["right@1"]
        else:
            assert (found.intensity, found.tokens, found.probe) == (head.intensity, 0, None)
            assert found.candidates == head.candidates
            assert found.scored_tokens == head.scored_tokens
        probed += unsure
    assert 5 < probed < 55


def test_the_margin_runs_from_never_to_nearly_always(heads: Heads) -> None:
    engines = [Both(states, [0.5]) for states in drawn(30, seed=4).states]
    for margin, asked in ((0.0, 0), (1.0, 30)):
        for engine in engines:
            staged(heads, margin).estimate(PROMPT, DECISION, engine)
        assert sum(bool(engine.probed.asked) for engine in engines) == asked


@pytest.mark.parametrize("margin", [-0.1, 1.1, math.nan, math.inf])
def test_a_margin_that_makes_no_sense_is_refused(margin: float) -> None:
    with pytest.raises(InvalidRequest, match="margin must be"):
        StagedEstimator(margin=margin)


def test_it_promises_no_loss() -> None:
    for settings in (
        {"preference": PreferenceEstimator(max_loss=0.05, risk=0.05)},
        {"confidence": ConfidenceEstimator(max_loss=0.05, risk=0.05)},
    ):
        with pytest.raises(InvalidRequest, match="cannot promise a loss"):
            StagedEstimator(**settings)  # type: ignore[arg-type]


def test_without_a_head_or_hidden_states_it_is_refused_as_preference_is() -> None:
    other = Both(drawn(1).states[0], [0.5])
    other.info = ProbabilityEngine([], []).info
    for engine in (other, ProbabilityEngine([0.5], [0.5])):
        with pytest.raises(InvalidRequest) as alone:
            PreferenceEstimator().estimate(PROMPT, DECISION, engine)
        with pytest.raises(InvalidRequest) as found:
            StagedEstimator().estimate(PROMPT, DECISION, engine)
        assert str(found.value) == str(alone.value)


def test_the_built_in_pair_goes_both_ways_and_the_ledger_has_the_numbers_of_each() -> None:
    assert isinstance(estimator_named("staged"), StagedEstimator)
    rows = rows_of_the_builtin_pair("staged", 12)
    assert {row.estimator for row in rows} == {"staged"}
    assert {row.features["probed"] for row in rows} == {0.0, 1.0}
    for row in rows:
        asked = row.features["probed"] == 1.0
        assert (row.features["margin"] < 0.005) == asked == ("probe_tokens" in row.features)
        assert "head_right@0" in row.features or not asked
        lost = asked and row.intensity > 0
        assert row.probe_tokens == (row.features["probe_tokens"] if lost else 0)
        assert row.output_tokens == row.reasoning_tokens + row.answer_tokens + row.probe_tokens
