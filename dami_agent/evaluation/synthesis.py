"""Sample replies at a low λ and what Thinking makes of their answers: explore low, then synthesise high.

A2R (arXiv 2509.22044) lets a small model explore, and a larger one, told what it found, answer. Here one pair does
both: two replies at a low λ, whose answers stand above the question that λ=1 is then asked. All replies are paid for.

- ``a2r``: λ=1 is always asked.
- ``a2r on doubt``: only where the two differ; else their answer is taken.

The built-in pair was not trained to be told others' answers. Of four ways to tell it this one does the least harm:
of 240 questions of the calibration split λ=1 got .73 right, .21 to .38 in the other ways, and .86 untold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dami_agent.evaluation.asked import AskedBatch, AskedQuestion, SamplePlan, SampleSet
from dami_agent.evaluation.call_batches import AnswerOutcome, BatchRunner
from dami_agent.evaluation.tensor_table import TensorTable
from dami_agent.tasks import Question
from dami_agent.types import Intensity

__all__ = ["EXPLORERS", "Syntheses", "sample_syntheses", "syntheses_of", "synthesised"]

EXPLORERS = (0.2, 0.6)
"""λs that explore."""

_REPLIES = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Syntheses(TensorTable):
    """Hold what came of exploring at each λ: float32 [questions, explorers] each.

    Attributes:
        explored: 1 where the first explorer's reply is right.
        agreed: 1 where the explorers answer the same.
        tokens: of both explorers' replies.
        right, final_tokens: of the reply at λ=1 that was told their answers.
    """

    explored: torch.Tensor
    agreed: torch.Tensor
    tokens: torch.Tensor
    right: torch.Tensor
    final_tokens: torch.Tensor


def sample_syntheses(
    batches: BatchRunner,
    plan: SamplePlan,
    asked: SampleSet,
    explorers: Sequence[float] = EXPLORERS,
    *,
    switch: float = 0.0,
    kept: Path | None = None,
) -> Syntheses:
    """Answer everything twice at each low λ, and then once at λ=1 with both answers in view.

    Args:
        batches: decodes the replies.
        plan: of the replies.
        asked: the tasks' questions.
        explorers: λs that explore.
        switch: λ up to which Instruct's template is used.
        kept: a file for the explorers' answers, of this plan and set alone, and whoever samples these λs after this
            with the same file need not do it again. Those at λ=1 go into one beside it.
    """
    lambdas = [Intensity(value) for value in explorers]
    explored = batches.run(
        [
            AskedBatch(
                name=f"exploring at λ={value:g}",
                asked=asked,
                intensity=value,
                plan=plan,
                switch=switch,
                attempt=number,
                kept=kept,
                voted=True,
                told=True,
            )
            for value in lambdas
            for number in range(_REPLIES)
        ]
    )
    by_lambda = [
        list(zip(*explored[place : place + _REPLIES], strict=True)) for place in range(0, len(explored), _REPLIES)
    ]
    finals = batches.run(
        [
            AskedBatch(
                name=f"synthesising what λ={value:g} found",
                asked=_told(asked, rows),
                intensity=Intensity(1),
                plan=plan,
                switch=switch,
                kept=None if kept is None else kept.with_name(f"{kept.stem}-told-{value:g}.jsonl"),
            )
            for value, rows in zip(lambdas, by_lambda, strict=True)
        ]
    )
    return syntheses_of(by_lambda, finals)


def syntheses_of(
    explored: Sequence[Sequence[Sequence[AnswerOutcome]]], finals: Sequence[Sequence[AnswerOutcome]]
) -> Syntheses:
    """Make a table of outcomes.

    Args:
        explored: by λ and question, the explorers' replies.
        finals: by λ and question, the reply that was told of them.
    """
    return Syntheses(
        explored=_table([[float(row[0].right) for row in rows] for rows in explored]),
        agreed=_table([[float(_agree(row)) for row in rows] for rows in explored]),
        tokens=_table([[float(sum(each.tokens for each in row)) for row in rows] for rows in explored]),
        right=_table([[float(each.right) for each in outcomes] for outcomes in finals]),
        final_tokens=_table([[float(each.tokens) for each in outcomes] for outcomes in finals]),
    )


def synthesised(found: Syntheses, explorer: int, *, on_doubt: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return whether what is taken is right, and the tokens of all replies: [questions] each.

    Args:
        found: what was sampled.
        explorer: place of the λ that explores.
        on_doubt: λ=1 is asked only where the explorers differ.
    """
    taken = found.agreed[:, explorer] > 0.5 if on_doubt else torch.zeros(len(found.right), dtype=torch.bool)
    right = torch.where(taken, found.explored[:, explorer], found.right[:, explorer])
    return right, found.tokens[:, explorer] + torch.where(taken, 0.0, found.final_tokens[:, explorer])


def with_answers(prompt: str, answers: Sequence[str]) -> str:
    """Put two answers above a question."""
    first, second = (answer.strip() or "(none)" for answer in answers)
    return f"Two answers to a question are {first} and {second}. Either may be wrong.\n\n{prompt}"


def _told(asked: SampleSet, rows: Sequence[Sequence[AnswerOutcome]]) -> SampleSet:
    """Ask the same with the explorers' answers above each question."""
    questions: list[tuple[int, AskedQuestion]] = []
    for (seed, question), row in zip(asked.questions, rows, strict=True):
        assert isinstance(question, Question)
        prompt = with_answers(question.prompt, [each.content or "" for each in row])
        questions.append((seed, dataclasses.replace(question, prompt=prompt)))
    return SampleSet(questions=questions)


def _agree(row: Sequence[AnswerOutcome]) -> bool:
    """Tell whether all replies answer the same; what was cut off or answers nothing agrees with nobody."""
    first = row[0].answer
    return first is not None and all(each.finished and each.answer == first for each in row)


def _table(columns: Sequence[Sequence[float]]) -> torch.Tensor:
    return torch.tensor(columns).T.contiguous()
