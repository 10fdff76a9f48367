"""The two-way choice: the end that the head values more, the rule's own verdict, and never a λ in between."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from dami_agent.errors import InvalidRequest
from dami_agent.estimators import (
    AutoEstimator,
    ConfidenceEstimator,
    EntropyEstimator,
    FixedEstimator,
    PreferenceEstimator,
    RouterEstimator,
    estimator_named,
)
from dami_agent.estimators.head import Head
from dami_agent.estimators.head_files import heads_path
from dami_agent.estimators.heads import Heads
from dami_agent.evaluation.rivals import FINE_PRICES, chosen_places
from dami_agent.testing import fake_chat_model
from dami_agent.types import Intensity
from tests.estimators.support import DECISION, PROMPT, Reader, drawn
from tests.estimators.test_estimators import ProbabilityEngine


def states_head(heads: Heads) -> Head:
    head = heads.get("states", "plain")
    assert head is not None
    return head


def test_it_takes_the_end_that_the_head_values_more_at_the_same_price(heads: Heads) -> None:
    samples, head = drawn(100, seed=3), states_head(heads)
    right, tokens = head.predict(samples.features("states", head.layers))
    between = 0
    for price in (0.0, 0.1, 0.3, 0.8):
        values = head.values(right, tokens, price)
        inner = PreferenceEstimator(heads=heads, price=price)
        for states, value in zip(samples.states, values, strict=True):
            found = RouterEstimator(inner=inner).estimate(PROMPT, DECISION, Reader(states))
            assert found.intensity == (0 if value[0] >= value[-1] else 1)
            assert {float(each.intensity) for each in found.candidates} == {0, 1}  # where there is no room: the other
            assert found.candidates[0].intensity == found.intensity
            assert found.estimator == "router"
            between += inner.estimate(PROMPT, DECISION, Reader(states)).intensity == 0.5
    assert between > 20  # so that there was something to round


def test_it_rounds_down_where_thinking_whole_is_not_worth_its_price(heads: Heads) -> None:
    """Not up: a prompt worth λ=.5 may be worth less at λ=1 than Instruct's own answer."""
    samples = drawn(400, seed=4)
    inner = PreferenceEstimator(heads=heads, price=0.45)
    chosen = [
        (float(inner.estimate(PROMPT, DECISION, reader).intensity), float(found.intensity))
        for reader in map(Reader, samples.states)
        for found in [RouterEstimator(inner=inner).estimate(PROMPT, DECISION, reader)]
    ]
    assert {(0.5, 0.0), (0.5, 1.0)} <= set(chosen)
    assert {pair for pair in chosen if pair[0] != 0.5} <= {(0.0, 0.0), (1.0, 1.0)}


def test_it_is_the_router_that_the_quality_bench_measures(heads: Heads) -> None:
    samples, head = drawn(60, seed=6), states_head(heads)
    for price, places in list(zip(FINE_PRICES, chosen_places(samples, head, ends=True), strict=True))[::16]:
        router = RouterEstimator(inner=PreferenceEstimator(heads=heads, price=price))
        chosen = [float(router.estimate(PROMPT, DECISION, Reader(states)).intensity) for states in samples.states]
        assert chosen == [float(samples.lambdas[place]) for place in places.tolist()]


@pytest.mark.parametrize(("weakest", "intensity"), [(0.999, 0), (0.81, 0), (0.79, 1), (0.5, 1), (0.01, 1)])
def test_without_heads_the_rule_decides(
    weakest: float, intensity: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    found = RouterEstimator().estimate(PROMPT, DECISION, ProbabilityEngine([0.9999, weakest], [0.9999, weakest]))
    assert (found.intensity, found.tokens) == (intensity, 2)
    assert found.probe is not None  # which becomes the answer at λ=0
    assert found.candidates == ()


def test_a_probe_counts_against_thinking_alone(heads: Heads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    head = heads.get("probe", "plain")
    assert head is not None
    even = dataclasses.replace(head, right=torch.zeros_like(head.right), length=torch.zeros_like(head.length))
    Heads(fingerprint="", heads=(even,)).save(heads_path(""))
    router = RouterEstimator(inner=ConfidenceEstimator(price=0.1))
    found = router.estimate(PROMPT, DECISION, ProbabilityEngine([0.5] * 5, [0.5] * 5))
    assert found.intensity == 0  # all else equal, the answer that is there already


def test_models_and_policies_ask_it_by_name() -> None:
    assert isinstance(estimator_named("router"), RouterEstimator)
    model = fake_chat_model(["a", "b"], policy={"default": {"estimator": "router"}})
    told = model.invoke("?").response_metadata
    assert told["estimate"]["estimator"] == "router"
    assert told["intensity"] == 1  # a fake engine gives no log-probabilities


def test_a_fixed_inner_estimator_is_rounded_up() -> None:
    for asked, wanted in ((0.0, 0), (0.3, 1), (1.0, 1)):
        inner = FixedEstimator(Intensity(asked))
        found = RouterEstimator(inner=inner).estimate(PROMPT, DECISION, ProbabilityEngine([], []))
        assert found.intensity == wanted


@pytest.mark.parametrize(
    "inner",
    [
        ConfidenceEstimator(max_loss=0.05, risk=0.05),
        EntropyEstimator(max_loss=0.05, risk=0.05),
        AutoEstimator(preference=PreferenceEstimator(max_loss=0.05, risk=0.05)),
    ],
)
def test_a_loss_that_was_promised_for_all_lambdas_is_not_promised_for_two(inner: ConfidenceEstimator) -> None:
    with pytest.raises(InvalidRequest, match="cannot promise a loss"):
        RouterEstimator(inner=inner)
