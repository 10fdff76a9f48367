"""The demonstration: a LangChain agent at work, and the same tasks at both ends of λ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dami_agent.evaluation import agents
from dami_agent.evaluation.agents import DAMI, INSTRUCT, THINKING, Listener, Mode, ModeResult, TaskRun, warm_up
from dami_agent.ledger import Ledger
from dami_agent.tasks import AgentTask, agent_tasks
from dami_agent.tasks.agent import Kind

TASKS = 12
SEED = 3
"""The tasks that ``dami demo`` shows: the seed of ten whose outcome is nearest to their mean."""

KINDS: tuple[Kind, ...] = ("route", "hard")
CONCURRENCY = 4
"""Tasks at a time: enough to share batches, few enough to follow with the eye."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """Hold the tasks and their three outcomes."""

    tasks: tuple[AgentTask, ...]
    outcomes: tuple[ModeResult, ...]

    def of(self, mode: Mode) -> ModeResult:
        """Return the outcome of one mode."""
        return next(outcome for outcome in self.outcomes if outcome.mode.name == mode.name)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``dami demo --json`` prints: DAMI's steps, and everybody's totals."""
        return {
            "steps": [step.to_dict() for run in self.of(DAMI).runs for step in run.steps],
            "totals": {outcome.mode.name: outcome.totals() for outcome in self.outcomes},
        }

    def example(self) -> tuple[AgentTask, TaskRun, TaskRun] | None:
        """Return the task with the fewest tokens that DAMI solves and always-Instruct does not, and both runs."""
        found = [
            (task, own, other)
            for task, own, other in zip(self.tasks, self.of(DAMI).runs, self.of(INSTRUCT).runs, strict=True)
            if own.solved and not other.solved and any(step.thought for step in own.steps)
        ]
        return min(found, key=lambda each: each[1].output_tokens) if found else None

    def verdict(self) -> list[str]:
        """Say in a few sentences what was seen, and what it does not say."""
        dami, instruct, thinking = (self.of(mode) for mode in (DAMI, INSTRUCT, THINKING))
        steps = [step for run in dami.runs for step in run.steps]
        deeper = [step for step in steps if step.intensity]
        working = sum(bool(step.depth) for step in deeper)
        share = dami.output_tokens / thinking.output_tokens if thinking.output_tokens else float("nan")
        tokens, seconds = dami.output_tokens - instruct.output_tokens, dami.seconds - instruct.seconds
        return [
            f"λ rose above 0 in {len(deeper)} of {len(steps)} steps, {working} of which have something to work out.",
            f"Against always-Instruct: {dami.solved - instruct.solved:+d} tasks for {tokens:+,} tokens, {seconds:+.1f} "
            f"seconds. Against always-Thinking: {dami.solved - thinking.solved:+d} tasks at {share:.0%} of its tokens.",
            "The pair is the small one that ships with the package, trained by our recipe on synthetic tasks: this "
            "shows how the parts work together and says nothing about Qwen3 or about the paper's results.",
        ]


def demo(
    *,
    tasks: int = TASKS,
    seed: int = SEED,
    concurrency: int = CONCURRENCY,
    ledger: Ledger | None = None,
    listen: Listener | None = None,
) -> Demo:
    """Solve seeded tasks of the test split with DAMI, half of them hard, then under the other modes.

    Args:
        tasks: how many.
        seed: of tasks and random streams.
        concurrency: agents at a time, the same in every mode, so that seconds compare.
        ledger: keeps all calls; None keeps none.
        listen: told of DAMI's steps as they end.

    Raises:
        UsageError: langchain is not installed.
    """
    asked = agent_tasks("test", tasks, seed=seed, kinds=KINDS)
    warm_up({})

    def run(mode: Mode, listen: Listener | None = None) -> ModeResult:
        return agents.run_mode(asked, mode, seed=seed, concurrency=concurrency, ledger=ledger, listen=listen)

    return Demo(tasks=tuple(asked), outcomes=(run(DAMI, listen), run(INSTRUCT), run(THINKING)))
