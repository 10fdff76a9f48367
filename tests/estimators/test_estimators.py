"""λ(q) from scripted probabilities: the formula against its plain reading, and what the engine is asked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dami_agent.errors import InvalidIntensity, InvalidRequest
from dami_agent.estimators import ConfidenceEstimator, FixedEstimator
from dami_agent.types import (
    Decision,
    EngineInfo,
    FinishReason,
    Generation,
    Intensity,
    Limits,
    Prompt,
    Sampling,
    TokenEvent,
    TokenLogprob,
)

PROMPT = Prompt(token_ids=(1, 2, 3), template="instruct")
BASE = Decision(intensity=Intensity(0), template="instruct", reason="probe", limits=Limits(max_tokens=200))


@dataclass
class Job:
    generation: Generation

    def __iter__(self) -> Iterator[TokenEvent]:
        return iter(self.generation.events)

    def result(self, timeout: float | None = None) -> Generation:
        return self.generation

    def cancel(self) -> None: ...


@dataclass
class ProbabilityEngine:
    """Answers with as many tokens as ``own`` has probabilities, and scores them with ``other``."""

    own: Sequence[float]
    other: Sequence[float]
    asked: list[Decision] = field(default_factory=list)
    scored: list[tuple[tuple[int, ...], float]] = field(default_factory=list)
    context_length: int = 4096
    finish_reason: FinishReason = "stop"

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(
            model="probability",
            fingerprint="",
            context_length=self.context_length,
            vocab_size=100,
            weights_mode="merged",
            device="cpu",
            dtype="float32",
        )

    def submit(self, prompt: Prompt, decision: Decision) -> Job:
        self.asked.append(decision)
        events = tuple(
            TokenEvent(token_id=i, part="answer", logprob=TokenLogprob(token_id=i, logprob=math.log(p)))
            for i, p in enumerate(self.own)
        )
        generation = Generation(
            events=events, finish_reason=self.finish_reason, intensity=decision.intensity, sampling=decision.sampling
        )
        return Job(generation)

    def generate(self, prompt: Prompt, decision: Decision) -> Generation:
        return self.submit(prompt, decision).result()

    def score(self, prompt: Prompt, completion: Sequence[int], intensity: Intensity) -> tuple[float, ...]:
        self.scored.append((tuple(completion), float(intensity)))
        return tuple(math.log(p) for p in self.other)

    def close(self) -> None: ...


probability = st.floats(1e-6, 1)


@given(st.lists(st.tuples(probability, probability), min_size=1, max_size=32), st.floats(0, 1), st.floats(0, 1))
def test_confidence_is_the_weakest_token_of_both(pairs: list[tuple[float, float]], w: float, accept: float) -> None:
    engine = ProbabilityEngine([a for a, _ in pairs], [b for _, b in pairs])
    estimate = ConfidenceEstimator(thinking_weight=w, accept=accept).estimate(PROMPT, BASE, engine)
    confidence = min(a ** (1 - w) * b**w for a, b in pairs)
    assert estimate.features["confidence"] == pytest.approx(confidence, rel=1e-6)
    if abs(confidence - accept) > 1e-6:
        expected = 0.0 if confidence > accept else 1 - confidence
        assert estimate.intensity == pytest.approx(expected, abs=1e-6)
    assert estimate.tokens == len(pairs)
    assert estimate.scored_tokens == len(pairs)


def test_the_probe_is_short_at_zero_and_scored_by_thinking() -> None:
    engine = ProbabilityEngine([0.9, 0.8], [0.7, 0.6])
    decision = Decision(
        intensity=Intensity(0.4),
        template="instruct",
        reason="",
        limits=Limits(max_tokens=20),
        sampling=Sampling(seed=3),
    )
    estimate = ConfidenceEstimator().estimate(PROMPT, decision, engine)
    (probe,) = engine.asked
    assert probe.intensity == 0
    assert probe.limits.max_tokens == 20  # never more than the caller's own cap
    assert probe.sampling.seed == 3
    assert probe.sampling.logprobs == 0
    assert engine.scored == [((0, 1), 1.0)]
    assert estimate.probe is not None
    assert estimate.probe_prompt is PROMPT
    ConfidenceEstimator(probe_tokens=5).estimate(PROMPT, BASE, engine)
    assert engine.asked[-1].limits.max_tokens == 5


def test_an_empty_probe_is_no_confidence() -> None:
    assert ConfidenceEstimator().estimate(PROMPT, BASE, ProbabilityEngine([], [])).intensity == 1


def test_fixed_asks_nothing() -> None:
    engine = ProbabilityEngine([], [])
    assert FixedEstimator(0.3).estimate(PROMPT, BASE, engine).intensity == 0.3  # type: ignore[arg-type]
    assert not engine.asked


def test_bad_settings_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="probe_tokens"):
        ConfidenceEstimator(probe_tokens=33)
    for name in ("accept", "thinking_weight"):
        with pytest.raises(InvalidRequest, match=name):
            ConfidenceEstimator(**{name: math.nan})
    with pytest.raises(InvalidIntensity):
        FixedEstimator(1.5)  # type: ignore[arg-type]
