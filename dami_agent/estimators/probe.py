"""Decode a short probe at λ=0, and ask the pair's heads about it: what all estimators share that probe."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from dami_agent.errors import InvalidRequest
from dami_agent.estimators.preference import check_rate, kind_of
from dami_agent.types import Candidate, Decision, Engine, Estimate, Generation, Intensity, Prompt

if TYPE_CHECKING:
    from dami_agent.estimators.head import Choice, Reads  # imports torch

__all__ = ["MAX_PROBE_TOKENS", "Probing", "check_probing", "decode_probe", "estimate_by_probe", "is_whole"]

MAX_PROBE_TOKENS = 32


class Probing(Protocol):
    """Declares the settings that all estimators have that probe."""

    @property
    def name(self) -> str:
        """Return the name that the ledger records."""

    @property
    def probe_tokens(self) -> int:
        """Return the longest probe, at most 32 tokens."""

    @property
    def calibrated(self) -> bool:
        """Return whether to go by the pair's head where there is one that pays."""

    @property
    def max_loss(self) -> float:
        """Return what may be lost, as :class:`~dami_agent.estimators.PreferenceEstimator` describes it."""

    @property
    def price(self) -> float | None:
        """Return the exchange rate of accuracy against tokens; None: what ``max_loss`` leads to."""

    @property
    def risk(self) -> float | None:
        """Return the chance at which more than ``max_loss`` is lost after all; None: an expectation."""


def check_probing(settings: Probing) -> None:
    """Check the settings that estimators share that probe.

    Raises:
        InvalidRequest: a number that makes no sense, or a bound on the loss without a head to bound it of.
    """
    if not 1 <= settings.probe_tokens <= MAX_PROBE_TOKENS:
        raise InvalidRequest(f"probe_tokens must be in [1, {MAX_PROBE_TOKENS}], got {settings.probe_tokens}")
    check_rate(settings.max_loss, settings.price, settings.risk)
    if settings.risk is not None and not settings.calibrated:
        raise InvalidRequest("risk needs a head to bound the loss of", hint="leave calibrated=False out")


def decode_probe(prompt: Prompt, decision: Decision, engine: Engine, tokens: int, *, logprobs: int = 0) -> Generation:
    """Decode the reply's first tokens at λ=0, with the caller's own sampling.

    They are limited to the caller's cap and to what the context window leaves, and to at least one.

    Args:
        prompt: rendered with Instruct's template.
        decision: the caller's limits and sampling.
        engine: decodes it.
        tokens: at most.
        logprobs: alternatives wanted beside each token; more of them where the caller wants more.
    """
    limit, room = decision.limits.max_tokens, engine.info.context_length - len(prompt.token_ids)
    most = max(1, min(tokens, room, tokens if limit is None else limit))
    wanted = max(logprobs, decision.sampling.logprobs or 0)
    probing = dataclasses.replace(
        decision,
        intensity=Intensity(0),
        limits=dataclasses.replace(decision.limits, max_tokens=most, answer_reserve=0),
        sampling=dataclasses.replace(decision.sampling, logprobs=wanted),
    )
    return engine.generate(prompt, probing)


def estimate_by_probe(
    settings: Probing,
    reads: Reads,
    prompt: Prompt,
    engine: Engine,
    probe: Generation,
    features: Mapping[str, float],
    ruled: Intensity,
    *,
    started: float,
    scored: int = 0,
) -> Estimate:
    """Estimate λ by the pair's head on a probe where there is one to go by, else as the rule says.

    Args:
        settings: of the estimator.
        reads: what the head reads of the probe.
        prompt: that was probed.
        engine: of the pair.
        probe: becomes the answer if λ stays 0.
        features: the probe's numbers.
        ruled: λ by the rule that needs no head.
        started: when estimating began, by ``time.perf_counter``.
        scored: tokens that were only read.

    Raises:
        InvalidRequest: a loss is to be promised, and there is no head, or one that cannot promise it.
    """
    told = {**features, "probe_ended": float(probe.finish_reason == "stop")}
    choice = _choice(settings, reads, prompt, engine, told) if settings.calibrated else None
    return Estimate(
        estimator=settings.name,
        intensity=ruled if choice is None else choice.intensity,
        features=told | ({} if choice is None else choice.features),
        candidates=() if choice is None else choice.candidates,
        token_price=0.0 if choice is None or settings.risk else choice.token_price,  # promised: the head's own choice
        probe=probe,
        probe_prompt=prompt,
        tokens=probe.output_tokens,
        scored_tokens=scored,
        seconds=time.perf_counter() - started,
    )


def _choice(
    settings: Probing, reads: Reads, prompt: Prompt, engine: Engine, features: Mapping[str, float]
) -> Choice | None:
    """Choose λ by the pair's head; None: there is none to go by."""
    from dami_agent.estimators.head import Choice, vector_of  # imports torch
    from dami_agent.estimators.heads import usable_heads

    heads = usable_heads(engine.info.fingerprint)
    head = heads.get(reads, kind_of(prompt)) if heads is not None else None
    if head is None:
        if settings.risk is None:
            return None
        raise InvalidRequest(
            f"no loss can be promised for {engine.info.model}: it has no head for the estimator {settings.name!r}",
            hint="train one with `dami calibrate`, or leave risk= out",
        )
    whole = is_whole(features)
    if settings.risk is None and not (whole and head.pays(settings.price)):
        return None
    price = head.price_for(settings.max_loss, settings.price, settings.risk)
    if not whole:  # what the head cannot judge, it can promise nothing of
        return Choice((Candidate(intensity=Intensity(1), reasoning_tokens=0),), {})
    return head.estimate(vector_of(reads, features), int(features.get("probe_tokens", 0)), price)


def is_whole(features: Mapping[str, float]) -> bool:
    """Tell whether a probe ended by itself or is as long as probes get: heads learned from no others."""
    return bool(features["probe_ended"]) or features.get("probe_tokens") == MAX_PROBE_TOKENS
