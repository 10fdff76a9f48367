"""A head reads prompts at the λ that its samples were read at, and the reply begins with what it read."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from dami_agent.checkpoints.builtin_folder import builtin_folder
from dami_agent.estimators import PreferenceEstimator
from dami_agent.estimators.fit import fit_heads
from dami_agent.estimators.heads import Heads
from dami_agent.estimators.samples import Samples
from dami_agent.evaluation.samples import states_read_at
from dami_agent.policy import Frontier
from dami_agent.types import Intensity
from tests.estimators.support import DECISION, PROMPT, Reader, drawn


@pytest.fixture(scope="module")
def samples() -> Samples:
    return dataclasses.replace(drawn(200), read_at=Intensity(1))


def test_heads_on_states_read_where_they_learned_to_and_heads_on_probes_say_nothing_of_it(
    samples: Samples, tmp_path: Path
) -> None:
    samples.save(tmp_path / "samples.safetensors", "x")
    again = Samples.load(tmp_path / "samples.safetensors", "x")
    fit_heads(again, "pair-1").save(tmp_path / "heads.safetensors")
    heads = Heads.load(tmp_path / "heads.safetensors")
    assert {head.reads: float(head.read_at) for head in heads} == {"states": 1, "probe": 0, "joint": 1, "entropy": 0}
    engine = Reader(samples.states[0])
    PreferenceEstimator(heads=heads, price=0.1).estimate(PROMPT, DECISION, engine)
    assert [value for value, _ in engine.read] == [1.0]


def test_heads_that_read_at_another_lambda_are_others(samples: Samples) -> None:
    heads = fit_heads(samples, "pair-1")
    at_zero = Heads(fingerprint="pair-1", heads=tuple(dataclasses.replace(h, read_at=Intensity(0)) for h in heads))
    assert heads.digest != at_zero.digest


def test_states_are_read_as_the_prompts_of_replies_are() -> None:
    frontier = Frontier.from_file(builtin_folder() / "frontier.json")
    assert states_read_at(frontier) == frontier.prefix_intensity == 1
    assert states_read_at(dataclasses.replace(frontier, prefix_intensity=None)) == 0
