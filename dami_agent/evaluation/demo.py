"""Show a LangChain agent at work, step by step, and the same tasks at both ends of λ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dami_agent.evaluation import agents
from dami_agent.evaluation.agents import DAMI, INSTRUCT, THINKING, Listener, Mode, ModeResult
from dami_agent.evaluation.compare import warm_up
from dami_agent.ledger import Ledger
from dami_agent.tasks import agent_tasks

TASKS = 20
CONCURRENCY = 4
"""Tasks at a time: enough to share batches, few enough to follow with the eye."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """Hold the three outcomes over the same tasks."""

    outcomes: tuple[ModeResult, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return what ``dami demo --json`` prints: DAMI's steps, and everybody's totals."""
        dami = next(o for o in self.outcomes if o.mode is DAMI)
        return {
            "steps": [step.to_dict() for run in dami.runs for step in run.steps],
            "totals": {outcome.mode.name: outcome.totals() for outcome in self.outcomes},
        }

    def verdict(self) -> str:
        """Say in a sentence what was seen, and what it does not say."""
        by = {outcome.mode.name: outcome for outcome in self.outcomes}
        dami, thinking = by["dami"], by["thinking"]
        share = dami.output_tokens / thinking.output_tokens if thinking.output_tokens else float("nan")
        return (
            f"DAMI solved {dami.solved} of {len(dami.runs)} tasks, always-Instruct {by['instruct'].solved}, "
            f"always-Thinking {thinking.solved}, with {share:.0%} of always-Thinking's output tokens. "
            "This is the small pair that ships with the package, trained by our recipe on synthetic tasks: "
            "it shows how the parts work together and says nothing about Qwen3 or about the paper's results."
        )


def demo(
    *,
    tasks: int = TASKS,
    seed: int = 0,
    concurrency: int = CONCURRENCY,
    ledger: Ledger | None = None,
    listen: Listener | None = None,
) -> Demo:
    """Solve seeded tasks of the test split with DAMI, showing every step, then under the other modes.

    Args:
        tasks: how many.
        seed: of tasks and random streams.
        concurrency: agents at a time, the same in every mode, so that seconds compare.
        ledger: keeps all calls; None keeps none.
        listen: told of DAMI's steps as they end.

    Raises:
        UsageError: langchain is not installed.
    """
    asked = agent_tasks("test", tasks, seed=seed)
    warm_up({})

    def run(mode: Mode, listen: Listener | None = None) -> ModeResult:
        return agents.run_mode(asked, mode, seed=seed, concurrency=concurrency, ledger=ledger, listen=listen)

    return Demo(outcomes=(run(DAMI, listen), run(INSTRUCT), run(THINKING)))
