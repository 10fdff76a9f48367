"""Random questions and outcomes for tests of what is counted from them."""

from __future__ import annotations

import random
from collections.abc import Callable

from dami_agent.evaluation.call_batches import AnswerOutcome
from dami_agent.tasks import FAMILIES, LEVELS, Question
from dami_agent.types import Intensity

SeededQuestions = list[tuple[int, Question]]


def asked(count: int, seeds: int = 3) -> SeededQuestions:
    """Questions of every family and level in turn, shared by the seeds; only family, level, kind and seed matter."""
    kinds = [(family, level) for level in LEVELS for family in FAMILIES]
    share = -(-count // seeds)
    made = []
    for i in range(count):
        family, level = kinds[i % len(kinds)]
        kind = ("passes", "order", "table")[i % 3] if family == "lookup" else ""
        made.append((i // share, Question(family, level, prompt=f"question {i}", answer=i, kind=kind)))
    return made


def outcome(right: bool = True, tokens: int = 10, **more: object) -> AnswerOutcome:
    return AnswerOutcome(right=right, tokens=tokens, template="thinking", **more)  # type: ignore[arg-type]


def draw(
    questions: SeededQuestions,
    seed: int,
    *,
    right: Callable[[Question], float],
    tokens: Callable[[Question], float],
    thinks: float = 0.0,
) -> list[AnswerOutcome]:
    """Outcomes whose chance of being right and whose mean tokens depend on the question."""
    rng = random.Random(seed)
    found = []
    for _, question in questions:
        thought = rng.random() < thinks
        number = max(1, round(rng.gauss(tokens(question), 2)))
        good, ended = rng.random() < right(question), rng.random() < 0.995
        found.append(outcome(good, number, thought=thought, finished=ended, logprob=rng.uniform(-1, 0)))
    return found


def found(
    questions: SeededQuestions, lambdas: tuple[float, ...] = (0, 0.25, 0.5, 0.75, 1)
) -> dict[Intensity, list[AnswerOutcome]]:
    """A well-behaved pair: accuracy and tokens rise with λ, accuracy falls with the level, most so at λ=0."""
    return {
        Intensity(value): draw(
            questions,
            place,
            right=lambda q, v=value: 0.99 - (0.22 - 0.17 * v) * (q.level - 1),  # type: ignore[misc]
            tokens=lambda q, v=value: 10 + 100 * v,  # type: ignore[misc]
            thinks=value,
        )
        for place, value in enumerate(lambdas)
    }
