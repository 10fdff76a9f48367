"""Agent tasks under many modes and seeds, in this process or in several.

A job is one mode on the tasks of one seed. It is pure data until it runs: with several workers each process opens the
pair for itself and takes whole jobs, so that a job's runs meet the neighbours they would meet in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from dami_agent.evaluation import agents
from dami_agent.evaluation.agents import Mode, ModeResult, TaskRun
from dami_agent.evaluation.task_set import TaskSet
from dami_agent.evaluation.worker_pool import WorkerPool
from dami_agent.processes import end_with_parent
from dami_agent.tasks import AgentTask

Progress = Callable[[str, int, int], None]
"""Told (mode, tasks done, tasks)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentJob:
    """Hold one mode and one seed's tasks."""

    mode: Mode
    tasks: TaskSet
    seed: int
    concurrency: int
    model: dict[str, Any] = field(default_factory=dict)

    def run(self, listen: agents.Listener | None = None) -> ModeResult:
        """Solve the tasks."""
        return agents.run_mode(
            self.tasks.of(self.seed),
            self.mode,
            seed=self.seed,
            first=self.tasks.first(self.seed),
            concurrency=self.concurrency,
            model=self.model,
            listen=listen,
        )


class AgentRunner:
    """Run modes over all seeds of a set of tasks; a context manager.

    Args:
        tasks: to be solved in every mode.
        workers: processes; each has the pair's weights in memory. One: all happens in this process.
        concurrency: agents at a time in each process.
        model: further arguments of ChatDAMI, such as the pair.
        tell: of progress, task by task in this process, seed by seed from others.
    """

    def __init__(
        self,
        tasks: TaskSet,
        *,
        workers: int = 1,
        concurrency: int = 48,
        model: dict[str, Any] | None = None,
        tell: Progress | None = None,
    ) -> None:
        self.tasks = tasks
        self.asked = tasks.all
        self._concurrency = concurrency
        self._model = model or {}
        self._tell = tell or _silent
        self._pool = WorkerPool[AgentJob, ModeResult](workers, _run, _begin, self._model) if workers > 1 else None

    def __enter__(self) -> AgentRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.__exit__(kind, error, trace)

    def run(self, modes: Sequence[Mode]) -> dict[str, ModeResult]:
        """Return the result of each mode by its name, its runs in the order of the tasks; longest modes go last."""
        jobs = [
            AgentJob(mode=mode, tasks=self.tasks, seed=seed, concurrency=self._concurrency, model=self._model)
            for mode in modes
            for seed in self.tasks.seeds
        ]
        results = self._here(jobs) if self._pool is None else self._elsewhere(self._pool, jobs)
        count = len(self.tasks.seeds)
        parts = [results[place : place + count] for place in range(0, len(results), count)]
        return {mode.name: _joined(mode, own) for mode, own in zip(modes, parts, strict=True)}

    def _here(self, jobs: Sequence[AgentJob]) -> list[ModeResult]:
        done: dict[str, int] = {}

        def listen_to(name: str) -> agents.Listener:
            def listen(task: AgentTask, run: TaskRun, row: agents.StepRow | None) -> None:
                if row is None:
                    done[name] = done.get(name, 0) + 1
                    self._tell(name, done[name], len(self.asked))

            return listen

        return [job.run(listen_to(job.mode.name)) for job in jobs]

    def _elsewhere(self, pool: WorkerPool[AgentJob, ModeResult], jobs: Sequence[AgentJob]) -> list[ModeResult]:
        done: dict[str, int] = {}

        def count(job: AgentJob, result: ModeResult) -> None:
            name = job.mode.name
            done[name] = done.get(name, 0) + len(result.runs)
            self._tell(name, done[name], len(self.asked))

        return pool.map(jobs, count)


def _begin(model: dict[str, Any]) -> None:
    """Open the pair in a worker, before its first job is timed."""
    end_with_parent()
    agents.warm_up(model)


def _run(job: AgentJob) -> ModeResult:
    return job.run()


def _joined(mode: Mode, parts: Sequence[ModeResult]) -> ModeResult:
    """Put the runs of all seeds one after the other."""
    runs = tuple(run for part in parts for run in part.runs)
    return ModeResult(mode=mode, runs=runs, seconds=sum(part.seconds for part in parts))


def _silent(what: str, done: int, total: int) -> None:
    """Show no progress."""
