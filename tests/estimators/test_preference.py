"""A head finds what the states tell of right and wrong, is honest about the rest, and chooses by price."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from dami_agent.errors import InvalidRequest
from dami_agent.estimators import ConfidenceEstimator, PreferenceEstimator, estimator_named, judge
from dami_agent.estimators.fit import fit_head, fit_heads
from dami_agent.estimators.head import READ_STATES, Head, Reads, with_overhead
from dami_agent.estimators.head_files import heads_path
from dami_agent.estimators.heads import Heads, find_heads
from dami_agent.estimators.preference import MAX_LOSS
from dami_agent.estimators.samples import Samples
from dami_agent.types import Limits
from tests.estimators.support import DECISION, HIDDEN, LAMBDAS, LAYERS, PROMPT, Reader, drawn, only
from tests.estimators.test_estimators import ProbabilityEngine

# ---- what it learns -----------------------------------------------------------------------------------------------


def test_it_beats_every_mix_of_fixed_lambdas_on_what_it_never_saw(head: Head) -> None:
    assert head.reads not in READ_STATES or 4 in head.layers  # where the states tell it
    held = drawn(2000, seed=1)
    right, tokens = head.predict(held.features(head.reads, head.layers))
    found = judge.report(held, right, tokens)
    assert found["auc"][0] > 0.97
    assert found["calibration_error"] < 0.05
    assert found["preferences"] > 0.65
    points = judge.points(held, head, right, tokens)
    assert max(p.static_gain - p.static_gain_ci for p in points) > 0.1
    own = {p.price: p for p in head.prices}  # what it says of itself, from folds left out, is what comes true
    for point in points:
        assert own[point.price].accuracy == pytest.approx(point.accuracy, abs=0.06)
        assert own[point.price].tokens == pytest.approx(point.tokens, rel=0.15)


@pytest.mark.parametrize("reads", ["states", "probe", "joint", "entropy"])
def test_features_that_tell_nothing_promise_nothing(reads: Reads) -> None:
    blind = fit_head(drawn(600, told=False), reads)
    assert blind.card["auc"][0] == pytest.approx(0.5, abs=0.07)
    assert all(p.static_gain - p.static_gain_ci <= 0.01 for p in blind.prices)
    assert not blind.pays()


def test_a_probe_that_is_thrown_away_is_paid_for(heads: Heads) -> None:
    held = drawn(500, seed=2)
    for head in heads:
        right, tokens = head.predict(held.features(head.reads, head.layers))
        shares = []
        for point in judge.points(held, head, right, tokens):
            places = head.choose(right, with_overhead(tokens, held.overhead(head.reads)), point.price)
            shares.append((places > 0).float().mean().item())
            replies = held.tokens[torch.arange(len(held)), places].mean().item()
            paid = 0 if head.reads == "states" else 5 * shares[-1]
            assert point.tokens - replies == pytest.approx(paid, abs=1e-3)
        assert min(shares) < 0.5 < max(shares)


def test_steps_of_one_task_are_left_out_together() -> None:
    """Features that tell the task and nothing of its difficulty: what looks good by rows is worth nothing anew."""
    count, steps = 40, 5
    rng = torch.Generator().manual_seed(2)
    hard = torch.rand(count, generator=rng).repeat_interleave(steps)
    right = torch.stack([(hard < 0.4).float(), (hard < 0.6).float(), torch.ones(count * steps)], dim=1)
    who = torch.randn(count, len(LAYERS), 2 * HIDDEN, generator=rng).repeat_interleave(steps, dim=0)
    samples = dataclasses.replace(drawn(count * steps), states=who, right=right)
    grouped = dataclasses.replace(samples, groups=torch.arange(count).repeat_interleave(steps).float())
    fooled, honest = fit_head(samples, "states"), fit_head(grouped, "states")
    assert fooled.card["auc"][0] > 0.9
    assert honest.card["auc"][0] < 0.75
    assert not honest.pays()
    right, tokens = fooled.predict(samples.features("states", fooled.layers))
    rows, tasks = (judge.points(each, fooled, right, tokens) for each in (samples, grouped))
    for row, task in zip(rows, tasks, strict=True):  # and the intervals know it
        assert row.gain == task.gain
        assert task.gain_ci >= 1.5 * row.gain_ci
    assert tasks[-1].gain_ci > 0


def test_prompts_with_tools_and_without_have_heads_of_their_own() -> None:
    one, other = drawn(300, seed=6), drawn(40, seed=7, tools=True)
    names = ("states", "probes", "entropies", "probe_tokens", "tools", "groups", "right", "tokens")
    joined = {name: torch.cat([getattr(one, name), getattr(other, name)]) for name in names}
    both = Samples(layers=LAYERS, lambdas=LAMBDAS, **joined)
    assert (len(both.of("plain")), len(both.of("tools"))) == (300, 40)
    found = {(h.reads, h.kind) for h in fit_heads(both, "pair-1")}
    assert found == {("states", "plain"), ("probe", "plain"), ("joint", "plain"), ("entropy", "plain")}
    with pytest.raises(InvalidRequest, match="40 prompts"):
        fit_heads(other, "pair-1")


def test_a_higher_price_never_buys_more_tokens(head: Head) -> None:
    held = drawn(500, seed=2)
    right, tokens = head.predict(held.features(head.reads, head.layers))
    rows = torch.arange(len(held))
    spent = [tokens[rows, head.choose(right, tokens, price)].mean().item() for price in judge.PRICES]
    assert spent == sorted(spent, reverse=True)
    assert spent[0] > 2 * spent[-1]


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=4, max_size=30), st.floats(5, 300))
def test_the_best_mix_of_two_fixed_lambdas_is_found(rows: list[tuple[bool, bool, bool]], budget: float) -> None:
    right = torch.tensor(rows, dtype=torch.float32)
    tokens = torch.tensor([10.0, 100.0, 200.0]).expand(len(rows), 3)
    nothing = torch.zeros(len(rows))
    samples = Samples(
        layers=(1,),
        states=torch.zeros(len(rows), 1, 2),
        probes=torch.zeros(len(rows), 8),
        entropies=torch.zeros(len(rows), 3),
        probe_tokens=nothing,
        tools=nothing,
        groups=torch.arange(len(rows)).float(),
        lambdas=LAMBDAS,
        right=right,
        tokens=tokens,
    )
    found = float(judge.static_mix(samples, budget).mean())
    means, counts = right.mean(dim=0).tolist(), [10.0, 100.0, 200.0]
    tried = [  # every share of every two, in steps of a percent
        s * means[j] + (1 - s) * means[i]
        for i in range(3)
        for j in range(3)
        for s in [k / 100 for k in range(101)]
        if s * counts[j] + (1 - s) * counts[i] <= max(budget, 10)
    ]
    assert found == pytest.approx(max(tried), abs=0.012)


def test_too_few_questions_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="99 prompts"):
        fit_head(drawn(99), "states")


def test_lambdas_at_which_all_are_right_or_none_can_be_fitted() -> None:
    samples = drawn(200)
    right = samples.right.clone()
    right[:, 0], right[:, 2] = 0, 1
    head = fit_head(dataclasses.replace(samples, right=right), "states")
    assert head.card["auc"][0] is None
    p, _ = head.predict(samples.features("states", head.layers))
    assert p[:, 0].max() < 0.1
    assert p[:, 2].min() > 0.9


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    samples = drawn(10)
    with pytest.raises(InvalidRequest, match="right has the shape"):
        dataclasses.replace(samples, right=samples.right[:, :2])
    with pytest.raises(InvalidRequest, match="5 are named"):
        dataclasses.replace(samples, layers=LAYERS[:5])


# ---- their file ---------------------------------------------------------------------------------------------------


def test_what_is_saved_is_what_is_loaded(heads: Heads, tmp_path: Path) -> None:
    heads.save(tmp_path / "deep" / "heads.safetensors")
    again = Heads.load(tmp_path / "deep" / "heads.safetensors")
    assert again.fingerprint == heads.fingerprint
    for head, other in zip(heads, again, strict=True):
        for field in dataclasses.fields(Head):
            mine, its = getattr(head, field.name), getattr(other, field.name)
            assert torch.equal(mine, its) if isinstance(mine, torch.Tensor) else mine == its


@pytest.mark.parametrize("content", [None, b"", b"not a head", b'{"a": 1}'])
def test_a_file_that_holds_no_heads_is_refused_with_its_name(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "heads.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidRequest, match=r"heads\.safetensors"):
        PreferenceEstimator(heads=path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"right": torch.zeros(3, 3)}, "right has the shape"),
        ({"length": torch.zeros(3, 2)}, "length has the shape"),
        ({"prices": ()}, "prices"),
        ({"center": torch.full((48,), float("nan"))}, "finite"),
        ({"lambdas": LAMBDAS[::-1]}, "rise from 0 to 1"),
        ({"kind": "odd"}, "odd"),
        ({"layers": (1, 2, 3, 4, 5)}, "features are not"),
        ({"reads": "joint", "layers": (1, 2, 3)}, "40 features are not the last and mean states of 3 layers"),
        ({"reads": "probe"}, "48 features are not those of a probe"),
    ],
)
def test_numbers_that_do_not_fit_each_other_are_refused(
    heads: Heads, change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "heads.safetensors"
    head = heads.get("states", "plain")
    assert head is not None
    only(dataclasses.replace(head, **change)).save(path)
    with pytest.raises(InvalidRequest, match=said):
        Heads.load(path)


def test_another_kind_of_safetensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "heads.safetensors"
    save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(InvalidRequest, match="format"):
        Heads.load(path)
    with pytest.raises(InvalidRequest, match="format"):
        Samples.load(path, "pair-1")


def test_samples_are_kept_for_their_own_pair(tmp_path: Path) -> None:
    samples, path = drawn(20), tmp_path / "samples.safetensors"
    samples.save(path, "pair-1")
    again = Samples.load(path, "pair-1")
    assert torch.equal(again.states, samples.states)
    assert (again.layers, again.lambdas) == (samples.layers, samples.lambdas)
    with pytest.raises(InvalidRequest, match="another pair"):
        Samples.load(path, "pair-2")


# ---- the estimators -----------------------------------------------------------------------------------------------


def test_an_easy_prompt_gets_little_and_a_hard_one_much(heads: Heads) -> None:
    samples = drawn(400, seed=3)
    estimator = PreferenceEstimator(heads=heads, max_loss=0.02)
    chosen = [
        float(estimator.estimate(PROMPT, DECISION, Reader(samples.states[i])).intensity) for i in range(len(samples))
    ]
    easy = [value for value, right in zip(chosen, samples.right[:, 0].tolist(), strict=True) if right]
    hard = [value for value, right in zip(chosen, samples.right[:, 1].tolist(), strict=True) if not right]
    assert sum(value == 0 for value in easy) > 0.8 * len(easy)
    assert sum(value == 1 for value in hard) > 0.8 * len(hard)


def test_an_estimate_says_what_it_saw_and_what_it_cost(heads: Heads) -> None:
    engine = Reader(drawn(1, seed=4).states[0])
    found = PreferenceEstimator(heads=heads, price=0.1).estimate(PROMPT, DECISION, engine)
    head = heads.get("states", "plain")
    assert head is not None
    assert engine.read == [(0.0, head.layers)]
    assert found.estimator == "preference"
    assert (found.tokens, found.scored_tokens) == (0, 4)
    assert found.features["price"] == 0.1
    assert 0 <= found.features["right@0.5"] <= 1
    assert found.features["tokens@1"] > found.features["tokens@0"]
    assert found.token_price == pytest.approx(0.1 / head.thinking_tokens)
    for each in found.candidates:
        right, tokens = (found.features[f"{what}@{each.intensity:g}"] for what in ("right", "tokens"))
        assert found.value(each.intensity) == pytest.approx(right - tokens * found.token_price, abs=1e-5)
    assert found.value(found.intensity) == max(each.value or 0.0 for each in found.candidates)


def test_confidence_goes_by_the_pairs_head_where_there_is_one(
    heads: Heads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    estimator, sure, unsure = (
        ConfidenceEstimator(),
        ProbabilityEngine([0.999] * 5, [0.999] * 5),
        ProbabilityEngine([0.05] * 5, [0.05] * 5),
    )
    assert "right@0" not in estimator.estimate(PROMPT, DECISION, sure).features  # no head yet: the rule
    Heads(fingerprint="", heads=heads.heads).save(heads_path(""))
    for engine, intensity in ((sure, 0.0), (unsure, 1.0)):
        found = estimator.estimate(PROMPT, DECISION, engine)
        assert found.intensity == intensity
        assert found.features["right@0"] == pytest.approx(1 - intensity, abs=0.2)
        assert found.tokens == 5
    assert estimator.estimate(PROMPT, DECISION, unsure).features["price"] == pytest.approx(
        heads.heads[1].point_within(MAX_LOSS).price
    )
    assert "right@0" not in ConfidenceEstimator(calibrated=False).estimate(PROMPT, DECISION, unsure).features
    short = dataclasses.replace(DECISION, limits=Limits(max_tokens=3))  # no probe like those it learned from
    unended = ProbabilityEngine([0.05] * 3, [0.05] * 3, finish_reason="length")
    assert "right@0" not in estimator.estimate(PROMPT, short, unended).features
    assert "right@0" not in estimator.estimate(dataclasses.replace(PROMPT, tools=1), DECISION, unsure).features


def test_the_price_rises_while_no_more_is_lost(head: Head) -> None:
    def at(*gains: float, groups: int = 500) -> Head:
        points = [dataclasses.replace(head.prices[0], price=i / 10, gain=gain) for i, gain in enumerate(gains)]
        return dataclasses.replace(head, prices=tuple(points), card={"prompts": 500, "groups": groups})

    assert at(0.0, 0.01, 0.0, -0.001, -0.3).point_within(0.0).price == 0.1  # against the best it can do
    assert at(0.0, 0.01, 0.0, -0.001, -0.3).point_within(0.01).price == 0.2
    assert at(0.0, 0.01, 0.0, -0.001, -0.3).point_within(0.011).price == 0.3
    assert at(0.0, 0.01, -0.1, 0.01).point_within(0.001).price == 0.3
    assert at(0.0, 0.01, -0.1, 0.009).point_within(0.001).price == 0.1  # a lucky one beyond a bad one is luck
    assert at(-0.03, -0.02, -0.021, -0.3).point_within(0.002).price == 0.2
    assert at(-0.002000001).point_within(0.002).price == 0
    for allowed, price in ((0.01, 0.0), (0.039, 0.0), (0.041, 0.1)):  # four steps: a hundredth each loses four tasks
        assert at(0.0, -0.01, -0.3, groups=125).point_within(allowed).price == price


def test_a_card_counts_prompts_and_what_hangs_together() -> None:
    samples = dataclasses.replace(drawn(400), groups=torch.arange(100).repeat_interleave(4).float())
    card = fit_head(samples, "probe").card
    assert (card["prompts"], card["groups"]) == (400, 100)


def test_another_pair_is_refused(heads: Heads) -> None:
    with pytest.raises(InvalidRequest, match="another pair"):
        PreferenceEstimator(heads=heads).estimate(PROMPT, DECISION, Reader(drawn(1).states[0], "pair-2"))


def test_the_heads_of_the_engines_pair_are_found_in_the_data_folder(
    heads: Heads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    engine = Reader(drawn(1).states[0], "pair-in-the-folder")
    estimator = estimator_named("preference")
    with pytest.raises(InvalidRequest, match="no head on hidden states has been trained") as caught:
        estimator.estimate(PROMPT, DECISION, engine)
    assert "train-estimator" in str(caught.value.hint)
    Heads(fingerprint="pair-in-the-folder", heads=heads.heads).save(heads_path("pair-in-the-folder"))
    assert estimator.estimate(PROMPT, DECISION, engine).intensity in LAMBDAS
    with_tools = dataclasses.replace(PROMPT, tools=2)  # no head of their own: the other one
    assert estimator.estimate(with_tools, DECISION, engine).intensity in LAMBDAS


def test_what_is_retrained_is_read_anew(heads: Heads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    for tokens in (100.0, 200.0):
        only(dataclasses.replace(heads.heads[0], thinking_tokens=tokens)).save(heads_path("pair-1"))
        found = find_heads("pair-1")
        assert found is not None
        assert found.heads[0].thinking_tokens == tokens


def test_equal_heads_look_equal_in_cache_keys_and_others_do_not(heads: Heads) -> None:
    again = pickle.loads(pickle.dumps(heads))
    assert repr(PreferenceEstimator(heads=heads)) == repr(PreferenceEstimator(heads=again))
    other = only(dataclasses.replace(heads.heads[0], right=heads.heads[0].right + 1e-3))
    assert repr(only(heads.heads[0])) != repr(other)
    assert "tensor" not in repr(heads)


def test_an_engine_without_hidden_states_is_refused_with_a_way_out(heads: Heads) -> None:
    unread = Heads(fingerprint="", heads=heads.heads)
    with pytest.raises(InvalidRequest, match="no hidden states") as caught:
        PreferenceEstimator(heads=unread).estimate(PROMPT, DECISION, ProbabilityEngine([0.5], [0.5]))
    assert "confidence" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_loss", -0.1), ("max_loss", float("nan")), ("max_loss", 2), ("price", -1), ("price", float("inf"))],
)
def test_numbers_that_make_no_sense_are_refused(field: str, value: float) -> None:
    for estimator in (PreferenceEstimator, ConfidenceEstimator):
        with pytest.raises(InvalidRequest, match=field):
            estimator(**{field: value})  # type: ignore[arg-type]


def test_it_can_be_copied_and_sent_to_another_process(heads: Heads) -> None:
    samples = drawn(3, seed=5)
    estimator = PreferenceEstimator(heads=heads, max_loss=0.02)
    again = pickle.loads(pickle.dumps(estimator))
    for states in samples.states:
        one = estimator.estimate(PROMPT, DECISION, Reader(states))
        other = again.estimate(PROMPT, DECISION, Reader(states))
        assert one.features == other.features
