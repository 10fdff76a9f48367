"""Measure a pair in training, as JSON lines: ``python -m builtin_pair train evaluate --pair DIR``.

The parts are those of ``dami_agent.evaluation`` at a few hundred questions or tasks, on the calibration split unless
asked otherwise; they run in minutes. Published numbers come from ``dami sweep`` and ``dami bench``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from builtin_pair.training.serving import open_folders
from dami_agent.evaluation import agents, confidence_rule
from dami_agent.evaluation.call_batches import QuestionBatch, SeededQuestions
from dami_agent.evaluation.rows import summary
from dami_agent.evaluation.runner import MAX_TOKENS, question_step, stream_seed
from dami_agent.evaluation.stats import auc, mean
from dami_agent.evaluation.tool_calls import tool_batches, tool_row
from dami_agent.session import Session
from dami_agent.tasks import Question, agent_tasks, questions
from dami_agent.tasks.task import Split
from dami_agent.types import Intensity, Sampling, Template

PATH = tuple(i / 10 for i in range(11))
INSTRUCT_PATH = (0.0, 0.1, 0.2, 0.3, 0.4)
PARTS = ("path", "instruct_path", "confidence", "tools", "agents")
TEMPERATURE = 0.7


def on_path(
    session: Session,
    asked: SeededQuestions,
    intensity: float,
    *,
    template: Template,
    max_tokens: int = MAX_TOKENS,
) -> dict[str, Any]:
    """Answer questions at one λ.

    Args:
        session: the pair.
        asked: (seed, question) pairs.
        intensity: λ.
        template: whose chat template is used.
        max_tokens: output tokens of a reply at most.

    Returns:
        A row as in ``dami sweep``: accuracy, tokens, shares that think and that finish, by level and family.
    """
    batch = QuestionBatch(
        name="path",
        asked=asked,
        intensity=Intensity(intensity),
        temperature=TEMPERATURE,
        max_tokens=max_tokens,
        template=template,
    )
    return summary(batch.intensity, asked, batch.run(session, lambda _: None))


def confidence(session: Session, asked: Sequence[Question]) -> dict[str, Any]:
    """Measure how well Thinking's score of Instruct's direct answer (its least likely token) tells right from wrong.

    Returns:
        ``right``: share of Instruct's answers that are right; ``auc_min``: None where all or none are.
    """
    items = [
        confidence_rule.Item(
            kind="question",
            step=question_step(
                each.prompt, sampling=Sampling(seed=stream_seed("evaluate", each.prompt)), max_tokens=MAX_TOKENS
            ),
            right=lambda reply, each=each: each.grade(reply.content),  # type: ignore[misc]
        )
        for each in asked
    ]
    observed = confidence_rule.observe(session, items, (0.0,))
    right = [each.right[0] for each in observed]
    return {
        "right": round(mean(right), 3),
        "auc_min": auc([confidence_rule.minimum(1.0)(each) for each in observed], right),
    }


def rows(
    pair: Path, parts: Sequence[str], count: int, split: Split, seed: int = 0, device: str = "auto"
) -> Iterator[dict[str, Any]]:
    """Measure part after part.

    Args:
        pair: folder of ``instruct/`` and ``thinking/``.
        parts: of ``PARTS``.
        count: questions or tasks of each measurement.
        split: that they are of.
        seed: of questions, tasks and random streams.
        device: a torch device, or ``auto``.

    Yields:
        One row for each measurement.

    Raises:
        CheckpointError: the folders do not make a pair.
    """
    instruct, thinking = pair / "instruct", pair / "thinking"
    with open_folders(instruct, thinking, device) as session:
        drawn = questions(split, count, seed=seed)
        asked = [(seed, each) for each in drawn]
        paths: Mapping[str, tuple[Template, Sequence[float]]] = {
            "path": ("thinking", PATH),
            "instruct_path": ("instruct", INSTRUCT_PATH),
        }
        for part, (template, lambdas) in paths.items():
            for intensity in lambdas if part in parts else ():
                yield {"part": part, **on_path(session, asked, intensity, template=template)}
        if "confidence" in parts:
            yield {"part": "confidence", **confidence(session, drawn)}
        if "tools" in parts:
            for batch in tool_batches(count, 1, temperature=TEMPERATURE, switch=0.0, split=split):
                yield {"part": "tools", **tool_row(batch, batch.run(session, lambda _: None))}
    if "agents" in parts:
        tasks = agent_tasks(split, count, seed=seed)
        model = {"instruct": str(instruct), "thinking": str(thinking), "device": device}
        for mode in (agents.INSTRUCT, agents.THINKING, agents.DAMI):
            yield {"part": "agents", "mode": mode.name, **agents.run_mode(tasks, mode, seed=seed, model=model).totals()}


def show(pair: Path, parts: Sequence[str], count: int, split: Split, seed: int = 0, device: str = "auto") -> None:
    """Print the rows of :func:`rows` as they come, with the seconds since the start.

    Args:
        pair: folder of the pair.
        parts: what to measure.
        count: questions or tasks per measurement.
        split: of the questions and tasks.
        seed: equal seeds draw the same.
        device: `auto`, `cpu` or `cuda`.
    """
    begun = time.monotonic()
    for row in rows(pair, parts, count, split, seed, device):
        print(json.dumps({**row, "seconds": round(time.monotonic() - begun)}), flush=True)
