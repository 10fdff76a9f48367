"""Information and weights of layers against cases whose truth is known; and the merges of the built-in pair."""

from __future__ import annotations

import math

import pytest
import torch

from dami_agent.evaluation import runner
from dami_agent.evaluation.consensus import MEANS, consensus_merges, information, layer_weights
from dami_agent.weights.static_merges import by_layer


def test_information_is_that_of_normal_variables() -> None:
    rng = torch.Generator().manual_seed(1)
    first, noise = torch.randn(2, 4000, 1, 6, generator=rng)
    rho = torch.tensor([0.0, 0.5, 0.9])
    low = first.expand(-1, 3, -1)
    high = rho[None, :, None] * low + (1 - rho[None, :, None] ** 2).sqrt() * noise
    expected = [-0.5 * math.log(1 - value**2) for value in rho.tolist()]
    assert information(low, high).tolist() == pytest.approx(expected, abs=0.02)
    # Neither scale nor place nor sign of a channel says anything.
    assert information(low, 3 - 5 * high).tolist() == pytest.approx(information(low, high).tolist(), abs=1e-6)


def test_channels_that_are_equal_or_constant_are_bounded() -> None:
    same = torch.randn(50, 1, 4, generator=torch.Generator().manual_seed(2))
    assert math.isfinite(float(information(same, same)))
    assert float(information(same, same)) > 4
    assert float(information(same, torch.ones(50, 1, 4))) == 0


@pytest.mark.parametrize("mean", MEANS)
def test_layers_that_share_more_get_less_of_thinking_and_the_mean_holds(mean: float) -> None:
    weights = layer_weights(torch.tensor([0.1, 2.0, 0.5, 0.5]), mean)
    assert sum(weights) / 4 == pytest.approx(mean, abs=1e-6)
    assert 1 > weights[0] > weights[2] == weights[3] > weights[1] > 0
    odds = [value / (1 - value) for value in weights]  # log odds differ by t times the information
    assert math.log(odds[0] / odds[1]) == pytest.approx(0.7 * 1.9, abs=1e-5)


def test_of_layers_that_share_alike_each_gets_the_mean() -> None:
    assert layer_weights(torch.full((3,), 1.2), 0.4) == pytest.approx([0.4] * 3, abs=1e-6)


def test_a_layer_is_merged_at_its_own_weight_and_the_rest_at_their_mean() -> None:
    merge = by_layer("acm-like", "any", [0.2, 0.6])
    low, high = torch.zeros(2), torch.ones(2)
    weights = {
        "model.layers.0.self_attn.q_proj.weight": 0.2,
        "model.layers.1.mlp.up_proj.weight": 0.6,
        "model.layers.1.input_layernorm.weight": 0.6,
        "model.embed_tokens.weight": 0.4,
        "model.norm.weight": 0.4,
    }
    for name, weight in weights.items():
        torch.testing.assert_close(merge.rule(name, low, high, None), torch.full((2,), weight))


def test_the_pair_s_layers_share_differently_much() -> None:
    session = runner.open_batch_session()
    found = consensus_merges(session)
    layers = session.engine.info.layers
    assert layers
    low, high = torch.zeros(1), torch.ones(1)
    for merge, mean in zip(found, MEANS, strict=True):
        assert (merge.method, merge.settings, merge.needs_base) == ("acm-like", f"mean λ={mean:g}", False)
        names = [f"model.layers.{layer}.mlp.up_proj.weight" for layer in range(layers)]
        weights = [float(merge.rule(name, low, high, None)) for name in names]
        assert sum(weights) / layers == pytest.approx(mean, abs=1e-5)
        assert max(weights) - min(weights) > 0.01
