"""Where no estimator is named, the one is asked whose head was measured to gain most for such prompts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from dami_agent.errors import InvalidRequest
from dami_agent.estimators import AutoEstimator
from dami_agent.estimators.head import Head
from dami_agent.estimators.head_files import heads_path, offer_heads
from dami_agent.estimators.heads import Heads
from tests.estimators.support import DECISION, PROMPT, Reader, drawn, only
from tests.estimators.test_estimators import ProbabilityEngine


def test_auto_asks_what_pays_most(heads: Heads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    engine, auto, (states, probe, joint, entropy) = Reader(drawn(1).states[0]), AutoEstimator(), heads.heads

    def at(head: Head, **fields: float) -> Head:
        return dataclasses.replace(head, prices=tuple(dataclasses.replace(p, **fields) for p in head.prices))

    even = {"gain": 0.0, "gain_ci": 0.01, "static_gain_ci": 0.02}
    more, pays, level = ({**even, "static_gain": gain} for gain in (0.2, 0.1, 0.01))
    loses = more | {"gain": -0.1, "gain_ci": 0.02}
    assert auto.chosen(PROMPT, engine) is auto.confidence  # there are none
    beside = tmp_path / "beside" / "heads.safetensors"
    offer_heads("pair-1", beside)
    try:
        for asked, *its in (
            (auto.preference, at(states, **more), at(probe, **pays)),
            (auto.confidence, at(states, **pays), at(probe, **more)),
            (auto.confidence, at(states, **level), at(probe, **pays)),
            (auto.preference, at(states, **pays), at(probe, **level)),
            (auto.confidence, at(states, **level), at(probe, **level)),
            (auto.confidence, at(states, **loses), at(probe, **pays)),
            (auto.joint, at(states, **pays), at(probe, **pays), at(joint, **more)),
            (auto.preference, at(states, **more), at(probe, **pays), at(joint, **pays)),
            (auto.confidence, at(states, **level), at(probe, **pays), at(joint, **level)),
            (auto.preference, at(states, **pays), at(joint, **loses)),
        ):
            Heads(fingerprint="pair-1", heads=tuple(its)).save(beside)
            assert auto.chosen(PROMPT, engine) is asked
            assert auto.chosen(dataclasses.replace(PROMPT, tools=1), engine) is auto.confidence
        Heads(fingerprint="pair-1", heads=(at(entropy, **more), at(states, **pays))).save(beside)
        assert auto.chosen(PROMPT, engine) is auto.preference  # heads on entropy are for those who ask for them
        only(at(states, **pays)).save(heads_path("pair-1"))  # the user's own go before
        assert auto.estimate(PROMPT, DECISION, engine).estimator == "preference"
        only(states, "another").save(heads_path("pair-1"))  # a copied folder: no reason to fail every call
        with pytest.warns(UserWarning, match="another pair"):
            assert auto.chosen(PROMPT, engine) is auto.confidence
        assert auto.chosen(PROMPT, engine) is auto.confidence  # said once
        with pytest.raises(InvalidRequest, match="another pair"):
            auto.preference.estimate(PROMPT, DECISION, engine)
    finally:
        offer_heads("pair-1", tmp_path / "none")


def test_auto_asks_confidence_of_engines_without_hidden_states(
    heads: Heads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    for place in (0, 2):
        Heads(fingerprint="", heads=heads.heads[place : place + 1]).save(heads_path(""))
        found = AutoEstimator().estimate(PROMPT, DECISION, ProbabilityEngine([0.9], [0.9]))
        assert found.estimator == "confidence"


def test_a_head_pays_by_what_it_gains_at_all_prices_and_not_at_a_lucky_one(heads: Heads) -> None:
    def with_gains(*gains: float, half: float = 0.02) -> Head:
        points = [dataclasses.replace(heads.heads[0].prices[0], static_gain=g, static_gain_ci=half) for g in gains]
        return dataclasses.replace(heads.heads[0], prices=tuple(points))

    assert with_gains(0.0, 0.03, 0.06).static_gain == pytest.approx(0.03)
    assert with_gains(0.0, 0.03, 0.06).pays()
    assert not with_gains(0.06, 0.0, 0.0).pays(), "one lucky price"
    assert not with_gains(0.0, 0.03, 0.06, half=0.025).pays(), "chance"
    assert not with_gains(0.004, 0.004, half=0.0).pays(), "a few lucky prompts"
    assert with_gains(-0.1).pays(price=0.1), "a price that is named is gone by"
