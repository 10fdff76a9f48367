"""Sample Thinking under caps on its thought, and replay what stops early by them.

Under one random stream a thought that is cut at a cap is the beginning of the thought that goes on, so the replies at
rising caps are **trial answers** of one thought:

- ``caps``: every thought is closed at the same cap, with the pair's closing words (budget forcing).
- ``early exit``: the first trial answer is taken whose tokens' geometric mean probability reaches a threshold, else the
  whole reply, as DEER does (arXiv 2504.15895; there trials are made where the thought hesitates, here at the caps).
  All trials that were made are paid for.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dami_agent.evaluation.asked import AskedBatch, SamplePlan, SampleSet
from dami_agent.evaluation.call_batches import AnswerOutcome, BatchRunner
from dami_agent.evaluation.tensor_table import TensorTable
from dami_agent.types import Intensity

__all__ = ["CAPS", "THRESHOLDS", "Trials", "exits", "sample_trials"]

CAPS = (50, 100, 200, 400)
"""Tokens of a thought at which it is closed, and an answer tried."""

THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
"""Geometric means of a trial answer's token probabilities from which on it is taken."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trials(TensorTable):
    """Hold the replies at each cap, by rising caps: float32 [questions, caps].

    Attributes:
        right, tokens: of the replies.
        answer_tokens: of these, what comes after the thought.
        confidence: geometric mean probability of the answer's tokens; 0 of an empty answer.
        whole: 1 where the thought had ended by itself, so that the reply is what it is without a cap.
    """

    right: torch.Tensor
    tokens: torch.Tensor
    answer_tokens: torch.Tensor
    confidence: torch.Tensor
    whole: torch.Tensor


def sample_trials(
    batches: BatchRunner,
    plan: SamplePlan,
    asked: SampleSet,
    caps: Sequence[int] = CAPS,
    *,
    switch: float = 0.0,
    kept: Path | None = None,
) -> Trials:
    """Answer everything at λ=1 under every cap, with the random streams of the replies without one.

    Args:
        batches: decodes the replies.
        plan: of the replies without a cap.
        asked: questions.
        caps: tokens of thought, rising.
        switch: λ up to which Instruct's template is used.
        kept: a file for the answers, of this plan and set alone.
    """
    made = [
        AskedBatch(
            name=f"cap {cap}",
            asked=asked,
            intensity=Intensity(1),
            plan=dataclasses.replace(plan, max_reasoning_tokens=cap),
            switch=switch,
            kept=kept,
        )
        for cap in caps
    ]
    found = batches.run(made)

    def column(read: str) -> torch.Tensor:
        return torch.tensor([[float(getattr(each, read)) for each in outcomes] for outcomes in found]).T

    return Trials(
        right=column("right"),
        tokens=column("tokens"),
        answer_tokens=column("answer_tokens"),
        confidence=torch.tensor([[_confidence(each) for each in outcomes] for outcomes in found]).T,
        whole=1.0 - column("capped"),
    )


def _confidence(found: AnswerOutcome) -> float:
    return 0.0 if found.answer_logprob is None else math.exp(found.answer_logprob)


def exits(
    trials: Trials, right: torch.Tensor, tokens: torch.Tensor, threshold: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Take each question's first trial answer that is sure enough, else the reply without a cap.

    Args:
        trials: at the caps.
        right, tokens: of the replies without a cap, [questions].
        threshold: of the confidence.

    Returns:
        Whether what is taken is right, and the tokens of thought, answer and all trials before it: [questions] each.
    """
    rows, last = torch.arange(len(right)), trials.right.shape[1]
    sure = (trials.confidence >= threshold) | (trials.whole > 0.5)
    places = torch.where(sure.any(dim=1), sure.int().argmax(dim=1), last)
    all_right = torch.cat([trials.right, right[:, None]], dim=1)
    all_tokens = torch.cat([trials.tokens, tokens[:, None]], dim=1)
    thrown = torch.cat([torch.zeros(len(right), 1), trials.answer_tokens.cumsum(dim=1)], dim=1)
    return all_right[rows, places], all_tokens[rows, places] + thrown[rows, places]
