"""Measure what answering a question more than once costs and gains: cascades, second tries, head and probe together.

Every arm answers the same questions, with the same seed for each, by the road of a ``ChatDAMI`` call; tokens are those
of all attempts and discarded probes, as the caller pays for them. ``python -m dami_agent.evaluation.plans`` prints the
table. Questions are of the calibration split, drawn with another seed than those that the pair's heads were fitted to;
all thresholds are the defaults, not fitted to the questions.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from dami_agent.estimators import AutoEstimator, StagedEstimator
from dami_agent.evaluation import runner
from dami_agent.evaluation.stats import half_width, mean, mean_half_width
from dami_agent.evaluation.worker_pool import WorkerPool
from dami_agent.pipeline import Outcome, Pipeline
from dami_agent.policy import ReasoningPolicy
from dami_agent.processes import end_with_parent
from dami_agent.session import Session
from dami_agent.tasks import Question, questions
from dami_agent.types import Estimator, Sampling

ABREAST = 128
"""Questions that are answered at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """Holds one way to answer.

    Attributes:
        name: of the table's row.
        policy: as a policy file would say it.
        estimator: of λ, where the policy leaves it open.
    """

    name: str
    policy: dict[str, Any] = field(default_factory=dict)
    estimator: Estimator = field(default_factory=AutoEstimator)


ARMS = (
    Arm(name="λ=0", policy={"default": {"intensity": 0}}),
    Arm(name="λ=1", policy={"default": {"intensity": 1}}),
    Arm(name="`auto`"),
    Arm(name="cascade 0 → 1, confidence", policy={"cascade": {}}),
    Arm(name="cascade 0 → 1, agreement", policy={"cascade": {"check": "agreement"}}),
    Arm(name="second tries, at `auto`'s λ", policy={"self_consistency": {}}),
    Arm(name="`staged`: head, then probe", estimator=StagedEstimator()),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """Holds what became of one question: whether the answer is right, tokens of all attempts, how many there were."""

    right: bool
    tokens: int
    attempts: int


def answer_all(session: Session, arm: Arm, asked: Sequence[Question], *, seed: int) -> list[Answered]:
    """Answer all questions in one way.

    Args:
        session: of the pair.
        arm: the way.
        asked: the questions.
        seed: of their random streams.
    """
    policy = ReasoningPolicy.from_dict(arm.policy).with_frontier(session.frontier)
    pipeline = Pipeline(engine=session.engine, dialogue=session.dialogue, policy=policy, estimator=arm.estimator)

    def answer(question: Question) -> Answered:
        sampling = Sampling(seed=runner.stream_seed(seed, question.prompt, "plans"))
        step = runner.question_step(question.prompt, sampling=sampling, max_tokens=runner.MAX_TOKENS)
        outcome: Outcome = pipeline.run(step)
        return Answered(
            right=question.grade(outcome.reply.content),
            tokens=sum(record.output_tokens for record in outcome.attempts),
            attempts=len(outcome.attempts),
        )

    with ThreadPoolExecutor(ABREAST) as pool:
        return list(pool.map(answer, asked))


def table(found: dict[str, list[Answered]], baseline: str = "`auto`") -> str:
    """Write the arms as a Markdown table, each beside ``baseline`` on the same questions; ± are 95 % intervals."""
    lines = ["|  | right | tokens | replies | right, against `auto` |", "| --- | ---: | ---: | ---: | ---: |"]
    base = found[baseline]
    for name, rows in found.items():
        right = [row.right for row in rows]
        gains = [float(one.right) - float(other.right) for one, other in zip(rows, base, strict=True)]
        gain = "" if name == baseline else f"{_signed(100 * mean(gains))} ± {100 * mean_half_width(gains):.1f}"
        tokens, replies = [float(row.tokens) for row in rows], mean([row.attempts for row in rows])
        accuracy = f"{mean(right):.3f} ± {half_width(sum(right), len(right)):.3f}"
        lines.append(
            f"| {name} | {accuracy} | {mean(tokens):.0f} ± {mean_half_width(tokens):.0f} | {replies:.2f} | {gain} |"
        )
    return "\n".join(lines)


def _signed(points: float) -> str:
    return f"{points:+.1f}".replace("-", "−")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table of all arms on the built-in pair."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--questions", type=int, default=150, help="how many are asked")
    parser.add_argument("--seed", type=int, default=11, help="of the questions and of their random streams")
    parser.add_argument("--workers", type=int, default=1, help="processes that answer, each with the pair in memory")
    given = parser.parse_args(arguments)
    answer = partial(_run, given.questions, given.seed)
    with WorkerPool[Arm, list[Answered]](given.workers, answer, end_with_parent) as pool:
        found = pool.map(ARMS, lambda arm, rows: print(f"{arm.name}: done", file=sys.stderr, flush=True))
    print(table({arm.name: rows for arm, rows in zip(ARMS, found, strict=True)}))


def _run(count: int, seed: int, arm: Arm) -> list[Answered]:
    session = runner.open_batch_session(batch=ABREAST)
    return answer_all(session, arm, questions("calibration", count, seed=seed), seed=seed)


if __name__ == "__main__":
    main()
