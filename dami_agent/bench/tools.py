"""Tool calls, whole call exact: one unseen tool, the right one of three of the demo's kinds, of three never seen.

A call counts as exact when the reply holds one call and nothing invalid, with the right name and exactly the right
arguments. "Unseen" tools, arguments and values are made of words that hash into the test split: no word of theirs
is in the training data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from dami_agent.bench import engine
from dami_agent.bench.engine import Answer, Request
from dami_agent.bench.stats import half_width, mean
from dami_agent.chat_model.room import Room
from dami_agent.tasks import AgentTask, novel_task
from dami_agent.tasks.agent import agent_task
from dami_agent.types import Intensity, Sampling, Tool

LAMBDAS = (0.0, 0.5, 1.0)
SETTINGS = ("one unseen tool", "one of three demo tools", "one of three unseen tools")

Progress = Callable[[str, int, int], None]


def dialogues(setting: str, count: int, seed: int = 0) -> list[AgentTask]:
    """Tasks of the test split whose first step is one call, for one of :data:`SETTINGS`."""
    rng = Random(f"bench:tools:{setting}:{seed}")
    found: list[AgentTask] = []
    while len(found) < count:
        if setting == "one of three demo tools":
            task = agent_task(rng, "route", "single")
            if task is None or task.split != "test" or len(task.tools) != 3:
                continue
        else:
            task = novel_task(rng, "test", bound=1 if setting == "one unseen tool" else 3)
        found.append(task)
    return found


def bound_tools(task: AgentTask) -> tuple[Tool, ...]:
    """The task's tools as the dialogue takes them."""
    return tuple(
        Tool(name=tool.spec.name, description=tool.spec.description, parameters=tool.spec.parameters)
        for tool in task.tools
    )


def exact(task: AgentTask, answer: Answer) -> bool:
    """Whether the first call is the planned one, whole, and the only thing called."""
    calls, planned = answer.reply.tool_calls, task.plan[0]
    if len(calls) != 1 or answer.reply.invalid_tool_calls:
        return False
    return calls[0].name == planned.name and dict(calls[0].arguments) == dict(planned.arguments)


def named(task: AgentTask, answer: Answer) -> bool:
    """Whether the first call names the right tool, whatever its arguments."""
    return bool(answer.reply.tool_calls) and answer.reply.tool_calls[0].name == task.plan[0].name


def measure_tools(
    room: Room,
    count: int,
    temperature: float,
    switch: float,
    tell: Progress,
    *,
    lambdas: Sequence[float] = LAMBDAS,
) -> list[dict[str, Any]]:
    """Exactness of ``count`` dialogues for each setting and λ, with half of Wilson's 95 % interval."""
    rows: list[dict[str, Any]] = []
    tasks = {setting: dialogues(setting, count) for setting in SETTINGS}
    finished, total = 0, count * len(SETTINGS) * len(lambdas)

    def done(more: int) -> None:
        nonlocal finished
        finished += more
        tell("tool calls", finished, total)

    for setting, members in tasks.items():
        for value in lambdas:
            requests = (_request(task, Intensity(value), temperature) for task in members)
            found = list(engine.answers(room, requests, switch_point=switch, done=done))
            right = [exact(task, answer) for task, answer in zip(members, found, strict=True)]
            name = [named(task, answer) for task, answer in zip(members, found, strict=True)]
            rows.append(
                {
                    "setting": setting,
                    "lambda": float(value),
                    "exact": round(mean(right), 4),
                    "exact_ci": round(half_width(sum(right), len(right)), 4),
                    "right_tool": round(mean(name), 4),
                    "tokens": round(mean([answer.tokens for answer in found]), 2),
                    "dialogues": count,
                    "errors": sum(answer.error is not None for answer in found),
                }
            )
    return rows


def _request(task: AgentTask, intensity: Intensity, temperature: float) -> Request:
    sampling = Sampling(temperature=temperature, seed=engine.stream_seed("tools", task.prompt))
    step = engine.question_step(
        task.prompt, tools=bound_tools(task), sampling=sampling, max_tokens=engine.MAX_TOKENS // 2
    )
    return Request(step=step, intensity=intensity)
