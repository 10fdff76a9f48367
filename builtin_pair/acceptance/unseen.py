"""Questions with a template, a name or a length that training never shows, against matching questions it might have.

What "matching" means, for each kind of novelty:

- **template**, **name**: the seen accuracy of the same families and levels, each cell weighted by how many unseen
  questions it has; of lookups those of the same kind alone (:data:`LOOKUPS`). Kinds of the other families are not
  matched: all unseen templates of stories are about one hoard, seen ones also about boxes and ladders; names exist in
  three of the families only.
- **length**: asked on levels 3 to 5 alone. A held-out length is compared with the mean of the seen accuracy at the
  level below it and the level above it, the nearer one counting more where they are far apart, or with its own level
  where that has shorter and longer ones (:data:`NEIGHBOURS`, :data:`LOOKUPS`). Numbers are those of its level, on a
  bill those of level 3; where the next longer one has larger numbers, as level 4 has, it counts little.

Both sides are at the same λ, with different questions; the interval of the gap is that of independent samples, the seen
side being a weighted sum over cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dami_agent.evaluation.call_batches import AnswerOutcome, SeededQuestions
from dami_agent.evaluation.stats import Z, half_width, mean, variance
from dami_agent.tasks import LEVELS, Question, Unseen, questions

LAMBDAS = (0.0, 0.5, 1.0)
LENGTH_LEVELS = (3, 4, 5)

_SIX = (4, 4, 4, 4, 4, 5)
_OPERATIONS = {3: (3,) * 9 + (4,), 4: _SIX, 5: _SIX}  # 4 after 3 small ones, 6 between 5 and 11
NEIGHBOURS: Mapping[str, Mapping[int, tuple[int, ...]]] = {
    "chain": _OPERATIONS,
    "story": _OPERATIONS,
    "prices": dict.fromkeys(LENGTH_LEVELS, (3,)),  # 3 things on the bill, among 2 and 4
    "list": {3: (3, 3, 3, 4), 4: (4,), 5: (5,)},  # 6 and 10 numbers between 4 or 5, 8 or 9, and 11
}
"""Family -> level of a held-out length -> levels it is compared with; one that stands there twice counts twice."""

LOOKUPS: Mapping[tuple[Unseen, str], Mapping[int, tuple[int, ...]]] = {
    ("length", "passes"): {3: (2, 4, 4), 4: (4, 5), 5: (4, 5)},  # 4 passes between 1 and 5, 6 between 5 and 8
    ("length", "order"): dict.fromkeys(LENGTH_LEVELS, (4,)),  # 6 people in a row, among 5 and 7
}
"""The same for lookups, by what is unseen and by kind; another level is compared with itself."""

Key = tuple[str, int, str]
"""Family, level, kind."""


Seen = Callable[[Mapping[Key, float]], tuple[float, float]]
"""Weights of keys -> the weighted accuracy of the seen questions and its variance; infinite without questions."""


def unseen_questions(kind: Unseen, count: int, seeds: int) -> list[tuple[int, Question]]:
    """Draw ``count`` questions of the test split, families and levels in turn, shared by the seeds."""
    levels = LENGTH_LEVELS if kind == "length" else LEVELS
    share = -(-count // seeds)
    drawn = questions("test", count, levels=levels, unseen=kind)
    return [(index // share, question) for index, question in enumerate(drawn)]


def compare_unseen(kind: Unseen, asked: SeededQuestions, found: Sequence[AnswerOutcome], seen: Seen) -> dict[str, Any]:
    """Compare one kind at one λ: its accuracy, the matching seen one, and their gap (positive: unseen is worse).

    ``seen``, ``gap`` and ``gap_ci`` are None if a matching cell has no seen questions.

    Args:
        kind: what is unseen.
        asked: questions with something unseen.
        found: their outcomes.
        seen: outcomes of like questions without it.
    """
    right = [float(outcome.right) for outcome in found]
    weights: dict[Key, float] = {}
    for _, question in asked:
        keys = matching(kind, question)
        for key in keys:
            weights[key] = weights.get(key, 0.0) + 1 / len(keys) / len(asked)
    row: dict[str, Any] = {
        "accuracy": round(mean(right), 4),
        "accuracy_ci": round(half_width(int(sum(right)), len(right)), 4),
        "tokens": round(mean([outcome.tokens for outcome in found]), 2),
        "finished": round(mean([outcome.finished for outcome in found]), 4),
        "questions": len(found),
        "seen": None,
        "gap": None,
        "gap_ci": None,
    }
    reference, spread = seen(weights)
    spread += variance(right) / len(right)
    if math.isfinite(spread):
        gap = reference - mean(right)
        row |= {"seen": round(reference, 4), "gap": round(gap, 4), "gap_ci": round(Z * math.sqrt(spread), 4)}
    return row


def matching(kind: Unseen, question: Question) -> tuple[Key, ...]:
    """Return the seen questions that one with something unseen is compared with; see the module's docstring."""
    own = (question.level,)
    if question.family == "lookup":
        levels = LOOKUPS.get((kind, question.kind), {}).get(question.level, own)
    else:
        levels = NEIGHBOURS[question.family][question.level] if kind == "length" else own
    return tuple((question.family, level, question.kind) for level in levels)


def seen_accuracy(asked: SeededQuestions, found: Sequence[AnswerOutcome]) -> Seen:
    """Prepare the seen side of the comparison from the held-out questions at one λ."""
    answers: dict[Key, list[float]] = {}
    for (_, question), outcome in zip(asked, found, strict=True):
        answers.setdefault((question.family, question.level, question.kind), []).append(float(outcome.right))

    def weighted(weights: Mapping[Key, float]) -> tuple[float, float]:
        accuracy = spread = 0.0
        for key, weight in weights.items():
            right = answers.get(key, [])
            accuracy += weight * mean(right)
            spread += weight**2 * variance(right) / max(1, len(right))
        return accuracy, spread

    return weighted
