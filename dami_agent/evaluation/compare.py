"""DAMI against always-Instruct, always-Thinking and the controls a claim about λ needs, on the same agent tasks.

Beside the two ends and a policy file with budgets stand, under ``controls``:

- every static λ of the pair's grid: the best of them is what a λ per step must beat;
- DAMI's own λs **shuffled** over the steps, and **redrawn** from their histogram: selectors blind to the step;
- a **router** between λ=0 and λ=1, by the same estimate;
- Thinking under a **cap** on each thought (budget forcing, with the family's closing words) that brings it to about
  DAMI's tokens, and Instruct's runs **begun anew**, up to twice, after an error, a tool's error or a blank reply;
- the **oracle**, with hindsight: each step at the smallest λ that is right after the reference history, found with the
  very random stream that the step is then run with. Nobody can know it beforehand.

DAMI's tokens and the router's hold their probes; the other controls pay for none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dami_agent.evaluation import agents
from dami_agent.evaluation.agent_runner import AgentRunner, Progress
from dami_agent.evaluation.agents import DAMI, INSTRUCT, MOST_CALLS, THINKING, Mode, ModeResult, TaskRun, warm_up
from dami_agent.evaluation.assigned import AssignedEstimator, Lambdas, TwoWayRouter, redrawn, shuffled
from dami_agent.evaluation.policy_arm import SHIPPED, against_auto, against_thinking, policy_mode, with_weights_for
from dami_agent.evaluation.reference_steps import StepLabel, label, sufficient
from dami_agent.evaluation.rows import rounded, rounded_interval
from dami_agent.evaluation.runner import open_batch_session
from dami_agent.evaluation.stats import bootstrap, half_width, mean, rank_correlation
from dami_agent.evaluation.task_set import TaskSet
from dami_agent.tasks import AgentTask
from dami_agent.types import Estimator, modules_of

TRIES = 3
"""How often the control of Instruct with retries begins a run."""


@dataclass(frozen=True, slots=True)
class Assign:
    """Make the estimator that gives each task's steps the λs that were assigned to them."""

    lambdas: Lambdas

    def __call__(self, task: int) -> Estimator:
        """Return the estimator of one task's run."""
        return AssignedEstimator(self.lambdas[task])


def route(_task: int) -> Estimator:
    """Make the two-way router of any task's run."""
    return TwoWayRouter()


def compare(
    tasks: TaskSet,
    *,
    workers: int = 1,
    concurrency: int = 48,
    controls: bool = True,
    policy: Any = SHIPPED,
    model: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Solve a set of tasks in every mode.

    Args:
        tasks: which, and their seeds.
        workers: processes that take modes and seeds; each holds the pair.
        concurrency: agents at a time in each.
        controls: also run the controls above.
        policy: file, preset, dict or ``ReasoningPolicy`` of the arm with budgets per tool.
        model: further arguments of ChatDAMI, such as the pair.
        progress: told (mode, tasks done, tasks).

    Returns:
        What ``dami bench --json`` prints.

    Raises:
        InvalidPolicy: before anything runs.
    """
    budgeted = policy_mode(policy)
    settings = with_weights_for(budgeted, model or {})
    warm_up(settings)
    known = identity(settings)
    labels: list[list[StepLabel]] = []
    with AgentRunner(tasks, workers=workers, concurrency=concurrency, model=settings, tell=progress) as runner:
        first = [INSTRUCT, DAMI, budgeted, THINKING]
        statics = [Mode(name=f"lambda={value:g}", intensity=value) for value in known["grid"][1:-1]] if controls else []
        results = runner.run([*first, *statics])
        if controls:
            labels = _labelled(tasks, settings, known["grid"], progress)
            results |= runner.run(_controls(results[DAMI.name], results[THINKING.name], labels))
        asked = runner.asked
    dami, thinking = results[DAMI.name], results[THINKING.name]
    found = {
        "tasks": len(asked),
        "seeds": list(tasks.seeds),
        "kinds": list(tasks.kinds),
        "split": tasks.split,
        "unseen": tasks.unseen,
        "modes": {name: _mode(asked, result) | _against(result, thinking) for name, result in results.items()},
        "policy": against_thinking(results[budgeted.name], thinking)
        | {"against_auto": against_auto(results[budgeted.name], dami)},
        "lambdas": _histogram(dami.runs),
        "depths": depths(asked),
        "lambda_by_depth": rounded(rank_correlation(*_lambda_and_depth(dami.runs)), 4),
        **known,
    }
    if statics:
        found |= _best_static(results, [INSTRUCT.name, *(mode.name for mode in statics), THINKING.name], dami)
        found["labels"] = _label_counts(labels)
    return found


def _labelled(
    tasks: TaskSet, settings: dict[str, Any], grid: Sequence[float], progress: Progress | None
) -> list[list[StepLabel]]:
    """Label the steps of all tasks, seed by seed."""
    session = open_batch_session(settings.get("instruct"), settings.get("thinking"))
    found: list[list[StepLabel]] = []
    for seed in tasks.seeds:
        found += label(session, tasks.of(seed), grid, seed=seed)
        if progress is not None:
            progress("labels", len(found), len(tasks.all))
    return found


def _controls(dami: ModeResult, thinking: ModeResult, labels: Sequence[Sequence[StepLabel]]) -> list[Mode]:
    """Make the controls whose λs or caps follow from what DAMI and Thinking did."""
    own = [[step.intensity or 0.0 for step in run.steps] for run in dami.runs]
    cap = cap_for(thinking, dami.output_tokens)
    return [
        Mode(name="shuffled", intensity="auto", estimator=Assign(shuffled(own, 0))),
        Mode(name="redrawn", intensity="auto", estimator=Assign(redrawn(own, 0, MOST_CALLS))),
        Mode(name="router", intensity="auto", estimator=route),
        Mode(name="retries", intensity=0.0, tries=TRIES),
        Mode(name="capped", intensity=1.0, settings={"max_reasoning_tokens": cap}),
        Mode(name="oracle", intensity="auto", estimator=Assign(sufficient(labels))),
    ]


def cap_for(thinking: ModeResult, tokens: int) -> int:
    """Return the largest cap on thoughts with which Thinking's runs would have taken at most ``tokens``."""
    thoughts = [step.reasoning_tokens for run in thinking.runs for step in run.steps]
    answers = thinking.output_tokens - sum(thoughts)
    caps = range(max(thoughts, default=0) + 1)
    return max((cap for cap in caps if answers + sum(min(each, cap) for each in thoughts) <= tokens), default=1) or 1


def depths(tasks: Sequence[AgentTask]) -> dict[str, float]:
    """Return the share of the reference solutions' steps at each depth."""
    counts = Counter(depth for task in tasks for depth in task.depths)
    return {str(depth): round(counts[depth] / counts.total(), 4) for depth in sorted(counts)}


def identity(model: dict[str, Any]) -> dict[str, Any]:
    """Say which pair was measured, how its weights were held, and which λs its frontier has."""
    from dami_agent.chat_model import ChatDAMI

    pipeline = ChatDAMI(ledger="off", **model).pipeline()
    info, frontier = pipeline.engine.info, pipeline.policy.frontier
    grid = [float(value) for value in frontier.grid] or [place / 10 for place in range(11)]
    return {"pair": info.model, "fingerprint": info.fingerprint, "weights_mode": info.weights_mode, "grid": grid}


def _against(result: ModeResult, thinking: ModeResult) -> dict[str, Any]:
    """Compare a mode's runs with always-Thinking's of the same tasks, by a paired bootstrap over tasks."""
    return {"against_thinking": difference(result.runs, thinking.runs)}


def difference(runs: Sequence[TaskRun], others: Sequence[TaskRun], *, seed: int = 0) -> dict[str, Any]:
    """Return by how much more of the tasks the first runs solve (a share of the tasks), and the ratio of their tokens.

    Args:
        runs: of one mode.
        others: of another mode, on the same tasks in the same order.
        seed: of the bootstrap that gives both intervals.
    """
    pairs = list(zip(runs, others, strict=True))

    def solved(drawn: Sequence[tuple[TaskRun, TaskRun]]) -> float:
        return mean([float(one.solved) - float(other.solved) for one, other in drawn])

    def tokens(drawn: Sequence[tuple[TaskRun, TaskRun]]) -> float | None:
        whole = sum(other.output_tokens for _, other in drawn)
        return sum(one.output_tokens for one, _ in drawn) / whole if whole else None

    ratio = tokens(pairs)
    return {
        "solved": round(solved(pairs), 4),
        "solved_ci": rounded_interval(bootstrap(pairs, solved, seed=seed)),
        "tokens": None if ratio is None else round(ratio, 4),
        "tokens_ci": rounded_interval(bootstrap(pairs, tokens, seed=seed)),
    }


def _best_static(results: dict[str, ModeResult], statics: Sequence[str], dami: ModeResult) -> dict[str, Any]:
    """Compare DAMI with the static λ that solves most tasks, and with the most that solves on no more tokens."""
    best = max(statics, key=lambda name: (results[name].solved, -results[name].output_tokens))
    cheap = [name for name in statics if results[name].output_tokens <= dami.output_tokens]
    found: dict[str, Any] = {"best_static": {"mode": best} | difference(dami.runs, results[best].runs)}
    if cheap:
        best = max(cheap, key=lambda name: results[name].solved)
        found["best_static_at_most_its_tokens"] = {"mode": best} | difference(dami.runs, results[best].runs)
    return found


def _mode(tasks: Sequence[AgentTask], result: ModeResult) -> dict[str, Any]:
    runs = result.runs
    names = sorted({task.name for task in tasks})
    by_name = {name: [r for t, r in zip(tasks, runs, strict=True) if t.name == name] for name in names}
    return result.totals() | {
        "solved_ci": round(half_width(result.solved, len(runs)) * len(runs), 2),
        "calls": sum(len(run.steps) for run in runs),
        "tokens_per_task": round(result.output_tokens / len(runs), 2),
        "reasoning_tokens": result.reasoning_tokens,
        "mean_lambda": round(mean([step.intensity or 0.0 for run in runs for step in run.steps]), 4),
        "by_name": {name: f"{sum(r.solved for r in members)}/{len(members)}" for name, members in by_name.items()},
        "by_depth": _by_depth(runs),
        "by_hardest": _by_hardest(tasks, runs),
        "empty": sum(not run.answer.strip() and not run.error for run in runs),
        "errors": dict(Counter(run.error for run in runs if run.error)),
    }


def _by_depth(runs: Sequence[TaskRun]) -> dict[str, dict[str, float]]:
    """Return, by what the reference solution's step of the same number works out, how many steps, tokens and mean λ."""
    steps: dict[int, list[agents.StepRow]] = {}
    for run in runs:
        for step in run.steps:
            if step.depth is not None:
                steps.setdefault(step.depth, []).append(step)
    return {
        str(depth): {
            "steps": len(own),
            "tokens": round(mean([step.output_tokens for step in own]), 2),
            "mean_lambda": round(mean([step.intensity or 0.0 for step in own]), 4),
        }
        for depth, own in sorted(steps.items())
    }


def _by_hardest(tasks: Sequence[AgentTask], runs: Sequence[TaskRun]) -> dict[str, str]:
    """Return the tasks solved by the depth of their hardest step."""
    groups: dict[int, list[bool]] = {}
    for task, run in zip(tasks, runs, strict=True):
        groups.setdefault(max(task.depths), []).append(run.solved)
    return {str(depth): f"{sum(own)}/{len(own)}" for depth, own in sorted(groups.items())}


def _histogram(runs: Sequence[TaskRun]) -> dict[str, int]:
    used = [step.intensity for run in runs for step in run.steps if step.intensity is not None]
    numbers = Counter(round(value, 2) for value in used if modules_of(value) is None)
    texts = Counter(text for value in used if (text := modules_of(value)) is not None)
    return {f"{value:g}": numbers[value] for value in sorted(numbers)} | dict(sorted(texts.items()))


def _lambda_and_depth(runs: Sequence[TaskRun]) -> tuple[list[float], list[float]]:
    steps = [step for run in runs for step in run.steps if step.intensity is not None and step.depth is not None]
    return [float(step.intensity or 0.0) for step in steps], [float(step.depth or 0) for step in steps]


def _label_counts(labels: Sequence[Sequence[StepLabel]]) -> dict[str, dict[str, int]]:
    """Return how many steps of each depth have which label; ``none`` where no λ was enough."""
    found: dict[int, Counter[str]] = {}
    for steps in labels:
        for each in steps:
            name = "none" if each.intensity is None else f"{each.intensity:g}"
            found.setdefault(each.depth, Counter())[name] += 1
    return {str(depth): dict(sorted(counts.items())) for depth, counts in sorted(found.items())}
