"""Accuracy against budget: the same agent tasks under reasoning budgets from generous to starving.

The budgets are shares of what ``auto`` thinks by itself, measured first on the same tasks: of a whole run (``scope``
"run"), or of each tool's part of it (``scope`` "tool"). Under each budget the tasks are solved

- with λ per step (``auto``) and the budget: λ and thoughts sink as it drains;
- by Thinking under the same budget, forced: λ stays 1 at every step, and each thought is closed where the budget ends
  (with the family's closing words); where nothing is left the thought is empty;
- at λ = 0.5, forced in the same way.

A step is charged to the tool whose result it reads; what is thought before any tool has answered is in no tool's
budget, in no arm.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dami_agent.evaluation.agent_runner import AgentRunner, Progress
from dami_agent.evaluation.agents import DAMI, Mode, ModeResult, TaskRun, warm_up
from dami_agent.evaluation.compare import difference, identity
from dami_agent.evaluation.stats import half_width, mean
from dami_agent.evaluation.task_set import TaskSet
from dami_agent.policy.registry import read_policy

SHARES = (8.0, 4.0, 3.0, 2.0, 1.0, 0.5)
"""Budgets, as shares of the reasoning tokens that ``auto`` takes by itself in the mean run.

Half of the tasks need no thought and the other half a long one, so a budget that cuts nothing is a multiple of the
mean.
"""

HALF = 0.5
MUST_KEEP = 5.0
"""Where a budget makes it use this share of its own reasoning tokens, ``auto`` may lose so many points of the tasks."""

Scope = Literal["run", "tool"]
SCOPES: tuple[Scope, ...] = ("run", "tool")


@dataclass(frozen=True, slots=True)
class Arm:
    """Name a way to choose λ under a budget; ``intensity`` None leaves it to the estimator."""

    name: str
    intensity: float | None


ARMS = (Arm("auto", None), Arm("thinking", 1.0), Arm("lambda=0.5", 0.5))


def budget_curve(
    tasks: TaskSet,
    *,
    shares: Sequence[float] = SHARES,
    scopes: Sequence[Scope] = SCOPES,
    workers: int = 1,
    concurrency: int = 48,
    model: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Solve a set of tasks under every budget in every arm.

    Args:
        tasks: which, and their seeds.
        shares: budgets, as shares of what ``auto`` thinks by itself.
        scopes: whose budgets: a run's, each tool's.
        workers: processes that take modes and seeds; each holds the pair.
        concurrency: agents at a time in each.
        model: further arguments of ChatDAMI, such as the pair.
        progress: told (mode, tasks done, tasks).

    Returns:
        JSON: ``auto`` without a budget, and ``points``, one for each scope and share.
    """
    settings = model or {}
    warm_up(settings)
    with AgentRunner(tasks, workers=workers, concurrency=concurrency, model=settings, tell=progress) as runner:
        free = runner.run([DAMI])[DAMI.name]
        modes = {
            (scope, share, arm.name): make_mode(arm, scope, share, free)
            for scope in scopes
            for share in shares
            for arm in ARMS
        }
        results = runner.run(list(modes.values()))
    points = []
    for scope in scopes:
        for share in shares:
            arms = {arm.name: results[modes[scope, share, arm.name].name] for arm in ARMS}
            points.append(_point(scope, share, arms, free))
    return {
        "tasks": len(free.runs),
        "seeds": list(tasks.seeds),
        "kinds": list(tasks.kinds),
        "auto": _row(free),
        "points": points,
        **identity(settings),
    }


def used(curve: Mapping[str, Any], arm: Mapping[str, Any]) -> float:
    """Return the reasoning tokens of an arm as a share of what ``auto`` takes by itself."""
    free = curve["auto"]["thought_per_task"]
    return float(arm["thought_per_task"] / free) if free else 0.0


def lost_at_half(curve: Mapping[str, Any], scope: Scope) -> float | None:
    """Return the points of tasks that ``auto`` loses where budgets make it use half of its own reasoning tokens.

    Args:
        curve: what :func:`budget_curve` returned.
        scope: whose budgets.

    Returns:
        Interpolated between the two budgets whose use encloses the half; None if it never used more than half.
    """
    free = curve["auto"]
    arms = [point["arms"]["auto"] for point in curve["points"] if point["scope"] == scope]
    found = sorted((used(curve, arm), arm["solved"]) for arm in (*arms, free))
    above = [pair for pair in found if pair[0] >= HALF]
    below = [pair for pair in found if pair[0] < HALF]
    if not above or not below:
        return None
    (low, fewer), (high, more) = below[-1], above[0]
    solved = fewer + (more - fewer) * (HALF - low) / (high - low)
    return float(100 * (solved - free["solved"]) / curve["tasks"])


def make_mode(arm: Arm, scope: Scope, share: float, free: ModeResult) -> Mode:
    """Make one arm under one budget.

    Args:
        arm: how λ is chosen.
        scope: whose budget it is.
        share: of what ``auto`` thinks by itself.
        free: the runs of ``auto`` without a budget.
    """
    name, declared = f"{scope} {share:g} {arm.name}", budget(scope, share, free)
    if arm.intensity is None:
        said = {"name": f"{share:g} of auto's by {scope}", "default": {"intensity": "auto"}, **declared}
        return Mode(name=name, intensity=None, policy=read_policy(said))
    tools = {tool: each["run_max_reasoning_tokens"] for tool, each in declared.get("tools", {}).items()}
    forced = Forced(declared.get("run", {}).get("max_reasoning_tokens"), tools)
    return Mode(name=name, intensity=arm.intensity, caps=forced)


@dataclass(frozen=True, slots=True)
class Forced:
    """Close each thought where the budget ends: budget forcing, at whatever λ.

    Attributes:
        whole: reasoning tokens of a run; None: no bound.
        tools: of all steps of a run that are charged to a tool.
    """

    whole: int | None
    tools: Mapping[str, int]

    def __call__(self, run: TaskRun, read: Sequence[str]) -> int | None:
        """Return how long the next thought may be; of several tools that are read, the strictest says."""
        spent = sum(step.thought_tokens for step in run.steps)
        left = [] if self.whole is None else [self.whole - spent]
        for tool in set(read) & set(self.tools):
            used = sum(step.thought_tokens for step in run.steps if tool in step.digested)
            left.append(self.tools[tool] - used)
        return max(0, min(left)) if left else None


def budget(scope: Scope, share: float, free: ModeResult) -> dict[str, Any]:
    """Return the policy's budget: a share of the runs' mean, or of each tool's over the runs that it was charged in."""
    if scope == "run":
        whole = _mean_thought(free)
        return {"run": {"max_reasoning_tokens": max(1, round(share * whole))}}
    charged: dict[str, list[float]] = defaultdict(list)
    for run in free.runs:
        own: dict[str, float] = defaultdict(float)
        for step in run.steps:
            own[step.charged_to] += step.thought_tokens
        for name, tokens in own.items():
            charged[name].append(tokens)
    tools = {name: max(1, round(share * mean(each))) for name, each in charged.items() if name != "answer"}
    return {"tools": {name: {"run_max_reasoning_tokens": tokens} for name, tokens in sorted(tools.items())}}


def _point(scope: Scope, share: float, arms: dict[str, ModeResult], free: ModeResult) -> dict[str, Any]:
    """Compare the arms under one budget."""
    whole = _mean_thought(free)
    return {
        "scope": scope,
        "share": share,
        "budget": round(share * whole if scope == "run" else _mean_budget(share, free), 1),
        "arms": {name: _row(result) for name, result in arms.items()},
        "auto_against_thinking": difference(arms["auto"].runs, arms["thinking"].runs),
        "auto_against_free": difference(arms["auto"].runs, free.runs),
    }


def _mean_budget(share: float, free: ModeResult) -> float:
    """Return the tokens that a run may think by the budgets of the tools that it reads, on average."""
    tools = {name: each["run_max_reasoning_tokens"] for name, each in budget("tool", share, free)["tools"].items()}
    read = [{tool for step in run.steps for tool in step.digested} for run in free.runs]
    return mean([float(sum(tools.get(tool, 0) for tool in each)) for each in read])


def _mean_thought(free: ModeResult) -> float:
    """Return the tokens of all thoughts of a run, on average: what budgets count, without discarded probes."""
    return mean([float(sum(step.thought_tokens for step in run.steps)) for run in free.runs])


def _row(result: ModeResult) -> dict[str, Any]:
    count = len(result.runs)
    return {
        "solved": result.solved,
        "solved_ci": round(half_width(result.solved, count) * count, 2),
        "reasoning_tokens": result.reasoning_tokens,
        "thought_per_task": round(_mean_thought(result), 2),
        "output_tokens": result.output_tokens,
        "capped_steps": sum(step.capped for run in result.runs for step in run.steps),
        "errors": sum(run.error is not None for run in result.runs),
    }
