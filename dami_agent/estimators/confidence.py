"""Zero-shot λ(q) from confidence: **our reconstruction** of DAMI-Conf (arXiv 2601.21414).

The paper's abstract says that λ(q) comes from confidence, "using the discrepancy between the two models"; its formula
is not published in what we could read. Ours: let the Instruct model (λ=0) decode a short probe y of the query, read the
same tokens with the Thinking model (λ=1) under the same prompt by teacher forcing, and take

    c(q) = exp( min_t  log p(y_t) ),   with  log p = (1 - w) * log p_Instruct + w * log p_Thinking
    λ(q) = 0            if c(q) >= accept
         = 1 - c(q)     otherwise

The weakest token decides, as one wrong digit makes a wrong answer. A probe both models are sure of *is* the answer.

That rule needs no measurement. Where the pair's heads were trained (``dami train-estimator``), a head on these very
numbers says instead how likely the reply is right, and how long it gets, at each λ, and the λ of the best value is
taken (:mod:`dami_agent.estimators.head`), the probe's tokens counted in.

The defaults, on the built-in pair (``python -m dami_agent.evaluation.confidence_rule --items 300``: 300 questions and
300 agent steps of the calibration split, frontier of 11 λs): c tells right from wrong answers of Instruct with AUC .99
(questions alone .95); ``accept=0.8, thinking_weight=0.5`` takes half of the probes, all of them right, and reaches .990
at 73.5 tokens (always-Thinking .985 at 85.5; the same λs shuffled over the items .742). Nothing else tried was better
by more than the noise: ``accept`` from .5 to .95, weights of 0, ½ and 1, and the product of the probabilities instead
of the weakest give .988 to .992 at 73 to 74 tokens. So the numbers stay cautious, for pairs nobody has measured.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from dami_agent.errors import InvalidRequest
from dami_agent.estimators.preference import MAX_LOSS
from dami_agent.estimators.probe import MAX_PROBE_TOKENS, check_probing, decode_probe, estimate_by_probe
from dami_agent.types import Decision, Engine, Estimate, Intensity, Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceEstimator:
    """λ(q) from how sure both models are of Instruct's own first tokens (module docstring: formula and source).

    Attributes:
        probe_tokens: longest probe, at most 32.
        thinking_weight: w in the formula; 0 reads Instruct alone, 1 Thinking alone.
        accept: confidence from which the probe is taken as it is (λ=0).
        calibrated: go by the pair's head on probes where there is one that pays; False: always by the rule.
        max_loss, price, risk: what accuracy is worth to a head, as for :class:`PreferenceEstimator`. With ``risk``, a
            probe that the head cannot judge leads to λ=1, and a pair without a head is refused.
    """

    probe_tokens: int = MAX_PROBE_TOKENS
    thinking_weight: float = 0.5
    accept: float = 0.8
    calibrated: bool = True
    max_loss: float = MAX_LOSS
    price: float | None = None
    risk: float | None = None

    def __post_init__(self) -> None:
        for field, value in (
            ("thinking_weight", self.thinking_weight),
            ("accept", self.accept),
        ):
            if not (math.isfinite(value) and 0.0 <= value <= 1.0):
                raise InvalidRequest(f"{field} must be a finite number in [0, 1], got {value!r}")
        check_probing(self)

    @property
    def name(self) -> str:
        """Return ``confidence``, the name that the ledger records."""
        return "confidence"

    def estimate(self, prompt: Prompt, decision: Decision, engine: Engine) -> Estimate:
        """Probe at λ=0, score at λ=1, combine. The probe's tokens are counted whether or not it becomes the answer."""
        started = time.perf_counter()
        probe = decode_probe(prompt, decision, engine, self.probe_tokens)
        own = [e.logprob.logprob for e in probe.events if e.logprob is not None]
        # Of an empty answer there is nothing to be sure of.
        scores = list(engine.score(prompt, probe.token_ids, Intensity(1))) if own else []
        features = probe_features(own, scores, self.thinking_weight) if own else {"confidence": 0.0}
        ruled = self._by_rule(features["confidence"])
        return estimate_by_probe(
            self, "probe", prompt, engine, probe, features, ruled, started=started, scored=len(scores)
        )

    def _by_rule(self, confidence: float) -> Intensity:
        return Intensity(0) if confidence >= self.accept else Intensity(min(1.0, max(0.0, 1 - confidence)))


def probe_features(own: Sequence[float], scores: Sequence[float], weight: float = 0.5) -> dict[str, float]:
    """Compute the numbers of a probe by which it is judged.

    Args:
        own: natural-log probabilities of its tokens, Instruct's; at least one.
        scores: Thinking's of the same tokens.
        weight: of Thinking's in ``confidence``.
    """
    mixed = [(1 - weight) * a + weight * b for a, b in zip(own, scores, strict=True)]
    return {
        "confidence": math.exp(min(mixed)),
        "instruct_min_logprob": min(own),
        "instruct_sum_logprob": sum(own),
        "thinking_min_logprob": min(scores),
        "thinking_sum_logprob": sum(scores),
        "discrepancy": max(a - b for a, b in zip(own, scores, strict=True)),
        "probe_tokens": float(len(own)),
    }
