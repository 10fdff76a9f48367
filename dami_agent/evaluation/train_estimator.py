"""Train a pair's heads on its own replies, and judge them by prompts that they never saw."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from dami_agent.estimators import judge
from dami_agent.estimators.fit import LEAST, check_count, fit_heads
from dami_agent.estimators.head import Head
from dami_agent.estimators.heads import Heads
from dami_agent.estimators.preference import MAX_LOSS
from dami_agent.estimators.samples import Samples
from dami_agent.evaluation.asked import SamplePlan, SampleSet
from dami_agent.evaluation.call_batches import BatchRunner, PairSource, Progress
from dami_agent.evaluation.own_questions import OwnQuestion
from dami_agent.evaluation.samples import collect, every_layer, states_read_at
from dami_agent.evaluation.task_set import TaskSet
from dami_agent.tasks import questions

__all__ = ["builtin_sets", "own_sets", "train"]


def builtin_sets(learned: int, tested: int, tasks: int, tested_tasks: int = 0) -> tuple[SampleSet, SampleSet]:
    """Draw what is learned from (calibration split) and judged by (test split) of the built-in tasks.

    Args:
        learned, tested: questions.
        tasks, tested_tasks: agent tasks, each with all its steps.
    """
    sets = (("calibration", learned, tasks), ("test", tested, tested_tasks))
    return tuple(  # type: ignore[return-value]
        SampleSet(
            questions=[(1, question) for question in questions(split, count, seed=1)],  # type: ignore[arg-type]
            tasks=TaskSet(count=steps, seeds=(1,), split=split) if steps else None,  # type: ignore[arg-type]
        )
        for split, count, steps in sets
    )


def own_sets(found: Sequence[OwnQuestion], tested: int | None = None) -> tuple[SampleSet, SampleSet]:
    """Divide a user's own questions, shuffled by a fixed seed, into those to learn from and those to judge by.

    Args:
        found: questions; those in the same words are kept together.
        tested: how many to judge by; None: a fifth, as long as enough are left to learn from.

    Raises:
        InvalidRequest: too few are left to learn from.
    """
    texts = list(dict.fromkeys(question.prompt for question in found))
    Random("train-estimator").shuffle(texts)
    if tested is None:
        tested = max(0, min(len(found) // 5, len(found) - LEAST))
    held, count = set[str](), 0
    for text in texts:
        if count >= tested:
            break
        held.add(text)
        count += sum(question.prompt == text for question in found)
    parts = [[(1, q) for q in found if (q.prompt in held) == judged] for judged in (False, True)]
    check_count(len(parts[0]), f" of {len(found)}, {len(parts[1])} of which are kept to judge by," if parts[1] else "")
    return SampleSet(questions=parts[0]), SampleSet(questions=parts[1])


def train(
    source: PairSource,
    plan: SamplePlan,
    learned: SampleSet,
    tested: SampleSet | None = None,
    *,
    kept: Path | None = None,
    workers: int = 1,
    tell: Progress | None = None,
) -> tuple[Heads, list[dict[str, Any]]]:
    """Sample the pair's replies, fit heads to them, and judge them.

    Args:
        source: the pair.
        plan: at which λs, how often.
        learned: what they are fitted to.
        tested: what they are judged by, none of which they have seen; may be empty.
        kept: a file that holds the samples to learn from, or will hold them; None: they are not kept.
        workers: processes that decode.
        tell: of progress.

    Returns:
        The heads, whose cards and prices come from folds left out, and what ``tested`` says of each, in their order,
        where there are prompts of its kind.

    Raises:
        InvalidRequest: too few prompts, an engine that gives no hidden states, or kept samples of something else.
    """
    check_count(len(learned))
    with BatchRunner(source, workers, tell) as runner:
        every_layer(runner.session.engine)  # before anything is read
        info = runner.session.engine.info
        frontier = runner.session.frontier
        of = learned.digest(info.fingerprint, plan, frontier.switch_point, states_read_at(frontier))
        if kept is not None and kept.exists():
            samples = Samples.load(kept, of)
        else:
            samples = collect(runner, plan, learned)
            if kept is not None:
                samples.save(kept, of)
        heads = fit_heads(samples, info.fingerprint)
        held = collect(runner, plan, tested) if tested else None
    return heads, [] if held is None else [found for head in heads if (found := _judged(head, held)) is not None]


def _judged(head: Head, held: Samples) -> dict[str, Any] | None:
    """Judge one head by the prompts of its kind; None where there are none."""
    part = held.of(head.kind)
    if not len(part):
        return None
    right, tokens = head.predict(part.features(head.reads, head.layers))
    points = [dataclasses.asdict(point) for point in judge.points(part, head, right, tokens)]
    said = {"reads": head.reads, "kind": head.kind, "prompts": len(part), "price": head.point_within(MAX_LOSS).price}
    return said | judge.report(part, right, tokens) | {"prices": points}
