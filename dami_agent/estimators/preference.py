"""λ(q) from a head on the prompt's hidden states: **our reconstruction** of DAMI-Pref (arXiv 2601.21414).

The paper's abstract says that λ(q) is learned from preferences of accuracy and cost; its method is not published in
what we could read. Ours: one pass over the prompt, of which a small head (:mod:`dami_agent.estimators.head`), trained
on this very pair's own replies, predicts for each λ how likely the reply is right and how long it gets; the λ with the
best value at a price of tokens is taken. Nothing is decoded to estimate. The prompt is read at the λ at which the
prompts of all replies are read, where the pair has one (a shared prefix): then the reply, whatever its λ, begins with
what was read. Elsewhere it is read at λ=0, and kept for replies at 0.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dami_agent.errors import InvalidRequest
from dami_agent.estimators.head_files import heads_path
from dami_agent.request_checks import reader_of_states
from dami_agent.types import Decision, Engine, Estimate, Prompt

if TYPE_CHECKING:
    from dami_agent.estimators.head import Head, Kind, Reads  # imports torch
    from dami_agent.estimators.heads import Heads

__all__ = ["MAX_LOSS", "PreferenceEstimator", "check_rate", "find_head", "head_for", "kind_of"]

States = Sequence[Sequence[float]]

MAX_LOSS = 0.002
"""Share of questions and tasks that may be lost where nobody says otherwise."""


def kind_of(prompt: Prompt) -> Kind:
    """Return which heads a prompt is for: those for prompts with tools, or those for prompts without."""
    return "tools" if prompt.tools else "plain"


def check_rate(max_loss: float, price: float | None, risk: float | None) -> None:
    """Check the ways to say what accuracy is worth.

    Raises:
        InvalidRequest: a number that makes no sense.
    """
    if not (math.isfinite(max_loss) and 0 <= max_loss <= 1):
        raise InvalidRequest(f"max_loss must be a finite number in [0, 1], got {max_loss!r}")
    if price is not None and not (math.isfinite(price) and price >= 0):
        raise InvalidRequest(f"price must be a finite number of at least 0, got {price!r}")
    if risk is not None and not 0 < risk <= 0.5:
        raise InvalidRequest(f"risk must be above 0 and at most 0.5, got {risk!r}")
    if risk is not None and price is not None:
        raise InvalidRequest("price names the exchange rate, and risk bounds the loss", hint="give one of them")


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceEstimator:
    """Estimates λ(q) with a head on hidden states that was trained for the pair by ``dami train-estimator``.

    A prompt with tools is for the head that was trained on such, where there is one; the other one otherwise.

    Attributes:
        heads: those of a pair, or their file; None: those for the engine's pair, the user's own or the ones beside its
            checkpoints.
        max_loss: share of questions and tasks that may be lost against the most accurate price, as counted on prompts
            left out of the fit; the highest price that keeps to it is taken. Steps of tasks are held to less, as one
            wrong step loses a task. An expectation, not a promise for each call.
        price: the exchange rate itself: the share of right replies that a mean reply of Thinking is worth; None:
            what ``max_loss`` leads to.
        risk: make of ``max_loss`` a bound that holds but for this chance, over prompts like those that the head was
            fitted to (:meth:`~dami_agent.estimators.head.Head.point_promised` says under which assumptions); refused
            where the calibration is too small. None: an expectation.

    Raises:
        InvalidRequest: a number that makes no sense, or a file that holds no heads.
    """

    heads: Heads | str | Path | None = None
    max_loss: float = MAX_LOSS
    price: float | None = None
    risk: float | None = None

    def __post_init__(self) -> None:
        check_rate(self.max_loss, self.price, self.risk)
        if isinstance(self.heads, (str, Path)):
            from dami_agent.estimators.heads import Heads

            object.__setattr__(self, "heads", Heads.load(self.heads))

    @property
    def name(self) -> str:
        """Return ``preference``, the name that the ledger records."""
        return "preference"

    def estimate(self, prompt: Prompt, decision: Decision, engine: Engine) -> Estimate:
        """Read the prompt at the head's λ, predict for every λ, take the one of the best value.

        Raises:
            InvalidRequest: there is no head for this pair, the engine gives no hidden states, or the loss cannot be
                promised.
        """
        from dami_agent.estimators.head import states_vector

        started = time.perf_counter()
        head, price, states = self._read("states", prompt, engine)
        choice = head.estimate(states_vector(states), 0, price)
        return Estimate(
            estimator=self.name,
            intensity=choice.intensity,
            features=choice.features,
            candidates=choice.candidates,
            token_price=0.0 if self.risk else choice.token_price,  # what was promised is the head's own choice
            scored_tokens=len(prompt.token_ids),
            seconds=time.perf_counter() - started,
        )

    def _read(self, reads: Reads, prompt: Prompt, engine: Engine) -> tuple[Head, float, States]:
        """Return the head for a prompt, the price it chooses at, and the states that it wants of the prompt."""
        head = head_for(self.heads, reads, prompt, engine)
        price = head.price_for(self.max_loss, self.price, self.risk)
        return head, price, reader_of_states(engine).hidden_states(prompt, head.read_at, head.layers)


def find_head(heads: Heads | str | Path | None, reads: Reads, prompt: Prompt, engine: Engine) -> Head | None:
    """Return the head that reads this of such prompts, where there is one.

    Args:
        heads: as :class:`PreferenceEstimator` has them.
        reads: ``states`` or ``joint``.
        prompt: with tools or without.
        engine: of the pair.

    Raises:
        InvalidRequest: the heads were trained for another pair.
    """
    from dami_agent.estimators.heads import find_heads

    info = engine.info
    found = find_heads(info.fingerprint) if heads is None else heads
    assert not isinstance(found, (str, Path))  # read when the estimator was made
    if found is not None and found.fingerprint != info.fingerprint:
        raise InvalidRequest(
            f"the heads were trained for another pair ({found.fingerprint}) than {info.model} ({info.fingerprint})",
            hint="train some for this pair: `dami train-estimator`",
        )
    if found is None:
        return None
    kind = kind_of(prompt)
    return found.get(reads, kind) or found.get(reads, "plain" if kind == "tools" else "tools")


def head_for(heads: Heads | str | Path | None, reads: Reads, prompt: Prompt, engine: Engine) -> Head:
    """Return the head that :func:`find_head` finds.

    Raises:
        InvalidRequest: the heads were trained for another pair, or there are none for this one.
    """
    head = find_head(heads, reads, prompt, engine)
    if head is None:
        info = engine.info
        what = "hidden states" if reads == "states" else "hidden states and probes"
        raise InvalidRequest(
            f"no head on {what} has been trained for {info.model} ({heads_path(info.fingerprint)})",
            hint="train one with `dami train-estimator`, or use estimator='confidence'",
        )
    return head
