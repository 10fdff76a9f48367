"""One head on hidden states and a probe knows what each of them tells, and costs what both cost."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from dami_agent import ChatDAMI
from dami_agent.errors import InvalidRequest
from dami_agent.estimators import (
    AutoEstimator,
    ConfidenceEstimator,
    JointEstimator,
    PreferenceEstimator,
    RouterEstimator,
    StagedEstimator,
    estimator_named,
)
from dami_agent.estimators.fit import fit_head, fit_heads
from dami_agent.estimators.head import Head, joint_vector, probe_vector, states_vector
from dami_agent.estimators.head_files import heads_path
from dami_agent.estimators.heads import Heads
from dami_agent.estimators.probe import MAX_PROBE_TOKENS
from dami_agent.estimators.samples import Samples
from dami_agent.types import Intensity, Limits
from tests.estimators.support import DECISION, PROMPT, Both, Reader, drawn, rows_of_the_builtin_pair
from tests.estimators.test_estimators import ProbabilityEngine


def divided(count: int, *, seed: int = 0) -> Samples:
    """Questions of two difficulties, one of which stands in the states alone and the other in the probe alone."""
    found, other = drawn(count, seed=seed), drawn(count, seed=seed + 1000)
    right = found.right * other.right  # λ=0 is right where both are easy
    right[:, 2] = found.right[:, 2]
    return dataclasses.replace(found, probes=other.probes, entropies=other.entropies, right=right)


@pytest.fixture(scope="module")
def heads() -> Heads:
    return fit_heads(divided(600), "pair-1")


@pytest.fixture(scope="module")
def joint(heads: Heads) -> Head:
    found = heads.get("joint", "plain")
    assert found is not None
    return found


def test_it_knows_what_each_of_the_two_tells(heads: Heads) -> None:
    held = divided(2000, seed=1)
    errors, told = {}, {}
    for head in heads:
        right, _ = head.predict(held.features(head.reads, head.layers))
        errors[head.reads] = float((right[:, 0] - held.right[:, 0]).square().mean())
        told[head.reads] = head.static_gain
    assert errors["joint"] < 0.7 * min(errors["states"], errors["probe"])
    assert told["joint"] > max(told["states"], told["probe"]) > 0


def test_what_it_reads_is_the_probe_then_the_states(heads: Heads, joint: Head) -> None:
    samples = divided(3, seed=2)
    layers = [samples.layers.index(layer) for layer in joint.layers]
    row = samples.features("joint", joint.layers)[1]
    assert torch.equal(row, torch.cat([samples.probes[1], samples.states[1, layers].flatten()]))
    states = [samples.states[1, layer].tolist() for layer in layers]
    told = {"instruct_min_logprob": -0.5, "probe_tokens": 5.0}
    assert torch.equal(joint_vector(told, states), torch.cat([probe_vector(told), states_vector(states)]))
    assert torch.equal(samples.overhead("joint"), samples.probe_tokens)


def test_each_part_has_its_share_of_the_components(joint: Head) -> None:
    of_probe = len(probe_vector({}))
    assert torch.equal(joint.components[:of_probe, :of_probe], torch.eye(of_probe))
    assert not joint.components[:of_probe, of_probe:].any()
    assert not joint.components[of_probe:, :of_probe].any()
    x = ((divided(600).features("joint", joint.layers) - joint.center) / joint.scale) @ joint.components
    assert torch.allclose(x[:, of_probe:].std(dim=0), torch.ones(x.shape[1] - of_probe), atol=0.01)


def test_an_estimate_is_the_heads_on_what_was_read_and_probed(heads: Heads, joint: Head) -> None:
    for place in range(20):
        states = divided(20, seed=3).states[place]
        engine = Both(states, [0.9, 0.6 + 0.01 * place])
        found = JointEstimator(heads=heads, price=0.1).estimate(PROMPT, DECISION, engine)
        probed = ConfidenceEstimator(calibrated=False).estimate(
            PROMPT, DECISION, Both(states, [0.9, 0.6 + 0.01 * place])
        )
        rows = [states[divided(1).layers.index(layer)].tolist() for layer in joint.layers]
        choice = joint.estimate(joint_vector(probed.features, rows), 2, 0.1)
        assert (found.intensity, found.candidates) == (choice.intensity, choice.candidates)
        assert found.features == {**probed.features, **choice.features}
        assert engine.reader.read == [(0.0, joint.layers)]
        assert (found.estimator, found.tokens, found.probe) == ("joint", 2, probed.probe)
        assert found.scored_tokens == len(PROMPT.token_ids) + 2
        assert found.token_price == pytest.approx(0.1 / joint.thinking_tokens)


def test_a_probe_that_was_cut_short_tells_it_nothing(heads: Heads) -> None:
    short = dataclasses.replace(DECISION, limits=Limits(max_tokens=3))
    for probability, ruled in ((0.99, 0.0), (0.3, 0.7)):
        engine = Both(divided(1).states[0], [probability] * 3)
        engine.probed.finish_reason = "length"
        found = JointEstimator(heads=heads, price=0.1).estimate(PROMPT, short, engine)
        assert (float(found.intensity), found.candidates) == (pytest.approx(ruled), ())
        assert (found.estimator, found.tokens) == ("joint", 3)
        assert JointEstimator(heads=heads, max_loss=0.3, risk=0.1).estimate(PROMPT, short, engine).intensity == 1
    longest = Both(divided(1).states[0], [0.99] * MAX_PROBE_TOKENS)
    longest.probed.finish_reason = "length"
    assert JointEstimator(heads=heads, price=0.1).estimate(PROMPT, DECISION, longest).candidates


def test_a_promise_is_the_heads_own(heads: Heads, joint: Head) -> None:
    engine = Both(divided(1).states[0], [0.9])
    found = JointEstimator(heads=heads, max_loss=0.3, risk=0.1).estimate(PROMPT, DECISION, engine)
    promised = joint.point_promised(0.3, 0.1)
    assert promised is not None
    assert (found.features["price"], found.token_price) == (promised.price, 0)
    with pytest.raises(InvalidRequest, match="a router cannot promise"):
        RouterEstimator(inner=AutoEstimator(joint=JointEstimator(risk=0.1)))
    with pytest.raises(InvalidRequest, match="cannot promise a loss"):
        StagedEstimator(joint=JointEstimator(risk=0.1))


def test_without_a_head_or_hidden_states_it_is_refused_before_anything_is_decoded(heads: Heads) -> None:
    with_states = Heads(fingerprint="pair-1", heads=heads.heads[:2])
    other = Both(divided(1).states[0], [0.5])
    for mine, match in ((with_states, "no head on hidden states and probes has been"), (None, "no head on hidden")):
        assert not JointEstimator(heads=mine).knows(PROMPT, other)
        with pytest.raises(InvalidRequest, match=match) as refused:
            JointEstimator(heads=mine).estimate(PROMPT, DECISION, other)
        assert "confidence" in str(refused.value.hint)
    unread = ProbabilityEngine([0.5], [0.5])
    with pytest.raises(InvalidRequest, match="no hidden states"):
        JointEstimator(heads=Heads(fingerprint="", heads=heads.heads)).estimate(PROMPT, DECISION, unread)
    with pytest.raises(InvalidRequest, match="another pair"):
        JointEstimator(heads=Heads(fingerprint="x", heads=heads.heads)).knows(PROMPT, other)
    assert not other.probed.asked
    assert not unread.asked


def test_staged_asks_it_where_the_pair_has_a_head_for_it(
    heads: Heads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    engine, first = Both(divided(1).states[0], [0.9]), PreferenceEstimator(price=0.3)
    priced = JointEstimator(price=0.3)  # at the rate of the first, unless it is given itself
    for mine, given, asked in (
        (heads.heads, None, priced),
        (heads.heads, JointEstimator(price=0.01), JointEstimator(price=0.01)),
        (heads.heads[:2], None, ConfidenceEstimator()),
        (heads.heads[:2], JointEstimator(price=0.01), ConfidenceEstimator()),
    ):
        Heads(fingerprint="pair-1", heads=mine).save(heads_path("pair-1"))
        staged = StagedEstimator(margin=1, preference=first, joint=given)
        found, alone = staged.estimate(PROMPT, DECISION, engine), asked.estimate(PROMPT, DECISION, engine)
        assert (found.intensity, found.candidates) == (alone.intensity, alone.candidates)
        before = first.estimate(PROMPT, DECISION, engine)
        assert found.scored_tokens == before.scored_tokens + alone.scored_tokens
        assert found.features.get("price") == alone.features.get("price")
        assert found.features["probed"] == 1
    with_tools = dataclasses.replace(PROMPT, tools=1)  # of which no head has learned
    Heads(fingerprint="pair-1", heads=heads.heads).save(heads_path("pair-1"))
    found = StagedEstimator(margin=1, preference=first).estimate(with_tools, DECISION, engine)
    assert found.intensity == ConfidenceEstimator().estimate(with_tools, DECISION, engine).intensity == 0
    assert "right@0" not in found.features


def test_the_states_of_a_probed_prompt_are_those_of_an_unprobed_one(heads: Heads) -> None:
    """The head sees what it learned from: states of the prompt alone, whatever was decoded behind it."""
    assert fit_head(divided(200), "joint").read_at == Intensity(0)
    reader = Reader(divided(1).states[0])
    engine = Both(divided(1).states[0], [0.9])
    JointEstimator(heads=heads, price=0.1).estimate(PROMPT, DECISION, engine)
    PreferenceEstimator(heads=heads, price=0.1).estimate(PROMPT, DECISION, reader)
    assert [at for at, _ in engine.reader.read] == [at for at, _ in reader.read]


def test_the_built_in_pair_has_it_and_its_ledger_counts_what_it_took() -> None:
    assert isinstance(estimator_named("joint"), JointEstimator)
    rows = rows_of_the_builtin_pair("joint", 12)
    assert {row.estimator for row in rows} == {"joint"}
    for row in rows:
        assert row.probe_tokens == (row.features["probe_tokens"] if row.intensity > 0 else 0)
        assert row.output_tokens == row.reasoning_tokens + row.answer_tokens + row.probe_tokens
    assert len({row.used for row in rows}) > 1


def test_the_built_in_pair_asks_it_of_questions_where_nobody_names_another() -> None:
    reply = ChatDAMI(seed=1, max_tokens=200).invoke("Start with 7. Add 5. Multiply by 3. What is the result?")
    told = reply.response_metadata["estimate"]
    assert told["estimator"] == "joint"
    assert {"confidence", "right@0", "right@1"} <= set(told["features"])
