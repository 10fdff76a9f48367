"""λ(q) from the mean token entropy of a short probe at λ=0, as gates between a model and its thinking mode use it.

With p the distribution that Instruct draws a token from (the raw softmax) and y the probe, at most 32 tokens,

    H(q) = mean_t  - Σ_v p_t(v) · ln p_t(v)      in nats
    λ(q) = 0   if H(q) <= threshold,  else 1

p is known of its likeliest tokens alone (``Sampling.logprobs``); all others together count as one token, so H is a
lower bound, and close to it unless a distribution is flat.

**Raw entropy is not monotone in difficulty.** It is reported to be U-shaped (DiffAdapt, 2025): high where a model finds
many ways to say what is easy, low in the middle, high again where it is lost. A threshold then spends thought on easy
prompts, and none on some that the model is surely wrong about. So the threshold is for pairs that nobody has measured;
where the pair's heads were trained (``dami train-estimator``, ``dami calibrate``), one on H, H² and ln H says how
likely the reply is right at each λ, falling and rising with H as this pair's replies did. ``confidence`` knows more,
for one pass of Thinking over the probe: what Thinking holds of it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

from dami_agent.errors import InvalidRequest
from dami_agent.estimators.preference import MAX_LOSS
from dami_agent.estimators.probe import MAX_PROBE_TOKENS, check_probing, decode_probe, estimate_by_probe
from dami_agent.types import Decision, Engine, Estimate, Intensity, Prompt, TokenEvent, TokenLogprob

__all__ = ["ALTERNATIVES", "EntropyEstimator", "mean_entropy", "token_entropy"]

ALTERNATIVES = 20
"""Likeliest tokens of a distribution that its entropy is summed over: the most that vLLM and OpenAI give by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntropyEstimator:
    """Estimates λ(q) from how uncertain Instruct is of its own first tokens (module docstring: formula, and its flaw).

    Raw entropy is U-shaped in difficulty: without heads, easy prompts that can be answered in many words may get λ=1,
    and surely wrong answers λ=0. Prefer ``auto`` or ``confidence`` where nothing else speaks for entropy.

    Attributes:
        probe_tokens: longest probe, at most 32.
        threshold: nats up to which the probe is taken as it is (λ=0), where no head decides.
        calibrated: go by the pair's head on entropies where there is one that pays; False: always by the threshold.
        max_loss, price, risk: what accuracy is worth to a head, as for
            :class:`~dami_agent.estimators.ConfidenceEstimator`.

    Raises:
        InvalidRequest: a number that makes no sense.
    """

    probe_tokens: int = MAX_PROBE_TOKENS
    threshold: float = 0.1
    calibrated: bool = True
    max_loss: float = MAX_LOSS
    price: float | None = None
    risk: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.threshold) and self.threshold >= 0):
            raise InvalidRequest(f"threshold must be a finite number of at least 0, in nats, got {self.threshold!r}")
        check_probing(self)

    @property
    def name(self) -> str:
        """Return ``entropy``, the name that the ledger records."""
        return "entropy"

    def estimate(self, prompt: Prompt, decision: Decision, engine: Engine) -> Estimate:
        """Probe at λ=0 with alternatives beside each token, and judge by their entropy. An empty probe leads to λ=1.

        Raises:
            InvalidRequest: the engine gives no alternatives, or the loss cannot be promised.
        """
        started = time.perf_counter()
        alternatives = min(ALTERNATIVES, engine.info.vocab_size or ALTERNATIVES)
        probe = decode_probe(prompt, decision, engine, self.probe_tokens, logprobs=alternatives)
        entropy = mean_entropy(probe.events)
        if entropy is None and probe.events:
            raise InvalidRequest(
                f"the engine of {engine.info.model} gives no alternatives beside its tokens",
                hint="use estimator='confidence'",
            )
        features = {"probe_tokens": float(probe.output_tokens)}
        if entropy is not None:
            features["entropy"] = entropy
        return estimate_by_probe(
            self, "entropy", prompt, engine, probe, features, self.by_rule(entropy), started=started
        )

    def by_rule(self, entropy: float | None) -> Intensity:
        """Return λ by the threshold alone; None, of an empty probe, leads to λ=1."""
        return Intensity(0 if entropy is not None and entropy <= self.threshold else 1)


def mean_entropy(events: Iterable[TokenEvent]) -> float | None:
    """Return the mean entropy of the distributions that tokens were drawn from, in nats; None if none is known."""
    found = [token_entropy(event.logprob) for event in events if event.logprob is not None and event.logprob.top]
    return math.fsum(found) / len(found) if found else None


def token_entropy(logprob: TokenLogprob) -> float:
    """Return the entropy of one token's distribution in nats, from its likeliest tokens and the one that was drawn.

    All others count as one token, which makes it a lower bound.
    """
    known = {**dict(logprob.top), logprob.token_id: logprob.logprob}
    shares = [math.exp(value) for value in known.values()]
    shares.append(max(0.0, 1 - math.fsum(shares)))
    return -math.fsum(share * math.log(share) for share in shares if share > 0)
