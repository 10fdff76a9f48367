"""Tool calls, whole call exact: one unseen tool, the right one of three of the demo's kinds, of three never seen.

A call counts as exact when the reply holds one call and nothing invalid, with the right name and exactly the right
arguments. The tasks are `dami_agent.tasks.single`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dami_agent.evaluation import runner
from dami_agent.evaluation.call_batches import AnswerOutcome, outcome
from dami_agent.evaluation.runner import Answer, Request
from dami_agent.evaluation.stats import half_width, mean
from dami_agent.session import Session
from dami_agent.tasks import AgentTask, single_calls
from dami_agent.tasks.single import SETTINGS, Setting
from dami_agent.tasks.task import Split
from dami_agent.types import Intensity, Sampling, Tool

LAMBDAS = (0.0, 0.5, 1.0)
MAX_TOKENS = 512
"""Cap of a reply with one call: a quarter of what a question's may take."""


def bound_tools(task: AgentTask) -> tuple[Tool, ...]:
    """Convert the task's tools to those that the dialogue takes."""
    return tuple(
        Tool(name=tool.spec.name, description=tool.spec.description, parameters=tool.spec.parameters)
        for tool in task.tools
    )


def exact(task: AgentTask, answer: Answer) -> bool:
    """Return whether the first call is the planned one, whole, and the only thing called."""
    calls, planned = answer.reply.tool_calls, task.plan[0]
    if len(calls) != 1 or answer.reply.invalid_tool_calls:
        return False
    return calls[0].name == planned.name and dict(calls[0].arguments) == dict(planned.arguments)


def named(task: AgentTask, answer: Answer) -> bool:
    """Return whether the first call names the right tool, whatever its arguments."""
    return bool(answer.reply.tool_calls) and answer.reply.tool_calls[0].name == task.plan[0].name


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolBatch:
    """Hold ``size`` dialogues of one setting at one λ, shared by the seeds and drawn where they run."""

    setting: Setting
    size: int
    seeds: int
    intensity: Intensity
    temperature: float
    switch: float
    name: str = "tool calls"
    split: Split = "test"

    def run(self, session: Session, done: Callable[[int], None]) -> list[AnswerOutcome]:
        """Make the first call of each dialogue and judge it."""
        share = -(-self.size // self.seeds)
        drawn = (single_calls(self.setting, self.split, share, seed=seed) for seed in range(self.seeds))
        tasks = [task for tasks in drawn for task in tasks][: self.size]
        answers = runner.answers(session, map(self._request, tasks), switch_point=self.switch, done=done)
        return [
            outcome(answer, right=exact(task, answer), named=named(task, answer))
            for task, answer in zip(tasks, answers, strict=True)
        ]

    def _request(self, task: AgentTask) -> Request:
        sampling = Sampling(temperature=self.temperature, seed=runner.stream_seed("tools", task.prompt))
        step = runner.question_step(task.prompt, tools=bound_tools(task), sampling=sampling, max_tokens=MAX_TOKENS)
        return Request(step=step, intensity=self.intensity)


def tool_batches(
    count: int, seeds: int, *, temperature: float, switch: float, split: Split = "test"
) -> list[ToolBatch]:
    """Make a batch for every setting at every λ of :data:`LAMBDAS`; none if ``count`` is 0.

    Args:
        count: dialogues of each batch.
        seeds: that share them.
        temperature: of the sampling.
        switch: λ up to which Instruct's template is used.
        split: that the tasks are of.
    """
    return [
        ToolBatch(
            setting=setting,
            size=count,
            seeds=seeds,
            intensity=Intensity(value),
            temperature=temperature,
            switch=switch,
            split=split,
        )
        for setting in SETTINGS
        for value in LAMBDAS
        if count
    ]


def tool_row(batch: ToolBatch, found: Sequence[AnswerOutcome]) -> dict[str, Any]:
    """Return the exactness of one batch, with half of Wilson's 95 % interval."""
    right = [outcome.right for outcome in found]
    name = [outcome.named for outcome in found]
    return {
        "setting": batch.setting,
        "lambda": float(batch.intensity),
        "exact": round(mean(right), 4),
        "exact_ci": round(half_width(sum(right), len(right)), 4),
        "right_tool": round(mean(name), 4),
        "right_tool_ci": round(half_width(sum(name), len(name)), 4),
        "tokens": round(mean([outcome.tokens for outcome in found]), 2),
        "dialogues": batch.size,
        "errors": sum(outcome.failed for outcome in found),
    }
