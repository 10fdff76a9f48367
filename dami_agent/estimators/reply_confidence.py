"""Say how sure a pair is of a whole reply, by its tokens' log-probabilities: what cascades and votes go by.

Raw, it is the probability of the least sure token, ``exp(min_t log p_t)``, or the geometric mean of all,
``exp(mean_t log p_t)``: a number between 0 and 1 that says nothing of how often such a reply is right. Where the pair's
heads were trained, a reply of Instruct's (λ=0) has a **calibrated** one: how likely it is right, by the head that reads
such tokens (:class:`~dami_agent.estimators.ConfidenceEstimator`), after Thinking has read the first 32 of them too.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from dami_agent.errors import InvalidRequest
from dami_agent.estimators.confidence import probe_features
from dami_agent.estimators.preference import kind_of
from dami_agent.estimators.probe import MAX_PROBE_TOKENS
from dami_agent.types import Decision, Engine, Estimate, Generation, Intensity, Prompt

__all__ = ["ReplyConfidence", "mean_logprob", "reply_confidence", "with_confidence"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyConfidence:
    """Holds how sure the pair is of a reply.

    Attributes:
        value: in [0, 1].
        calibrated: it is how likely the reply is right, by the pair's head.
        features: the numbers behind it, for the ledger.
        scored_tokens, seconds: what it cost to tell.
    """

    value: float
    calibrated: bool
    features: Mapping[str, float] = field(default_factory=dict)
    scored_tokens: int = 0
    seconds: float = 0.0


def mean_logprob(generation: Generation) -> float | None:
    """Return the mean log-probability of a reply's tokens, those that the engine wrote aside; None where unknown."""
    logprobs = _logprobs(generation)
    return math.fsum(logprobs) / len(logprobs) if logprobs else None


def reply_confidence(
    engine: Engine, prompt: Prompt, generation: Generation, measure: Literal["min", "mean"]
) -> ReplyConfidence:
    """Say how sure the pair is of a reply; 0 of an empty one.

    Args:
        engine: of the pair; reads the reply with Thinking's weights where there is a calibration.
        prompt: that was answered.
        generation: decoded with log-probabilities.
        measure: of the log-probabilities, where there is no calibration.

    Raises:
        InvalidRequest: the engine gave no log-probabilities.
    """
    started, logprobs = time.perf_counter(), _logprobs(generation)
    if not logprobs:
        if any(event.part != "control" for event in generation.events):
            raise InvalidRequest(
                f"{engine.info.model} gave no log-probabilities, by which the policy judges replies",
                hint="use another engine, or a cascade that checks by agreement or by a function of yours",
            )
        return ReplyConfidence(value=0.0, calibrated=False)
    raw = math.exp(min(logprobs) if measure == "min" else math.fsum(logprobs) / len(logprobs))
    found = _calibrated(engine, prompt, generation, logprobs)
    if found is None:
        return ReplyConfidence(value=raw, calibrated=False)
    right, features = found
    return ReplyConfidence(
        value=right,
        calibrated=True,
        features=features,
        scored_tokens=int(features["probe_tokens"]),
        seconds=time.perf_counter() - started,
    )


def with_confidence(decision: Decision, found: ReplyConfidence) -> Decision:
    """Put what was found on the decision's estimate, or on one of the plan's own where nobody estimated."""
    told = decision.estimate or Estimate(estimator=decision.plan, intensity=decision.intensity, features=found.features)
    features = {**told.features, "reply_confidence": found.value, "reply_calibrated": float(found.calibrated)}
    estimate = dataclasses.replace(
        told,
        features=features,
        scored_tokens=told.scored_tokens + found.scored_tokens,
        seconds=told.seconds + found.seconds,
    )
    return dataclasses.replace(decision, estimate=estimate)


def _logprobs(generation: Generation) -> list[float]:
    events = (event for event in generation.events if event.part != "control")
    return [event.logprob.logprob for event in events if event.logprob is not None]


def _calibrated(
    engine: Engine, prompt: Prompt, generation: Generation, logprobs: list[float]
) -> tuple[float, dict[str, float]] | None:
    """Return how likely a reply of Instruct's is right, and by which numbers; None where no head can tell."""
    if generation.intensity > 0 or prompt.template != "instruct" or len(logprobs) != generation.output_tokens:
        return None
    from dami_agent.estimators.head import vector_of  # imports torch
    from dami_agent.estimators.heads import usable_heads

    heads = usable_heads(engine.info.fingerprint)
    head = heads.get("probe", kind_of(prompt)) if heads is not None else None
    if head is None:
        return None
    begun, own = generation.token_ids[:MAX_PROBE_TOKENS], logprobs[:MAX_PROBE_TOKENS]
    scores = list(engine.score(dataclasses.replace(prompt, reply_ids=()), begun, Intensity(1)))
    ended = len(logprobs) <= MAX_PROBE_TOKENS and generation.finish_reason == "stop"
    features = probe_features(own, scores) | {"probe_ended": float(ended)}
    right, _ = head.predict(vector_of("probe", features)[None])
    return float(right[0, 0]), features
