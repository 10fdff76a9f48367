"""Plan more than one reply to a step: a cascade up the λs, or a vote at one λ; both are off unless a policy says so.

A **cascade** (FrugalGPT, arXiv 2305.05176) answers at its first λ, checks the reply, and goes on to the next λ where
the check fails; the reply at the last one is not checked. It takes the place of the estimator, where λ is left open.

**Self-consistency** (arXiv 2203.11171) leaves λ as it was chosen, and draws more replies at it where the first one is
not confident. What most replies answer is taken; of equally many, what the most probable reply answers. Drawing stops
as soon as that answer can no longer change, or, with ``certainty`` below 1, once it is that certain to stay, by the
Beta criterion of adaptive self-consistency (arXiv 2305.11860): with v₁ and v₂ votes for the two leading answers,

    P(p₁ > p₂) = ∫_½¹ Beta(p; v₁ + 1, v₂ + 1) dp = Σ_{j ≤ v₁} C(v₁ + v₂ + 1, j) / 2^(v₁ + v₂ + 1)  ≥  certainty
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, model_validator
from typing_extensions import Self

from dami_agent.errors import BudgetExhausted
from dami_agent.policy.checkers import Checker, read_check
from dami_agent.policy.declared import Declared
from dami_agent.policy.fields import Share, shown
from dami_agent.types import Decision, Intensity, ModuleIntensity

MOST_RUNGS = 10
MOST_SAMPLES = 32
LEAST_ROOM = 64
"""Tokens that a budget must leave for a deeper reply, or it is not begun: cut short, it costs and does not help."""

Measure = Literal["min", "mean"]
"""What the confidence of a reply is: the probability of its least sure token, or the geometric mean of all."""


def _rising(value: Any) -> tuple[Intensity, ...]:
    if not isinstance(value, (list, tuple)) or not 2 <= len(value) <= MOST_RUNGS:
        raise ValueError(f"expected a list of 2 to {MOST_RUNGS} λs that rise, got {shown(value)}")
    plain = (each for each in value if isinstance(each, (int, float)) and not isinstance(each, (bool, ModuleIntensity)))
    if sum(0 <= each <= 1 for each in plain) < len(value):
        raise ValueError(f"{shown(value)} holds something else than numbers in [0, 1]")
    found = tuple(Intensity(each) for each in value)
    if any(low >= high for low, high in itertools.pairwise(found)):
        raise ValueError(f"the λs {shown(value)} do not rise")
    return found


def _certainty(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.5 < value <= 1:
        raise ValueError(f"{shown(value)} is not a number above 0.5 and at most 1")
    return float(value)


class Cascade(Declared):
    """Says that a step is answered at a low λ first, and at the next one where a check of the reply fails.

    Attributes:
        intensities: λs that rise; bounds of rules and budgets hold for each.
        check: ``confidence``, ``agreement`` (of two replies at the same λ), or the user's own: a function of the step's
            messages and the reply, or ``module:function`` that names one.
        accept: confidence from which a reply stands.
        measure: of the log-probabilities, where the pair has no calibration for such replies.
    """

    intensities: Annotated[tuple[Intensity, ...], PlainValidator(_rising)] = (Intensity(0), Intensity(1))
    check: Annotated[str | Checker, PlainValidator(read_check)] = "confidence"
    accept: Share = 0.8
    measure: Measure = "min"

    @model_validator(mode="after")
    def _only_of_confidence(self) -> Self:
        given = sorted({"accept", "measure"} & self.model_fields_set)
        if given and self.check != "confidence":
            raise ValueError(f"{' and '.join(given)} says something of check: confidence alone")
        return self

    @property
    def attempts(self) -> int:
        """Count the replies that a step takes at most."""
        return len(self.intensities) * (2 if self.check == "agreement" else 1)

    def rungs(self, bounds: tuple[float, float] | None) -> tuple[Intensity, ...]:
        """Return the λs within bounds, each once."""
        low, high = bounds or (0.0, 1.0)
        return tuple(dict.fromkeys(Intensity(min(max(each, low), high)) for each in self.intensities))

    def above(self, decision: Decision) -> Intensity | None:
        """Return the λ that follows a decision's, within its bounds; None after the last one."""
        return next((each for each in self.rungs(decision.bounds) if each > decision.intensity), None)


class SelfConsistency(Declared):
    """Says that a step is answered several times at its λ where the first reply is not confident, and by majority.

    Attributes:
        samples: replies at most.
        accept: confidence from which the first reply stands alone; None: none does.
        measure: of the log-probabilities, where the pair has no calibration for such replies.
        certainty: that the majority stays as it is, from which no more replies are drawn; 1: it cannot change.
    """

    samples: Annotated[int, Field(strict=True, ge=2, le=MOST_SAMPLES)] = 5
    accept: Share | None = 0.8
    measure: Measure = "min"
    certainty: Annotated[float, PlainValidator(_certainty)] = 1.0


def refuse_lesser(previous: Decision, decision: Decision, redraw: bool) -> None:
    """Refuse a plan's next reply where budgets or bounds leave less than it is asked for: what is there stands then.

    Args:
        previous: of the reply before.
        decision: of the next one.
        redraw: it is to have the same λ; else a higher one.

    Raises:
        BudgetExhausted: it would have another λ, not a higher one, no tools, or too few tokens for a thought.
    """
    moved = decision.intensity != previous.intensity if redraw else decision.intensity <= previous.intensity
    most = decision.limits.max_tokens if decision.limits.max_tokens_by == "budget" and not redraw else None
    if moved or decision.tools_disabled or (most is not None and most < LEAST_ROOM):
        raise BudgetExhausted(
            f"what is left has no room for another reply: {decision.reason}", hint="raise the budgets of the policy"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """Holds what one reply of several votes for.

    Attributes:
        answer: in a form that is equal for equal answers; None: no vote (cut off, unreadable, blank, rejected).
        logprob: mean log-probability of its tokens, where the engine tells it.
        stands: the first reply is sure enough, or another draw would be the same.
    """

    answer: str | None
    logprob: float | None = None
    stands: bool = False

    @property
    def probability(self) -> float:
        """Return what replies are ordered by."""
        return -math.inf if self.logprob is None else self.logprob


def elected(votes: Sequence[Vote]) -> int:
    """Return the place of the reply that is taken: the most probable one of those with the leading answer.

    Where no reply has a vote, it is the most probable of all; of equals, the first.
    """
    counts = Counter(vote.answer for vote in votes if vote.answer is not None)

    def rank(place: int) -> tuple[int, float, float, int]:
        answer = votes[place].answer
        same = [vote.probability for vote in votes if vote.answer == answer]
        return 0 if answer is None else counts[answer], max(same), votes[place].probability, -place

    return max(range(len(votes)), key=rank)


def closed(spec: SelfConsistency, votes: Sequence[Vote]) -> bool:
    """Tell whether no more replies are drawn."""
    if len(votes) >= spec.samples or any(vote.stands for vote in votes):
        return True
    counts = Counter(vote.answer for vote in votes if vote.answer is not None).most_common(2)
    first, second = (*(count for _, count in counts), 0, 0)[:2]
    if first - second > spec.samples - len(votes):
        return True
    return spec.certainty < 1 and first > 0 and chance_to_lead(first, second) >= spec.certainty


def chance_to_lead(first: int, second: int) -> float:
    """Return how likely the answer with ``first`` votes is the more probable of two; see the module's docstring."""
    draws = first + second + 1
    return float(sum(math.comb(draws, j) for j in range(first + 1)) / 2**draws)
