"""λ(q) from the entropy of a probe: the number itself, the threshold, and what a head makes of a U."""

from __future__ import annotations

import dataclasses
import math
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dami_agent import ChatDAMI
from dami_agent.errors import InvalidRequest
from dami_agent.estimators import EntropyEstimator, estimator_named
from dami_agent.estimators.entropy import ALTERNATIVES, mean_entropy, token_entropy
from dami_agent.estimators.fit import fit_head
from dami_agent.estimators.head import entropy_vector
from dami_agent.estimators.head_files import heads_path
from dami_agent.estimators.heads import Heads
from dami_agent.evaluation.runner import open_batch_session
from dami_agent.types import Decision, Generation, Intensity, Limits, Message, Prompt, Sampling, Step, TokenEvent
from dami_agent.types import TokenLogprob as Logprob
from tests.estimators.support import DECISION, PROMPT, drawn
from tests.estimators.test_estimators import Job, ProbabilityEngine

weights = st.lists(st.floats(1e-6, 1), min_size=2, max_size=40)


def alternatives(shares: Sequence[float], known: int, chosen: int = 0) -> Logprob:
    """What an engine says of a distribution of which ``known`` likeliest tokens are asked for."""
    ranked = sorted(enumerate(shares), key=lambda each: -each[1])[:known]
    top = tuple((token, math.log(share)) for token, share in ranked)
    return Logprob(token_id=chosen, logprob=math.log(shares[chosen]), top=top)


def shares_of(raw: Sequence[float]) -> list[float]:
    return [each / sum(raw) for each in raw]


@given(weights)
def test_entropy_is_that_of_the_distribution_where_all_of_it_is_known(raw: list[float]) -> None:
    shares = shares_of(raw)
    whole = -sum(share * math.log(share) for share in shares)
    assert token_entropy(alternatives(shares, len(shares))) == pytest.approx(whole, abs=1e-9)


@given(weights, st.integers(1, 40), st.integers(0, 39))
def test_what_is_not_known_makes_it_a_lower_bound(raw: list[float], known: int, chosen: int) -> None:
    shares = shares_of(raw)
    whole = -sum(share * math.log(share) for share in shares)
    found = token_entropy(alternatives(shares, known, chosen % len(shares)))
    assert -1e-9 <= found <= whole + 1e-9
    rest = 1 - sum(sorted(shares)[-known:])
    assert found >= whole - max(rest, 0) * math.log(len(shares)) - 1e-9  # by no more than the rest can hold


def test_nothing_known_is_no_entropy() -> None:
    bare = TokenEvent(token_id=1, part="answer", logprob=Logprob(token_id=1, logprob=-0.5))
    assert mean_entropy([bare, TokenEvent(token_id=1, part="answer")]) is None
    two = [TokenEvent(token_id=0, part="answer", logprob=alternatives([0.5, 0.5], 2)), bare]
    assert mean_entropy(two) == pytest.approx(math.log(2))


@dataclass
class EvenEngine(ProbabilityEngine):
    """Draws each token from so many equally likely ones, as ``own`` says."""

    def submit(self, prompt: Prompt, decision: Decision) -> Job:
        self.asked.append(decision)
        events = tuple(
            TokenEvent(
                token_id=0, part="answer", logprob=alternatives([1 / n] * int(n), decision.sampling.logprobs or 0)
            )
            for n in self.own
        )
        ended = Generation(
            events=events, finish_reason=self.finish_reason, intensity=Intensity(0), sampling=decision.sampling
        )
        return Job(ended)


def test_the_threshold_decides_where_there_are_no_heads() -> None:
    engine = EvenEngine([2, 2, 1, 1], [])
    for threshold, intensity in ((math.log(2) / 2 + 1e-6, 0), (math.log(2) / 2 - 1e-6, 1)):
        found = EntropyEstimator(threshold=threshold).estimate(PROMPT, DECISION, engine)
        assert found.features["entropy"] == pytest.approx(math.log(2) / 2)
        assert (found.intensity, found.tokens, found.scored_tokens) == (intensity, 4, 0)
    assert engine.scored == []  # Thinking is not asked
    assert EntropyEstimator().estimate(PROMPT, DECISION, EvenEngine([], [])).intensity == 1  # an empty probe


def test_the_probe_asks_for_alternatives_within_the_callers_own_caps() -> None:
    engine = EvenEngine([2], [])
    decision = dataclasses.replace(DECISION, limits=Limits(max_tokens=7), sampling=Sampling(seed=3))
    EntropyEstimator().estimate(PROMPT, decision, engine)
    EntropyEstimator(probe_tokens=5).estimate(
        PROMPT, dataclasses.replace(DECISION, sampling=Sampling(logprobs=40)), engine
    )
    first, second = engine.asked
    assert (first.intensity, first.limits.max_tokens) == (0, 7)
    assert (first.sampling.seed, first.sampling.logprobs) == (3, ALTERNATIVES)
    assert (second.limits.max_tokens, second.sampling.logprobs) == (5, 40)


def test_an_engine_without_alternatives_is_refused_with_a_way_out() -> None:
    with pytest.raises(InvalidRequest, match="no alternatives") as caught:
        EntropyEstimator().estimate(PROMPT, DECISION, ProbabilityEngine([0.5], [0.5]))
    assert "confidence" in str(caught.value.hint)


def test_a_head_knows_that_entropy_is_a_u(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instruct is right where entropy lies in the middle: no threshold says so, and the head does."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    rng = torch.Generator().manual_seed(5)
    entropy = 2 * torch.rand(600, generator=rng)
    middle = ((entropy > 0.5) & (entropy < 1.3)).float()
    samples = dataclasses.replace(
        drawn(600, told=False),
        entropies=torch.stack([entropy_vector({"entropy": each}) for each in entropy.tolist()]),
        right=torch.stack([middle, middle, torch.ones(600)], dim=1),
    )
    head = fit_head(samples, "entropy")
    assert head.pays()
    Heads(fingerprint="", heads=(head,)).save(heads_path(""))
    estimator = EntropyEstimator(max_loss=0.05)
    chosen = {n: estimator.estimate(PROMPT, DECISION, EvenEngine([n], [])) for n in (1, 2, 7)}
    assert [float(each.intensity) for each in chosen.values()] == [1, 0, 1]
    assert chosen[2].features["right@0"] > 0.8
    ruled = EntropyEstimator(calibrated=False).estimate(PROMPT, DECISION, EvenEngine([1], []))
    assert (ruled.intensity, "right@0" in ruled.features) == (0, False)
    cut = EvenEngine([1, 1], [], finish_reason="length")  # a shorter probe than those it learned from
    assert "right@0" not in estimator.estimate(PROMPT, DECISION, cut).features
    with pytest.raises(InvalidRequest, match="no head for the estimator 'entropy'"):
        EntropyEstimator(risk=0.1).estimate(dataclasses.replace(PROMPT, tools=1), DECISION, EvenEngine([1], []))


def test_the_built_in_pair_agrees_with_its_own_distributions() -> None:
    session = open_batch_session()
    step = Step(messages=(Message(role="user", content="What is 17 + 26?"),), sampling=Sampling(seed=1))
    prompt = session.dialogue.render(step, "instruct")
    decision = dataclasses.replace(DECISION, sampling=step.sampling)
    found = EntropyEstimator(calibrated=False).estimate(prompt, decision, session.engine)
    assert found.probe is not None
    everything = dataclasses.replace(
        decision,
        sampling=Sampling(seed=1, logprobs=session.engine.info.vocab_size),
        limits=Limits(max_tokens=found.tokens),
    )
    whole = session.engine.generate(prompt, everything)
    assert whole.token_ids == found.probe.token_ids
    exact = mean_entropy(whole.events)
    assert exact is not None
    assert found.features["entropy"] == pytest.approx(exact, rel=0.05)
    assert found.features["entropy"] <= exact + 1e-6


def test_a_model_asks_it_by_name_and_shows_no_more_than_was_asked_for() -> None:
    for settings, shown in (({}, None), ({"logprobs": True}, 0), ({"logprobs": True, "top_logprobs": 2}, 2)):
        reply = ChatDAMI(estimator="entropy", ledger="off", seed=1).invoke("What is 2 + 3?", **settings)
        told = reply.response_metadata
        assert told["estimate"]["estimator"] == "entropy"
        assert told["intensity"] == 0  # so the probe is the answer
        assert ("logprobs" in told) == (shown is not None)
        if shown is not None:
            assert {len(entry["top_logprobs"]) for entry in told["logprobs"]["content"]} == {shown}
    assert isinstance(estimator_named("entropy"), EntropyEstimator)


@pytest.mark.parametrize(
    ("field", "value"),
    [("threshold", -0.1), ("threshold", math.nan), ("probe_tokens", 0), ("max_loss", 2), ("price", -1), ("risk", 0.9)],
)
def test_numbers_that_make_no_sense_are_refused(field: str, value: float) -> None:
    with pytest.raises(InvalidRequest, match=field):
        EntropyEstimator(**{field: value})  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="risk"):
        EntropyEstimator(calibrated=False, risk=0.05)


def test_it_can_be_sent_to_another_process() -> None:
    estimator = EntropyEstimator(threshold=0.3)
    assert pickle.loads(pickle.dumps(estimator)) == estimator
