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

import dataclasses
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dami_agent.errors import InvalidRequest
from dami_agent.estimators.preference import MAX_LOSS, check_rate, kind_of
from dami_agent.types import Candidate, Decision, Engine, Estimate, Intensity, Prompt

if TYPE_CHECKING:
    from dami_agent.estimators.head import Choice, Head  # imports torch

MAX_PROBE_TOKENS = 32


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
        if not 1 <= self.probe_tokens <= MAX_PROBE_TOKENS:
            raise InvalidRequest(f"probe_tokens must be in [1, {MAX_PROBE_TOKENS}], got {self.probe_tokens}")
        for field, value in (
            ("thinking_weight", self.thinking_weight),
            ("accept", self.accept),
        ):
            if not (math.isfinite(value) and 0.0 <= value <= 1.0):
                raise InvalidRequest(f"{field} must be a finite number in [0, 1], got {value!r}")
        check_rate(self.max_loss, self.price, self.risk)
        if self.risk is not None and not self.calibrated:
            raise InvalidRequest("risk needs a head to bound the loss of", hint="leave calibrated=False out")

    @property
    def name(self) -> str:
        """Return ``confidence``, the name that the ledger records."""
        return "confidence"

    def estimate(self, prompt: Prompt, decision: Decision, engine: Engine) -> Estimate:
        """Probe at λ=0, score at λ=1, combine. The probe's tokens are counted whether or not it becomes the answer."""
        started = time.perf_counter()
        room = engine.info.context_length - len(prompt.token_ids)
        probe = engine.generate(prompt, self._probe_decision(decision, room))
        own = [e.logprob.logprob for e in probe.events if e.logprob is not None]
        if not own:  # an empty answer: nothing to be sure of
            scores = own
            features = {"confidence": 0.0}
        else:
            scores = list(engine.score(prompt, probe.token_ids, Intensity(1)))
            features = self._features(own, scores)
        features["probe_ended"] = float(probe.finish_reason == "stop")
        found = self._by_head(features, prompt, engine)
        return Estimate(
            estimator=self.name,
            intensity=self._by_rule(features["confidence"]) if found is None else found.intensity,
            features=features | ({} if found is None else found.features),
            candidates=() if found is None else found.candidates,
            probe=probe,
            probe_prompt=prompt,
            tokens=probe.output_tokens,
            scored_tokens=len(scores),
            seconds=time.perf_counter() - started,
        )

    def _by_rule(self, confidence: float) -> Intensity:
        return Intensity(0) if confidence >= self.accept else Intensity(min(1.0, max(0.0, 1 - confidence)))

    def _by_head(self, features: dict[str, float], prompt: Prompt, engine: Engine) -> Choice | None:
        """Choose λ by the pair's head; None: there is none to go by."""
        if not self.calibrated:
            return None
        from dami_agent.estimators.head import probe_vector  # imports torch
        from dami_agent.estimators.heads import usable_heads

        heads = usable_heads(engine.info.fingerprint)
        head = heads.get("probe", kind_of(prompt)) if heads is not None else None
        spent = int(features.get("probe_tokens", 0))
        whole = features["probe_ended"] or spent == MAX_PROBE_TOKENS  # heads learned from no shorter ones
        if self.risk is not None:
            return self._promised(head, features, spent if whole else None, engine)
        if head is None or not whole or not head.pays(self.max_loss, self.price):
            return None
        return head.estimate(probe_vector(features), spent, head.price_for(self.max_loss, self.price))

    def _promised(self, head: Head | None, features: dict[str, float], spent: int | None, engine: Engine) -> Choice:
        """Choose λ by a head whose loss is bounded; ``spent`` is None for a probe shorter than those it knows."""
        from dami_agent.estimators.head import Choice, probe_vector

        if head is None:
            raise InvalidRequest(
                f"no loss can be promised for {engine.info.model}: it has no head on probes",
                hint="train one with `dami calibrate`, or leave risk= out",
            )
        price = head.price_for(self.max_loss, risk=self.risk)
        if spent is None:
            return Choice((Candidate(intensity=Intensity(1), reasoning_tokens=0),), {})
        return head.estimate(probe_vector(features), spent, price)

    def _probe_decision(self, decision: Decision, room: int) -> Decision:
        """Limit a probe to the caller's cap and to what the context window leaves, and to at least one token."""
        limit = decision.limits.max_tokens
        tokens = max(1, min(self.probe_tokens, room, self.probe_tokens if limit is None else limit))
        wanted = decision.sampling.logprobs
        return dataclasses.replace(
            decision,
            intensity=Intensity(0),
            limits=dataclasses.replace(decision.limits, max_tokens=tokens, answer_reserve=0),
            sampling=dataclasses.replace(decision.sampling, logprobs=0 if wanted is None else wanted),
        )

    def _features(self, own: list[float], scores: list[float]) -> dict[str, float]:
        w = self.thinking_weight
        mixed = [(1 - w) * a + w * b for a, b in zip(own, scores, strict=True)]
        return {
            "confidence": math.exp(min(mixed)),
            "instruct_min_logprob": min(own),
            "instruct_sum_logprob": sum(own),
            "thinking_min_logprob": min(scores),
            "thinking_sum_logprob": sum(scores),
            "discrepancy": max(a - b for a, b in zip(own, scores, strict=True)),
            "probe_tokens": float(len(own)),
        }
