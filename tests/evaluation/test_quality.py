"""The comparison of methods on samples whose truth is known: who must win, by how much, and what must not help."""

from __future__ import annotations

import pytest
import torch

from dami_agent.estimators.head import entropy_vector
from dami_agent.estimators.samples import Samples
from dami_agent.evaluation.early_exit import Trials, exits
from dami_agent.evaluation.quality import BUDGETS, compare_methods, mixed
from dami_agent.evaluation.rivals import Point
from dami_agent.evaluation.votes import Votes
from dami_agent.tasks import FAMILIES
from dami_agent.types import Intensity

LAMBDAS = tuple(map(Intensity, (0, 0.5, 1)))


def samples(count: int, seed: int, *, telling: bool = True) -> Samples:
    """Draw questions that need λ=1, .5 or 0; with ``telling``, states and probes say which."""
    rng = torch.Generator().manual_seed(seed)
    need = torch.randint(0, 3, (count,), generator=rng)
    shown = need if telling else torch.randint(0, 3, (count,), generator=rng)
    noise = torch.randn(count, 1, 8, generator=rng) * 0.1
    states = torch.nn.functional.one_hot(shown, 8).float()[:, None] + noise
    weakest = -0.02 - 1.5 * shown.float() + noise[:, 0, 0]
    probes = torch.stack([weakest, weakest, 2 * weakest, 2 * weakest, *[torch.zeros(count)] * 4], dim=1)
    return Samples(
        layers=(1,),
        states=states,
        probes=probes,
        entropies=torch.stack([entropy_vector({"entropy": -each}) for each in weakest.tolist()]),
        probe_tokens=torch.full((count,), 4.0),
        tools=torch.zeros(count),
        groups=torch.arange(count).float(),
        lambdas=LAMBDAS,
        right=(torch.arange(3)[None] >= need[:, None]).float(),
        tokens=torch.tensor([10.0, 100.0, 200.0]).expand(count, 3) + noise[:, 0, :3],
    )


def families(count: int) -> list[str]:
    return [FAMILIES[place % len(FAMILIES)] for place in range(count)]


@pytest.fixture(scope="module")
def told() -> dict:
    return compare_methods(samples(300, 1), samples(400, 2), families(300), families(400))


def test_a_head_that_can_tell_gets_most_of_what_the_oracle_gets(told: dict) -> None:
    assert [budget["share"] for budget in told["budgets"]] == list(BUDGETS)
    last = told["budgets"][-1]
    assert told["thinking"] == {"accuracy": 1.0, "tokens": pytest.approx(200, abs=1)}
    assert last["accuracy"] > 0.98
    assert last["tokens"] < 0.66 * 200
    assert last["oracle_share"] > 0.9
    for rival in ("fixed", "shuffled", "gate"):
        assert last["gains"][rival]["gain"] > max(0.02, last["gains"][rival]["ci"])
    assert last["gains"]["router"]["gain"] > 0  # it has no use for λ=.5
    assert told["even"]["tokens"] < 0.6
    assert told["even"]["gain"] >= -0.02
    assert told["at_most_thinking"]["gain"] == pytest.approx(0, abs=0.01)
    areas = told["areas"]
    assert areas["oracle"] >= areas[told["method"]] > areas["router"] > areas["fixed"] > 0
    assert areas["fixed"] >= areas["shuffled"] - 0.02


def test_what_was_learned_of_other_families_carries_over_where_they_are_alike(told: dict) -> None:
    for budget in told["budgets"]:
        assert budget["other_families_over_fixed"]["gain"] == pytest.approx(budget["gains"]["fixed"]["gain"], abs=0.1)


def test_a_head_that_can_tell_nothing_gains_nothing() -> None:
    told = compare_methods(samples(300, 3, telling=False), samples(400, 4, telling=False), families(300), families(400))
    for budget in told["budgets"]:
        for rival in ("fixed", "shuffled"):
            assert abs(budget["gains"][rival]["gain"]) < budget["gains"][rival]["ci"] + 0.04


def test_a_mix_costs_what_it_may_and_no_more() -> None:
    cheap, dear = (
        Point(torch.full((4,), right), torch.full((4,), cost)) for right, cost in ((0.5, 10.0), (0.9, 110.0))
    )
    assert mixed([cheap, dear], 60).tolist() == pytest.approx([0.7] * 4)
    assert mixed([cheap, dear], 500).tolist() == pytest.approx([0.9] * 4)
    worse = Point(torch.full((4,), 0.4), torch.full((4,), 50.0))
    assert mixed([cheap, worse, dear], 60).tolist() == pytest.approx([0.7] * 4)


def test_thinking_that_is_stopped_or_asked_again_is_held_against_it_where_it_was_sampled() -> None:
    tested = samples(400, 2)
    thinking = tested.right[:, -1:]
    trials = Trials(
        right=torch.cat([tested.right[:, :1], thinking], dim=1),
        tokens=torch.tensor([[60.0, 110.0]]).expand(400, 2),
        answer_tokens=torch.full((400, 2), 10.0),
        confidence=torch.cat([tested.right[:, :1], thinking], dim=1) * 0.97,
        whole=torch.zeros(400, 2),
    )
    votes = Votes(  # all three agree
        right=thinking.expand(400, 3),
        tokens=torch.tensor([[200.0, 210.0, 220.0]]).expand(400, 3),
        confidence=torch.full((400, 3), 0.97),
        answers=torch.zeros(400, 3, dtype=torch.int64),
    )
    found = compare_methods(samples(300, 1), tested, families(300), families(400), trials, votes)
    assert len(found["curves"]["caps"]) == 2
    assert found["curves"]["caps"][1] == {"accuracy": 1.0, "tokens": 110.0}
    # Sure just where it is right: a third of the questions end at the first cap, the rest pay for two answers.
    right, tokens = exits(trials, tested.right[:, -1], tested.tokens[:, -1], 0.95)
    share = float(tested.right[:, 0].mean())
    assert float(right.mean()) == 1.0
    assert float(tokens.mean()) == pytest.approx(share * 60 + (1 - share) * 120, rel=1e-4)
    several = {"majority", "adaptive votes", "retry"}
    assert {"caps", "early exit", *several} <= found["budgets"][0]["gains"].keys() & found["areas"].keys()
    assert found["curves"]["majority"] == [{"accuracy": 1.0, "tokens": cost} for cost in (410.0, 630.0)]
    assert found["curves"]["adaptive votes"] == [{"accuracy": 1.0, "tokens": 410.0}]
    assert [found["curves"]["retry"][place]["tokens"] for place in (0, -1)] == [200.0, 410.0]
    for budget in found["budgets"]:  # with λ=0, replies that change nothing are worth the ends of the path
        assert budget["gains"]["majority"] == budget["gains"]["adaptive votes"] == budget["gains"]["retry"]
