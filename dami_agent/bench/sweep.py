"""The frontier of a pair, measured: λ = 0, .1, … 1 over held-out questions, and the switch point between templates.

What is asked and how it is counted:

- Questions are of the *test* split, families and levels in turn. Each seed has questions of its own and random streams
  of its own; every λ answers the same questions with the same streams (so differences between λs are paired).
- ``accuracy_ci`` is half of Wilson's 95 % interval: every question is answered once per λ, so answers are independent.
- ``tokens`` are mean output tokens, thought and answer, up to the cap; ``think_ratio`` is the share of replies with a
  thought that is not blank; ``finished`` the share that the model ended itself.
- The **switch point** is the smallest λ of the sweep above which, at every λ measured, Thinking's chat template is at
  least as accurate as Instruct's, up to the noise of the paired comparison; it is measured on the *calibration* split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dami_agent.bench import engine
from dami_agent.bench.engine import Answer, Request
from dami_agent.bench.stats import half_width, mean, paired_half_width
from dami_agent.bench.tools import measure_tools
from dami_agent.chat_model.room import Room
from dami_agent.errors import UsageError
from dami_agent.tasks import FAMILIES, LEVELS, Question, questions
from dami_agent.types import Intensity, Sampling, Template

QUESTIONS = 2100
SWITCH_QUESTIONS = 200
TOOL_DIALOGUES = 300
LAMBDAS = tuple(i / 10 for i in range(11))

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure; the defaults are what ships as the built-in pair's frontier.

    Attributes:
        questions: in all, over the seeds.
        seeds: each with its own questions and streams.
        lambdas: in [0, 1].
        temperature: at every λ; top-p and top-k stay the checkpoints' own, as in use.
        max_tokens: cap of one reply.
        switch_questions: for each λ and template; 0 takes the switch point as 0.
        tool_dialogues: for each setting and λ; 0 leaves the tool calls out.
    """

    questions: int = QUESTIONS
    seeds: int = 3
    lambdas: tuple[float, ...] = LAMBDAS
    temperature: float = 0.7
    max_tokens: int = engine.MAX_TOKENS
    switch_questions: int = SWITCH_QUESTIONS
    tool_dialogues: int = TOOL_DIALOGUES

    def __post_init__(self) -> None:
        lambdas = sorted({Intensity(value) for value in self.lambdas})
        if not lambdas:
            raise UsageError("a sweep needs at least one λ")
        if not 1 <= self.seeds <= self.questions:
            raise UsageError(f"{self.questions} questions cannot be shared by {self.seeds} seeds")
        object.__setattr__(self, "lambdas", tuple(lambdas))

    @property
    def sampling(self) -> Sampling:
        """Without the seed, which is each question's own."""
        return Sampling(temperature=self.temperature)


def sweep(room: Room, plan: Plan, progress: Progress | None = None) -> dict[str, Any]:
    """Measure; see the module's docstring.

    Returns:
        What ``dami sweep --json`` prints and :meth:`dami_agent.policy.Frontier.from_dict` reads.
    """
    tell = progress or _silent
    switch, templates = measure_switch(room, plan, tell)
    asked = list(held_out(plan))
    rows = []
    for value in plan.lambdas:
        row, _ = measure_row(room, plan, asked, Intensity(value), switch, tell)
        rows.append(row)
    tools = measure_tools(room, plan.tool_dialogues, plan.temperature, switch, tell) if plan.tool_dialogues else []
    info = room.engine.info
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
    }


def held_out(plan: Plan) -> Iterator[tuple[int, Question]]:
    """(seed, question) pairs of the test split: different questions for each seed, kinds balanced within it."""
    share = -(-plan.questions // plan.seeds)
    for index, question in enumerate(questions("test", plan.questions)):
        yield index // share, question


def ask(
    room: Room,
    plan: Plan,
    asked: Sequence[tuple[int, Question]],
    intensity: Intensity,
    *,
    switch: float = 0.0,
    templates: Sequence[Template | None] = (None,),
    tell: Callable[[int], None] | None = None,
) -> list[Answer]:
    """All questions at one λ, once for each template (None: the policy's), one template after the other.

    A question's random stream depends on it and its seed alone.
    """
    requests = (
        Request(
            step=engine.question_step(
                question.prompt,
                sampling=Sampling(temperature=plan.temperature, seed=engine.stream_seed(seed, question.prompt)),
                max_tokens=plan.max_tokens,
            ),
            intensity=intensity,
            template=template,
        )
        for template in templates
        for seed, question in asked
    )
    return list(engine.answers(room, requests, switch_point=switch, done=tell))


def measure_row(
    room: Room, plan: Plan, asked: Sequence[tuple[int, Question]], intensity: Intensity, switch: float, tell: Progress
) -> tuple[dict[str, Any], list[Answer]]:
    """One λ of the frontier, and the answers it was counted from."""
    done = _counter(tell, f"λ={intensity:g}", len(asked))
    found = ask(room, plan, asked, intensity, switch=switch, tell=done)
    return summary(intensity, asked, found), found


def summary(intensity: Intensity, asked: Sequence[tuple[int, Question]], found: Sequence[Answer]) -> dict[str, Any]:
    """The row of one λ, from its answers."""
    right = [question.grade(answer.reply.content) for (_, question), answer in zip(asked, found, strict=True)]
    tokens = [float(answer.tokens) for answer in found]
    by_level: dict[str, list[int]] = {}
    by_family: dict[str, list[int]] = {}
    by_seed: dict[str, list[int]] = {}
    for index, (seed, question) in enumerate(asked):
        by_level.setdefault(str(question.level), []).append(index)
        by_family.setdefault(question.family, []).append(index)
        by_seed.setdefault(str(seed), []).append(index)

    def over(groups: Mapping[str, list[int]], values: Sequence[float]) -> dict[str, float]:
        return {name: round(mean([values[i] for i in groups[name]]), 4) for name in sorted(groups)}

    return {
        "lambda": float(intensity),
        "accuracy": round(mean(right), 4),
        "accuracy_ci": round(half_width(sum(right), len(right)), 4),
        "tokens": round(mean(tokens), 2),
        "think_ratio": round(mean([answer.thought for answer in found]), 4),
        "finished": round(mean([answer.finished for answer in found]), 4),
        "by_level": over(by_level, right),
        "tokens_by_level": over(by_level, tokens),
        "by_family": over(by_family, right),
        "by_seed": over(by_seed, right),
        "reasoning_tokens": round(mean([a.generation.reasoning_tokens if a.generation else 0 for a in found]), 2),
        "errors": sum(answer.error is not None for answer in found),
        "template": found[0].decision.template,
    }


def measure_switch(room: Room, plan: Plan, tell: Progress) -> tuple[float, list[dict[str, Any]]]:
    """The switch point, and the comparison of the two templates at every λ > 0 it comes from."""
    above = [Intensity(value) for value in plan.lambdas if value > 0]
    if not plan.switch_questions or not above:
        return 0.0, []
    asked = [(0, question) for question in questions("calibration", plan.switch_questions)]
    done = _counter(tell, "templates", 2 * len(above) * len(asked))
    names: tuple[Template, Template] = ("instruct", "thinking")
    rows: list[dict[str, Any]] = []
    for value in above:
        row: dict[str, Any] = {"lambda": float(value)}
        found = ask(room, plan, asked, value, templates=names, tell=done)
        right: list[list[bool]] = []
        for name, answers in zip(names, (found[: len(asked)], found[len(asked) :]), strict=True):
            right.append([q.grade(a.reply.content) for (_, q), a in zip(asked, answers, strict=True)])
            row[name] = {"accuracy": round(mean(right[-1]), 4), "tokens": round(mean([a.tokens for a in answers]), 2)}
        gains = [float(t) - float(i) for i, t in zip(*right, strict=True)]
        row["gain"] = round(mean(gains), 4)
        row["gain_ci"] = round(paired_half_width(gains), 4) if len(gains) > 1 else None
        rows.append(row)
    return switch_point(rows), rows


def switch_point(rows: Sequence[Mapping[str, Any]]) -> float:
    """The smallest λ, 0 or measured, above which Thinking's template is nowhere worse than the noise allows.

    Args:
        rows: by rising λ, each with ``gain`` (Thinking's accuracy less Instruct's) and its half interval ``gain_ci``.
    """
    point = 0.0
    for row in rows:
        noise = row["gain_ci"] if row["gain_ci"] is not None else 0.0
        if row["gain"] < -noise:
            point = row["lambda"]
    return float(point)


def _counter(tell: Progress, what: str, total: int) -> Callable[[int], None]:
    count = 0

    def done(more: int) -> None:
        nonlocal count
        count += more
        tell(what, count, total)

    return done


def _silent(what: str, done: int, total: int) -> None:
    """No progress shown."""
