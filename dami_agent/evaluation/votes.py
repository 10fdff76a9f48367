"""Sample several replies of Thinking, and replay what votes on them or asks again.

The first reply is the one that fixed λs are judged by; the others have random streams of their own. Whatever is asked
for is paid for:

- ``majority``: the answer of most replies, as self-consistency takes it (arXiv 2203.11171); of answers with equally
  many votes, the one that came first.
- ``adaptive votes``: replies one after the other, until those to come cannot change the vote: of three, the third only
  where two differ. That is adaptive consistency (arXiv 2305.11860) with three replies, for any threshold at which its
  test stops at two equal answers, but not at one.
- ``retry``: one reply, and where its confidence is below a threshold another one; the more confident one is taken.
  Confidence is of the whole reply, as after a thought nearly every answer is written without hesitation.

A reply that was cut off, or answers nothing, has no vote and no confidence. A vote is right where the first reply with
its answer is; where nobody has a vote, where the first reply is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.functional import one_hot

from dami_agent.evaluation.asked import AskedBatch, SamplePlan, SampleSet
from dami_agent.evaluation.call_batches import AnswerOutcome, BatchRunner
from dami_agent.evaluation.tensor_table import TensorTable
from dami_agent.types import Intensity

__all__ = ["REPLIES", "RETRIES", "Votes", "adaptive", "majority", "retried", "sample_votes", "votes_of"]

REPLIES = 3
"""Replies of Thinking to each question."""

RETRIES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.993, 0.995, 0.996, 0.997, 0.998, 0.999, 1.0)
"""Confidences of a reply below which another one is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Votes(TensorTable):
    """Hold several replies to each question: [questions, replies], two replies at least.

    Attributes:
        right, tokens: of the replies; float32.
        confidence: geometric mean probability of their tokens, thought included; float32, 0 without a vote.
        answers: int64, the place of the first reply that answers the same; -1 without a vote.
    """

    right: torch.Tensor
    tokens: torch.Tensor
    confidence: torch.Tensor
    answers: torch.Tensor

    @property
    def replies(self) -> int:
        """Return how many there are to each question."""
        return self.answers.shape[1]


def sample_votes(
    batches: BatchRunner,
    plan: SamplePlan,
    asked: SampleSet,
    replies: int = REPLIES,
    *,
    switch: float = 0.0,
    kept: Path | None = None,
) -> Votes:
    """Answer everything several times at λ=1, first as :func:`~dami_agent.evaluation.samples.collect` does.

    Args:
        batches: decodes the replies.
        plan: of the replies.
        asked: questions.
        replies: to each question, 2 at least.
        switch: λ up to which Instruct's template is used.
        kept: a file for the answers, of this plan and set alone. What stands there is taken from it, and whoever
            samples λ=1 after this with the same file need not do it again.
    """
    made = [
        AskedBatch(
            name="Thinking's replies",
            asked=asked,
            intensity=Intensity(1),
            plan=plan,
            switch=switch,
            attempt=number,
            kept=kept,
            voted=True,
        )
        for number in range(replies)
    ]
    return votes_of(batches.run(made))


def votes_of(found: Sequence[Sequence[AnswerOutcome]]) -> Votes:
    """Make a table of outcomes, reply by reply, each over all questions."""
    rows = list(zip(*found, strict=True))
    return Votes(
        right=torch.tensor([[float(each.right) for each in row] for row in rows]),
        tokens=torch.tensor([[float(each.tokens) for each in row] for row in rows]),
        confidence=torch.tensor([[_confidence(each) for each in row] for row in rows]),
        answers=torch.tensor([_answers(row) for row in rows]),
    )


def _vote(found: AnswerOutcome) -> str | None:
    return found.answer if found.finished else None


def _confidence(found: AnswerOutcome) -> float:
    return 0.0 if _vote(found) is None or found.logprob is None else math.exp(found.logprob)


def _answers(row: Sequence[AnswerOutcome]) -> list[int]:
    said = [_vote(each) for each in row]
    return [-1 if each is None else said.index(each) for each in said]


def majority(votes: Votes, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Let the first ``count`` replies vote.

    Returns:
        Whether what is taken is right, and the tokens of all replies: [questions] each, as of all methods here.
    """
    elected = _tally(votes, count).argmax(dim=1)  # the first of equals
    return _taken(votes.right, elected), votes.tokens[:, :count].sum(dim=1)


def adaptive(votes: Votes, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Let replies vote one after the other, ``count`` at most, until those to come cannot change the vote."""
    right, _ = majority(votes, count)  # whoever stops early does so as nothing can change it
    tokens, wanted = votes.tokens[:, 0].clone(), torch.ones(len(right), dtype=torch.bool)
    for asked in range(1, count):
        leading = _tally(votes, asked).topk(2, dim=1).values
        wanted &= leading[:, 0] - leading[:, 1] <= count - asked
        tokens += torch.where(wanted, votes.tokens[:, asked], 0.0)
    return right, tokens


def retried(votes: Votes, threshold: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Ask once more where the first reply's confidence is below a threshold, and take the more confident reply."""
    first, second = votes.confidence[:, 0], votes.confidence[:, 1]
    again = first < threshold
    tokens = votes.tokens[:, 0] + torch.where(again, votes.tokens[:, 1], 0.0)
    return _taken(votes.right, (again & (second > first)).long()), tokens


def _tally(votes: Votes, count: int) -> torch.Tensor:
    """Count the votes of the first replies: int64 [questions, replies], each answer's at the first reply with it."""
    return one_hot(votes.answers[:, :count] + 1, votes.replies + 1).sum(dim=1)[:, 1:]


def _taken(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    return values.gather(1, places[:, None])[:, 0]
