"""A bound on the loss holds as often as it says, and is refused where too little was seen to promise it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from random import Random

import pytest
import torch

from dami_agent.errors import InvalidRequest
from dami_agent.estimators import ConfidenceEstimator, JointEstimator, PreferenceEstimator, judge
from dami_agent.estimators.fit import fit_head
from dami_agent.estimators.head import Head, chance_of_more
from dami_agent.estimators.head_files import heads_path
from dami_agent.estimators.heads import Heads
from dami_agent.types import Limits
from tests.estimators.support import DECISION, LAMBDAS, PROMPT, Reader, drawn
from tests.estimators.test_estimators import ProbabilityEngine


class TestPromisedLoss:
    def head(self, head: Head, *counts: tuple[int, int], groups: int = 1000) -> Head:
        points = [
            dataclasses.replace(head.prices[0], price=i / 10, lost=lost, won=won)
            for i, (lost, won) in enumerate(counts)
        ]
        return dataclasses.replace(head, prices=tuple(points), card={"prompts": groups, "groups": groups})

    def test_the_price_rises_while_the_bound_holds(self, head: Head) -> None:
        of = self.head(head, (2, 2), (8, 3), (40, 10), (0, 0))
        assert of.price_for(0.02, risk=0.05) == 0.1  # what comes after the first that fails is not tested
        assert of.price_for(0.06, risk=0.05) == 0.3
        assert of.price_for(0.02, risk=0.002) == 0.0
        assert of.price_for(0.02, price=0.25) == 0.25

    @pytest.mark.parametrize(("limit", "wins"), [(0.02, 0.0), (0.05, 0.02), (0.1, 0.1)])
    @pytest.mark.parametrize("count", [50, 300, 1500])
    def test_it_is_broken_no_more_often_than_it_may_be(self, limit: float, wins: float, count: int) -> None:
        """At the limit itself, where a promise is false by a hair, it is made once in twenty times at most."""
        rng = Random(f"{limit} {wins} {count}")
        made = 0
        for _ in range(1000):
            draws = [rng.random() for _ in range(count)]
            lost = sum(draw < limit + wins for draw in draws)
            won = sum(draw > 1 - wins for draw in draws)
            made += chance_of_more(lost, won, count, limit) <= 0.05
        assert made <= 65  # of 50 expected at most

    def test_it_is_made_where_enough_was_seen(self) -> None:
        assert chance_of_more(0, 0, 300, 0.02) < 0.05 < chance_of_more(0, 0, 100, 0.02)
        assert chance_of_more(20, 10, 2000, 0.02) < 0.001
        assert chance_of_more(1000, 0, 1000, 0.02) == chance_of_more(-1, -1, 1000, 0.02) == 1
        assert chance_of_more(0, 0, 0, 0.02) == 1

    def test_a_task_is_lost_with_its_first_wrong_step(self) -> None:
        """Twenty tasks of two steps: Thinking solves all, λ=0 gets one step of each of the first ten wrong."""
        samples = drawn(40)
        right = torch.ones(40, len(LAMBDAS))
        right[:20:2, 0] = 0
        samples = dataclasses.replace(samples, right=right, groups=torch.arange(20).repeat_interleave(2).float())
        zero = torch.zeros(40, len(LAMBDAS))
        zero[:, 0] = 1
        head = fit_head(drawn(200), "probe")
        point = judge.points(samples, head, zero, torch.ones(40, len(LAMBDAS)))[0]
        assert (point.lost, point.won) == (10, 0)
        assert point.gain == -0.25

    def test_it_is_refused_where_too_little_was_seen(self, head: Head) -> None:
        reading = dataclasses.replace(self.head(head, (0, 0), groups=100), reads="states", layers=(1,))
        heads = Heads(fingerprint="pair-1", heads=(reading,))
        with pytest.raises(InvalidRequest, match=r"at most 0\.01 cannot be promised at risk 0\.05") as refused:
            PreferenceEstimator(heads=heads, max_loss=0.01, risk=0.05).estimate(
                PROMPT, DECISION, Reader(drawn(1).states[0], "pair-1")
            )
        assert "more questions" in str(refused.value.hint)

    @pytest.mark.parametrize("settings", [{"risk": 0.0}, {"risk": 0.6}, {"risk": 0.1, "price": 0.2}])
    def test_settings_that_make_no_sense(self, settings: dict[str, float]) -> None:
        for kind in (PreferenceEstimator, JointEstimator, ConfidenceEstimator):
            with pytest.raises(InvalidRequest, match="risk"):
                kind(**settings)
        with pytest.raises(InvalidRequest, match="risk needs a head"):
            ConfidenceEstimator(calibrated=False, risk=0.05)

    def test_confidence_without_a_head_is_refused_and_a_short_probe_means_thinking(
        self, heads: Heads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
        estimator, engine = ConfidenceEstimator(max_loss=0.2, risk=0.05), ProbabilityEngine([0.9] * 5, [0.9] * 5)
        with pytest.raises(InvalidRequest, match="it has no head for the estimator 'confidence'"):
            estimator.estimate(PROMPT, DECISION, engine)
        Heads(fingerprint="", heads=heads.heads).save(heads_path(""))
        found = estimator.estimate(PROMPT, DECISION, engine)
        assert "right@0" in found.features
        assert found.token_price == 0, "nothing else than what was promised is to be weighed against it"
        short = dataclasses.replace(DECISION, limits=Limits(max_tokens=3))
        unended = ProbabilityEngine([0.9] * 3, [0.9] * 3, finish_reason="length")
        assert estimator.estimate(PROMPT, short, unended).intensity == 1
