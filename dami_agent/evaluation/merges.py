"""Hold static merges of all kinds against the straight path, on questions that no model was trained on.

Each merge answers the same questions under the same random streams, with Thinking's template. It is compared with the
best mix of two λs of the path that costs as many tokens, question by question: what a merge gains there is what it
could add to a λ per request. All λs and settings are chosen on the questions that they are judged by, but for λs of
layers, which :mod:`dami_agent.evaluation.consensus` takes from activations on others.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dami_agent.checkpoints import CheckpointPair
from dami_agent.estimators.judge import best_mix, mean_ci
from dami_agent.evaluation.call_batches import AnswerOutcome, BatchRunner, PairSource, Progress, QuestionBatch
from dami_agent.evaluation.consensus import consensus_merges
from dami_agent.evaluation.runner import MAX_TOKENS
from dami_agent.evaluation.sweep import held_out
from dami_agent.tasks import Question
from dami_agent.types import Intensity
from dami_agent.weights.static_merges import MERGES, StaticMerge, write_merge

__all__ = ["MergePlan", "compare_merges"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MergePlan:
    """Say what to ask, and of which merges.

    Attributes:
        base: folder of the model that both were tuned from; without it, the ways that start from there are left out.
        questions, seeds: held-out questions, over all seeds.
        merges: straight ones among them, λ=1 too, which is Thinking's own weights.
        consensus: also merge with a λ for each layer, by what activations tell.
        temperature, max_tokens: of the replies.
    """

    base: Path | None = None
    questions: int = 600
    seeds: int = 3
    merges: Sequence[StaticMerge] = MERGES
    consensus: bool = True
    temperature: float = 0.7
    max_tokens: int = MAX_TOKENS


def compare_merges(
    plan: MergePlan, source: PairSource, *, workers: int = 1, tell: Progress | None = None
) -> dict[str, Any]:
    """Answer all questions with every merge; see the module's docstring.

    Args:
        plan: what to ask.
        source: the pair; its checkpoints are read from their folders.
        workers: processes that share the work of one merge.
        tell: of progress.

    Returns:
        JSON: a row for each merge, with its gain over the path at equal tokens.

    Raises:
        UsageError: the base is of another architecture.
        InvalidRequest: consensus is asked for, and the pair's engine gives no hidden states.
    """
    pair = CheckpointPair.named(source.instruct, source.thinking)
    asked = list(held_out(plan.questions, plan.seeds))
    wanted = [merge for merge in plan.merges if plan.base is not None or not merge.needs_base]
    if plan.consensus:
        session = source.open()
        wanted += consensus_merges(session, tell)
        session.engine.close()  # as below; the pair is opened anew by whoever asks
    found: list[list[AnswerOutcome]] = []
    with tempfile.TemporaryDirectory(prefix="dami-merge-") as scratch:
        for number, merge in enumerate(wanted):
            folder = Path(scratch) / str(number)
            write_merge(merge, pair, plan.base, folder)
            merged = PairSource(instruct=str(pair.instruct.path), thinking=str(folder), batch=source.batch)
            batches = [_batch(plan, merge, part) for part in _parts(asked, workers)]
            with BatchRunner(merged, workers, tell) as runner:
                found.append(_in_order(runner.run(batches)))
                runner.session.engine.close()  # its weights would stay in memory, and nobody asks for this pair again
    numbers: dict[str, float] = {}
    groups = torch.tensor([numbers.setdefault(question.prompt, float(len(numbers))) for _, question in asked])
    return {
        "pair": pair.name,
        "fingerprint": pair.fingerprint,
        "questions": len(asked),
        "seeds": plan.seeds,
        "temperature": plan.temperature,
        "left_out": sorted({merge.method for merge in plan.merges} - {merge.method for merge in wanted}),
        "rows": _rows(wanted, found, groups),
    }


def _parts(asked: Sequence[tuple[int, Question]], workers: int) -> list[Sequence[tuple[int, Question]]]:
    """Divide the questions so that every worker has some; which neighbours a question has changes nothing."""
    return [asked[place::workers] for place in range(workers)] if workers > 1 else [asked]


def _in_order(parts: Sequence[Sequence[AnswerOutcome]]) -> list[AnswerOutcome]:
    """Put the outcomes of :func:`_parts` back into the order of the questions."""
    whole: list[AnswerOutcome | None] = [None] * sum(map(len, parts))
    for place, part in enumerate(parts):
        whole[place :: len(parts)] = part
    return [each for each in whole if each is not None]


def _batch(plan: MergePlan, merge: StaticMerge, asked: Sequence[tuple[int, Question]]) -> QuestionBatch:
    return QuestionBatch(
        name=merge.name,
        asked=asked,
        intensity=Intensity(1),
        temperature=plan.temperature,
        max_tokens=plan.max_tokens,
        template="thinking",
    )


def _rows(
    merges: Sequence[StaticMerge], found: Sequence[Sequence[AnswerOutcome]], groups: torch.Tensor
) -> list[dict[str, Any]]:
    """Compare each merge with the best mix of two straight ones that takes as many tokens."""
    right = [torch.tensor([float(each.right) for each in outcomes]) for outcomes in found]
    tokens = [torch.tensor([float(each.tokens) for each in outcomes]) for outcomes in found]
    straight = [place for place, merge in enumerate(merges) if merge.method == "linear"]
    path, costs = [right[place] for place in straight], [float(tokens[place].mean()) for place in straight]
    rows = []
    for place, merge in enumerate(merges):
        cost = float(tokens[place].mean())
        row: dict[str, Any] = {
            "method": merge.method,
            "settings": merge.settings,
            "accuracy": round(float(right[place].mean()), 4),
            "tokens": round(cost, 1),
            "finished": round(sum(each.finished for each in found[place]) / len(found[place]), 4),
        }
        if place not in straight:
            gain, ci = mean_ci(right[place] - best_mix(path, costs, cost), groups)
            row |= {"gain": round(gain, 4), "gain_ci": round(ci, 4)}
        rows.append(row)
    return rows
