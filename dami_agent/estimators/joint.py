"""λ(q) from all that is known before a reply: the prompt's hidden states and Instruct's probe, by one head on both.

States tell what a prompt asks for, a probe how far Instruct comes with it: each knows of failures that the other does
not see (docs/results.md has what that is worth). It costs what both cost: one pass over the prompt,
which the reply takes over where ``preference``'s does, and the probe's tokens unless they become the answer.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

from dami_agent.estimators.confidence import ConfidenceEstimator
from dami_agent.estimators.preference import PreferenceEstimator, find_head, kind_of
from dami_agent.estimators.probe import is_whole
from dami_agent.types import Decision, Engine, Estimate, Intensity, Prompt

__all__ = ["JointEstimator"]

_PROBE = ConfidenceEstimator(calibrated=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class JointEstimator(PreferenceEstimator):
    """Estimates λ(q) with a head on hidden states and a probe, trained for the pair by ``dami train-estimator``.

    It has the settings of :class:`~dami_agent.estimators.PreferenceEstimator`. A probe that was cut short by the call's
    own limit tells the head nothing: then λ is what ``confidence`` makes of it without heads, and with ``risk`` 1.

    Raises:
        InvalidRequest: a number that makes no sense, or a file that holds no heads.
    """

    @property
    def name(self) -> str:
        """Return ``joint``, the name that the ledger records."""
        return "joint"

    def knows(self, prompt: Prompt, engine: Engine) -> bool:
        """Tell whether there is a head that was trained on such prompts."""
        head = find_head(self.heads, "joint", prompt, engine)
        return head is not None and head.kind == kind_of(prompt)

    def estimate(self, prompt: Prompt, decision: Decision, engine: Engine) -> Estimate:
        """Read the prompt at the head's λ, probe, predict for every λ, take the one of the best value.

        Raises:
            InvalidRequest: there is no such head for this pair, the engine gives no hidden states, or the loss cannot
                be promised.
        """
        from dami_agent.estimators.head import joint_vector

        started = time.perf_counter()
        head, price, states = self._read("joint", prompt, engine)
        probed = _PROBE.estimate(prompt, decision, engine)
        told = dataclasses.replace(
            probed,
            estimator=self.name,
            scored_tokens=probed.scored_tokens + len(prompt.token_ids),
            seconds=time.perf_counter() - started,
        )
        if not is_whole(probed.features):
            return told if self.risk is None else dataclasses.replace(told, intensity=Intensity(1))
        choice = head.estimate(joint_vector(probed.features, states), probed.tokens, price)
        return dataclasses.replace(
            told,
            intensity=choice.intensity,
            features={**probed.features, **choice.features},
            candidates=choice.candidates,
            token_price=0.0 if self.risk else choice.token_price,  # what was promised is the head's own choice
        )
