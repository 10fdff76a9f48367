"""Tasks that begin with one call, to measure calling alone: one unseen tool, one of three of the demo's or unseen ones.

"Unseen" tools, arguments and values are made of words that hash into the split: no word of the test's is in training.
"""

from __future__ import annotations

from random import Random
from typing import Literal

from dami_agent.tasks.agent import agent_task
from dami_agent.tasks.novel import novel_task
from dami_agent.tasks.task import AgentTask, Split

Setting = Literal["one unseen tool", "one of three demo tools", "one of three unseen tools"]
SETTINGS: tuple[Setting, ...] = ("one unseen tool", "one of three demo tools", "one of three unseen tools")


def single_calls(setting: Setting, split: Split, count: int, *, seed: int = 0) -> list[AgentTask]:
    """Draw `count` tasks of one split whose first turn is one call; equal arguments give equal tasks.

    Args:
        setting: how many tools are bound, and how the call is asked for.
        split: the split that everything drawn belongs to.
        count: how many.
        seed: equal seeds draw the same.
    """
    rng = Random(f"calls:{setting}:{split}:{seed}")
    if setting != "one of three demo tools":
        return [novel_task(rng, split, bound=1 if setting == "one unseen tool" else 3) for _ in range(count)]
    found: list[AgentTask] = []
    while len(found) < count:
        task = agent_task(rng, "route", "single")
        if task is not None and task.split == split and len(task.tools) == 3:
            found.append(task)
    return found
