"""DAMI against always-Instruct, always-Thinking and the controls a claim about λ needs, on the same agent tasks.

Controls: fixed λs in between, and DAMI's own λs shuffled over the steps. The latter costs no probes, so it
shows what the choice of λ adds, not what choosing costs; DAMI's own tokens hold its probes. Beside them, the same tasks
under a policy file with budgets per tool.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from dami_agent.evaluation import agents
from dami_agent.evaluation.agents import DAMI, INSTRUCT, THINKING, Mode, ModeResult, TaskRun
from dami_agent.evaluation.policy_arm import SHIPPED, against_auto, against_thinking, policy_mode
from dami_agent.evaluation.rows import rounded_interval
from dami_agent.evaluation.shuffled import shuffled
from dami_agent.evaluation.stats import bootstrap, half_width, mean
from dami_agent.tasks import AgentTask, Unseen, agent_tasks

FIXED = (0.5, 0.8)
"""Static interpolations to beat, where arXiv 2510.10977 found the best ones."""

Progress = Callable[[str, int, int], None]


def compare(
    *,
    tasks: int = 200,
    seed: int = 0,
    concurrency: int = 48,
    controls: bool = True,
    unseen: Unseen | None = None,
    policy: Any = SHIPPED,
    model: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Solve ``tasks`` seeded tasks of the test split in every mode.

    Args:
        tasks: how many, kinds in turn.
        seed: of tasks, random streams, shuffle and bootstrap.
        concurrency: agents at a time.
        controls: also run the fixed λs and the shuffled λs.
        unseen: tasks with a template, names or a length that training never shows.
        policy: file, preset, dict or ``ReasoningPolicy`` of the arm with budgets per tool.
        model: further arguments of ChatDAMI, such as the pair.
        progress: told (mode, tasks done, tasks).

    Returns:
        What ``dami bench --json`` prints.

    Raises:
        InvalidPolicy: before anything runs.
    """
    budgeted = policy_mode(policy)
    asked = agent_tasks("test", tasks, seed=seed, unseen=unseen)
    outcomes: dict[str, ModeResult] = {}

    def run(mode: Mode) -> ModeResult:
        outcomes[mode.name] = agents.run_mode(
            asked, mode, seed=seed, concurrency=concurrency, model=model, listen=_counter(mode.name, tasks, progress)
        )
        return outcomes[mode.name]

    warm_up(model or {})
    dami = run(DAMI)
    run(INSTRUCT)
    run(THINKING)
    run(budgeted)
    if controls:
        for value in FIXED:
            run(Mode(name=f"lambda={value:g}", intensity=value))
        own = [[step.intensity or 0.0 for step in run.steps] for run in dami.runs]
        run(Mode(name="shuffled", intensity="auto", shuffled=shuffled(own, seed)))
    return {
        "tasks": tasks,
        "seed": seed,
        "split": "test",
        "unseen": unseen,
        "modes": {name: _mode(asked, outcome) for name, outcome in outcomes.items()},
        **gap(dami.runs, outcomes["instruct"].runs, outcomes["thinking"].runs, seed=seed),
        "policy": against_thinking(outcomes[budgeted.name], outcomes[THINKING.name], seed=seed)
        | {"against_auto": against_auto(outcomes[budgeted.name], dami, seed=seed)},
        "lambdas": _histogram(dami.runs),
        **identity(model or {}),
    }


def identity(model: dict[str, Any]) -> dict[str, Any]:
    """Say which pair was measured, and how its weights were held."""
    from dami_agent.chat_model import ChatDAMI

    info = ChatDAMI(ledger="off", **model).pipeline().engine.info
    return {"pair": info.model, "fingerprint": info.fingerprint, "weights_mode": info.weights_mode}


def gap(
    dami: Sequence[TaskRun], instruct: Sequence[TaskRun], thinking: Sequence[TaskRun], *, seed: int = 0
) -> dict[str, Any]:
    """Return which share of the gap to Thinking DAMI closes, and its tokens against Thinking's, with intervals.

    Both intervals come from the same paired bootstrap over tasks. The share is None where Thinking solves no more
    than Instruct.

    Args:
        dami, instruct, thinking: runs of the same tasks, in the same order.
        seed: of the bootstrap.
    """
    triples = list(zip(dami, instruct, thinking, strict=True))

    def closed(drawn: Sequence[tuple[TaskRun, TaskRun, TaskRun]]) -> float | None:
        width = sum(t.solved - i.solved for _, i, t in drawn)
        return sum(d.solved - i.solved for d, i, _ in drawn) / width if width > 0 else None

    def ratio(drawn: Sequence[tuple[TaskRun, TaskRun, TaskRun]]) -> float | None:
        whole = sum(t.output_tokens for _, _, t in drawn)
        return sum(d.output_tokens for d, _, _ in drawn) / whole if whole else None

    share, tokens = closed(triples), ratio(triples)
    return {
        "gap_closed": None if share is None else round(share, 4),
        "gap_closed_ci": rounded_interval(bootstrap(triples, closed, seed=seed)),
        "tokens_ratio": None if tokens is None else round(tokens, 4),
        "tokens_ratio_ci": rounded_interval(bootstrap(triples, ratio, seed=seed)),
    }


def _mode(tasks: Sequence[AgentTask], outcome: ModeResult) -> dict[str, Any]:
    runs = outcome.runs
    names = sorted({task.name for task in tasks})
    by_name = {name: [r for t, r in zip(tasks, runs, strict=True) if t.name == name] for name in names}
    return outcome.totals() | {
        "solved_ci": round(half_width(outcome.solved, len(runs)) * len(runs), 2),
        "calls": sum(len(run.steps) for run in runs),
        "tokens_per_task": round(outcome.output_tokens / len(runs), 2),
        "reasoning_tokens": outcome.reasoning_tokens,
        "mean_lambda": round(mean([step.intensity or 0.0 for run in runs for step in run.steps]), 4),
        "by_name": {name: f"{sum(r.solved for r in members)}/{len(members)}" for name, members in by_name.items()},
        "errors": dict(Counter(run.error for run in runs if run.error)),
    }


def _histogram(runs: Sequence[TaskRun]) -> dict[str, int]:
    counts = Counter(round(step.intensity, 2) for run in runs for step in run.steps if step.intensity is not None)
    return {f"{value:g}": counts[value] for value in sorted(counts)}


def warm_up(model: dict[str, Any]) -> None:
    """Read the weights before the clock starts, so that the first mode does not pay for all."""
    from dami_agent.chat_model import ChatDAMI

    agents.require_langchain()
    ChatDAMI(ledger="off", max_tokens=4, reasoning_intensity=0.0, **model).invoke("Hello")


def _counter(name: str, total: int, progress: Progress | None) -> agents.Listener | None:
    if progress is None:
        return None
    done = 0

    def listen(task: AgentTask, run: TaskRun, row: agents.StepRow | None) -> None:
        nonlocal done
        if row is None:
            done += 1
            progress(name, done, total)

    return listen
