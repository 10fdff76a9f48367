"""Say which agent tasks are asked: pure data, so that commands can be listed without what solves them."""

from __future__ import annotations

from dataclasses import dataclass

from dami_agent.tasks import AgentTask, Split, Unseen, agent_tasks
from dami_agent.tasks.agent import Kind

__all__ = ["KINDS", "TaskSet"]

KINDS: tuple[Kind, ...] = ("hard",)
"""Kinds of tasks in turn: as in real agents most steps of these route, and most tasks have a step that does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSet:
    """Say which tasks are solved: ``count`` in all, in equal parts of each seed.

    Attributes:
        count: tasks, at least one for each seed.
        seeds: seeds of the tasks and of the random streams of their runs.
        kinds: kinds of tasks, in turn.
        unseen: what of each task training never shows.
        split: of the tasks.
    """

    count: int
    seeds: tuple[int, ...] = (0,)
    kinds: tuple[Kind, ...] = KINDS
    unseen: Unseen | None = None
    split: Split = "test"

    def of(self, seed: int) -> list[AgentTask]:
        """Return the tasks of one seed."""
        return agent_tasks(self.split, self._share(seed), seed=seed, kinds=self.kinds, unseen=self.unseen)

    def first(self, seed: int) -> int:
        """Return the number of a seed's first task."""
        return sum(self._share(each) for each in self.seeds[: self.seeds.index(seed)])

    def _share(self, seed: int) -> int:
        return self.count // len(self.seeds) + (self.seeds.index(seed) < self.count % len(self.seeds))

    @property
    def all(self) -> list[AgentTask]:
        """Return the tasks of all seeds, seed after seed."""
        return [task for seed in self.seeds for task in self.of(seed)]
