"""Measure a pair's frontier: λ = 0, .1, … 1 over held-out questions, and the switch point between templates.

What is asked and how it is counted:

- Questions are of the *test* split, families and levels in turn. Each seed has questions of its own and random streams
  of its own; every λ answers the same questions with the same streams (so differences between λs are paired).
- ``accuracy_ci`` is half of Wilson's 95 % interval: every question is answered once per λ, so answers are independent.
- ``tokens`` are mean output tokens, thought and answer, up to the cap; ``think_ratio`` is the share of replies with a
  thought that is not blank; ``finished`` the share that the model ended itself.
- The **switch point** is the smallest λ of the sweep above which, at every λ measured, Thinking's chat template is at
  least as accurate as Instruct's, up to the noise of the paired comparison; it is measured on the *calibration* split.
- ``outcomes`` keep what became of every question at every λ (``outcomes.py``), for paired comparisons later.
- Oracle, pass@k, best of n, retry: ``controls.py``. Tool calls: ``tool_calls.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dami_agent.errors import UsageError
from dami_agent.evaluation import controls
from dami_agent.evaluation.call_batches import (
    AnswerOutcome,
    BatchRunner,
    PairSource,
    Progress,
    QuestionBatch,
    SeededQuestions,
)
from dami_agent.evaluation.outcomes import packed
from dami_agent.evaluation.rows import differences, summary
from dami_agent.evaluation.runner import MAX_TOKENS
from dami_agent.evaluation.stats import mean, mean_half_width
from dami_agent.evaluation.tool_calls import tool_batches, tool_row
from dami_agent.policy import Frontier
from dami_agent.tasks import FAMILIES, LEVELS, Question, questions
from dami_agent.types import Intensity, Template

LAMBDAS = tuple(i / 10 for i in range(11))
TEMPLATES: tuple[Template, Template] = ("instruct", "thinking")


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepConfig:
    """Say what to measure; the defaults are what ships as the built-in pair's frontier.

    Attributes:
        questions: in all, over the seeds.
        seeds: each with its own questions and streams.
        lambdas: in [0, 1]; 0 and 1 are always among them.
        temperature: at every λ; top-p and top-k stay the checkpoints' own, as in use.
        max_tokens: cap of one reply.
        switch_questions: for each λ and template; 0 takes the switch point as 0.
        control_questions: of the held-out ones, tried again and again; 0 leaves the controls out.
        tool_dialogues: for each setting and λ; 0 leaves the tool calls out.
    """

    questions: int = 2100
    seeds: int = 3
    lambdas: tuple[float, ...] = LAMBDAS
    temperature: float = 0.7
    max_tokens: int = MAX_TOKENS
    switch_questions: int = 80
    control_questions: int = 100
    tool_dialogues: int = 150

    def __post_init__(self) -> None:
        if not self.lambdas:
            raise UsageError("a sweep needs at least one λ")
        if not 1 <= self.seeds <= self.questions:
            raise UsageError(f"{self.questions} questions cannot be shared by {self.seeds} seeds")
        lambdas = sorted({Intensity(value) for value in (*self.lambdas, 0, 1)})
        object.__setattr__(self, "lambdas", tuple(lambdas))


def sweep(
    plan: SweepConfig,
    source: PairSource,
    *,
    workers: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure a pair; see the module's docstring.

    Args:
        plan: what.
        source: the pair.
        workers: processes to share the work; the results are those of one.
        progress: told of it.

    Returns:
        What ``dami sweep --json`` prints and :meth:`dami_agent.policy.Frontier.from_dict` reads.
    """
    with BatchRunner(source, workers, progress) as runner:
        switch, templates = measure_switch(runner, plan)
        asked = list(held_out(plan.questions, plan.seeds))
        found, tools = measure(runner, plan, asked, switch)
        rows = [summary(value, asked, outcomes) for value, outcomes in found.items()]
        tried = measure_controls(runner, plan, asked, rows, switch)
        info = runner.session.engine.info
    return {
        "rows": rows,
        "questions": plan.questions,
        "seeds": plan.seeds,
        "switch_point": switch,
        "pair": info.model,
        "fingerprint": info.fingerprint,
        "temperature": plan.temperature,
        "max_tokens": plan.max_tokens,
        "families": list(FAMILIES),
        "levels": list(LEVELS),
        "switch": templates,
        "tools": tools,
        "differences": differences(asked, found),
        "controls": tried,
        "outcomes": packed(found),
    }


def held_out(count: int, seeds: int) -> Iterator[tuple[int, Question]]:
    """Yield (seed, question) pairs of the test split: other questions for each seed, kinds balanced within it."""
    share = -(-count // seeds)
    for index, question in enumerate(questions("test", count)):
        yield index // share, question


def measure(
    runner: BatchRunner, plan: SweepConfig, asked: SeededQuestions, switch: float
) -> tuple[dict[Intensity, list[AnswerOutcome]], list[dict[str, Any]]]:
    """Return the outcomes of the held-out questions by λ, and the rows of the tool calls.

    Args:
        runner: decodes the batches.
        plan: the sweep's settings.
        asked: the held-out questions with their seeds.
        switch: λ above which Thinking's template is used.
    """
    settings: dict[str, Any] = {"temperature": plan.temperature, "max_tokens": plan.max_tokens, "switch": switch}
    lambdas = [Intensity(value) for value in plan.lambdas]
    tools = tool_batches(plan.tool_dialogues, plan.seeds, temperature=plan.temperature, switch=switch)
    held = [QuestionBatch(name=f"λ={value:g}", asked=asked, intensity=value, **settings) for value in lambdas]
    outcomes = runner.run([*tools, *held])
    found = dict(zip(lambdas, outcomes[len(tools) :], strict=True))
    return found, [tool_row(*pair) for pair in zip(tools, outcomes[: len(tools)], strict=True)]


def measure_controls(
    runner: BatchRunner, plan: SweepConfig, asked: SeededQuestions, rows: Sequence[Mapping[str, Any]], switch: float
) -> dict[str, Any] | None:
    """Measure oracle, pass@k, best of n and retry on a part of the questions; None if the plan has none.

    Args:
        runner: decodes the batches.
        plan: the sweep's settings.
        asked: the held-out questions with their seeds.
        rows: of the frontier, for its grid.
        switch: λ above which Thinking's template is used.
    """
    if not plan.control_questions:
        return None
    grid = Frontier.from_dict({"rows": rows}).grid
    few = controls.part(asked, plan.control_questions)
    made = controls.batches(few, grid, temperature=plan.temperature, max_tokens=plan.max_tokens, switch=switch)
    return controls.compare(grid, runner.run(made))


def measure_switch(runner: BatchRunner, plan: SweepConfig) -> tuple[float, list[dict[str, Any]]]:
    """Measure the switch point, and the comparison of the two templates at every λ > 0 it comes from."""
    if not plan.switch_questions:
        return 0.0, []
    asked = [(0, question) for question in questions("calibration", plan.switch_questions)]
    above = [Intensity(value) for value in plan.lambdas if value > 0]
    batches = [
        QuestionBatch(
            name="templates",
            asked=asked,
            intensity=value,
            temperature=plan.temperature,
            max_tokens=plan.max_tokens,
            template=template,
        )
        for value in above
        for template in TEMPLATES
    ]
    outcomes = runner.run(batches)
    rows = [templates_row(value, *outcomes[2 * i : 2 * i + 2]) for i, value in enumerate(above)]
    return switch_point(rows), rows


def templates_row(
    value: Intensity, instruct: Sequence[AnswerOutcome], thinking: Sequence[AnswerOutcome]
) -> dict[str, Any]:
    """Compare both templates at one λ: their accuracy and tokens, and Thinking's gain in accuracy on Instruct's.

    Args:
        value: λ.
        instruct, thinking: outcomes of the same questions under either template.
    """
    row: dict[str, Any] = {"lambda": float(value)}
    for name, found in zip(TEMPLATES, (instruct, thinking), strict=True):
        row[name] = {
            "accuracy": round(mean([outcome.right for outcome in found]), 4),
            "tokens": round(mean([outcome.tokens for outcome in found]), 2),
        }
    gains = [float(b.right) - float(a.right) for a, b in zip(instruct, thinking, strict=True)]
    row["gain"] = round(mean(gains), 4)
    row["gain_ci"] = round(mean_half_width(gains), 4) if len(gains) > 1 else None
    return row


def switch_point(rows: Sequence[Mapping[str, Any]]) -> float:
    """Return the smallest λ, 0 or measured, above which Thinking's template is nowhere worse than the noise allows.

    Args:
        rows: by rising λ, each with ``gain`` (Thinking's accuracy less Instruct's) and its half interval ``gain_ci``;
            None where it cannot be told.
    """
    point = 0.0
    for row in rows:
        noise = row["gain_ci"] if row["gain_ci"] is not None else math.inf
        if row["gain"] < -noise:
            point = row["lambda"]
    return float(point)
