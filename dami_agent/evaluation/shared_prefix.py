"""Measure whether prompts may be read once, at Thinking's λ, for replies at any λ: shared prefixes against exact ones.

The same held-out questions are answered at each λ of the pair's grid with the prompt read either way, under the same
random streams, so that differences are paired; and the same agent tasks are solved at fixed λs and with λ per step.
A shared prefix is **free** if at no λ it costs more than a point of accuracy (or possibly two, by the 95 % interval)
or more than a tenth more tokens, and no way of the agents more than a point of the tasks or a tenth more tokens (their
intervals are wider than that). At λ = 1 both ways are one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dami_agent.errors import UsageError
from dami_agent.evaluation.agent_runner import AgentRunner
from dami_agent.evaluation.agents import DAMI, Mode, ModeResult, warm_up
from dami_agent.evaluation.call_batches import AnswerOutcome, BatchRunner, PairSource, Progress, QuestionBatch
from dami_agent.evaluation.compare import difference, identity
from dami_agent.evaluation.outcomes import unpacked
from dami_agent.evaluation.rows import rounded_interval
from dami_agent.evaluation.runner import MAX_TOKENS
from dami_agent.evaluation.stats import bootstrap, mean
from dami_agent.evaluation.sweep import held_out
from dami_agent.evaluation.task_set import TaskSet
from dami_agent.types import Intensity, PrefixMode

MODES: tuple[PrefixMode, PrefixMode] = ("exact", "shared")
READ_AT = Intensity(1)
"""λ that shared prompts are read at."""

MOST_LOST, LEAST_LOW, MOST_TOKENS = 0.01, -0.02, 1.1
"""Accuracy that may be lost, the lowest end of its interval, and the ratio of tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixPlan:
    """Say what to ask.

    Attributes:
        lambdas: of the replies, below 1.
        questions: over all seeds.
        tasks: agent tasks, at each of ``agents`` and with λ per step; with none, questions alone are asked.
        agents: λs that agents are run at all along.
        temperature: of the questions; agents take the checkpoints' own.
        max_tokens: cap of one reply.
        switch: λ up to which Instruct's template is used.
        sweep: of the same pair (``dami sweep``'s JSON): its outcomes are the exact side of the questions, so that only
            the shared side is asked. :meth:`like` makes a plan of the same questions and settings.
    """

    lambdas: tuple[float, ...]
    questions: int = 2100
    seeds: int = 3
    tasks: TaskSet | None = None
    agents: tuple[float, ...] = (0.0, 0.5)
    temperature: float = 0.7
    max_tokens: int = MAX_TOKENS
    switch: float = 0.0
    sweep: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        values = sorted({Intensity(value) for value in self.lambdas} - {READ_AT})
        if not values:
            raise UsageError("at λ = 1 a shared prefix is the exact one", hint="give λs below 1")
        object.__setattr__(self, "lambdas", tuple(values))

    @classmethod
    def like(cls, sweep: Mapping[str, Any], *, lambdas: tuple[float, ...], tasks: TaskSet | None = None) -> PrefixPlan:
        """Ask what a sweep asked, as it asked it, with prompts shared; its own outcomes are the exact side.

        Args:
            sweep: ``dami sweep``'s JSON, with its outcomes.
            lambdas, tasks: as the attributes.

        Raises:
            UsageError: the sweep does not keep its outcomes, or has none at one of the λs.
        """
        plan = cls(
            lambdas=lambdas,
            tasks=tasks,
            sweep=sweep,
            switch=sweep["switch_point"],
            **{name: sweep[name] for name in ("questions", "seeds", "temperature", "max_tokens")},
        )
        missing = [f"{value:g}" for value in plan.lambdas if value not in unpacked(sweep)]
        if missing:
            raise UsageError(f"the sweep did not measure λ={', '.join(missing)}", hint="give λs that it did measure")
        return plan


def shared_prefix(
    plan: PrefixPlan,
    source: PairSource,
    *,
    workers: int = 1,
    concurrency: int = 48,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Compare both ways to read prompts; see the module's docstring.

    Args:
        plan: what to ask.
        source: the pair.
        workers: processes that share the work.
        concurrency: agents at a time in each.
        progress: told what is done.

    Returns:
        JSON: a row for each λ, one for each mode of the agents, and whether it is ``free``.

    Raises:
        UsageError: the plan's sweep is of another pair.
    """
    known = {} if plan.sweep is None else unpacked(plan.sweep)
    pair = identity(_settings(source))
    if plan.sweep is not None and plan.sweep["fingerprint"] != pair["fingerprint"]:
        raise UsageError(
            f"the sweep is of another pair ({plan.sweep['fingerprint']}) than this one ({pair['fingerprint']})",
            hint="sweep this pair (`dami sweep --output FILE`), or leave the sweep out",
        )
    asked = list(held_out(plan.questions, plan.seeds))
    batches = [
        QuestionBatch(
            name=f"λ={value:g}, {mode}",
            asked=asked,
            intensity=Intensity(value),
            temperature=plan.temperature,
            max_tokens=plan.max_tokens,
            switch=plan.switch,
            prefix=mode,
        )
        for mode in (MODES[1:] if known else MODES)
        for value in plan.lambdas
    ]
    with BatchRunner(source, workers, progress) as runner:
        found = runner.run(batches)
    count = len(plan.lambdas)
    shared, exact = found[-count:], [known[Intensity(value)] for value in plan.lambdas] if known else found[:count]
    rows = [_row(*each) for each in zip(plan.lambdas, exact, shared, strict=True)]
    agents = [] if plan.tasks is None else _agents(plan, plan.tasks, source, workers, concurrency, progress)
    return {
        "intensity": float(READ_AT),
        "free": all(map(is_free, rows)) and all(map(is_free_of, agents)),
        "rows": rows,
        "agents": agents,
        "questions": len(asked),
        "seeds": plan.seeds,
        "tasks": 0 if plan.tasks is None else plan.tasks.count,
        **pair,
    }


def is_free(row: dict[str, Any]) -> bool:
    """Tell whether sharing costs nothing at one λ, by the bounds of this module."""
    low, _ = row["difference_ci"] or (-1.0, 1.0)
    return bool(row["difference"] >= -MOST_LOST and low > LEAST_LOW and row["tokens_ratio"] <= MOST_TOKENS)


def is_free_of(row: dict[str, Any]) -> bool:
    """Tell whether sharing costs agents nothing in one mode, by the bounds of this module."""
    return bool(row["solved"] >= -MOST_LOST and (row["tokens"] or 1.0) <= MOST_TOKENS)


def noted(frontier: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, Any]:
    """Return a frontier's JSON with what was measured of shared prefixes, so that ``prefix: auto`` goes by it.

    Raises:
        UsageError: the frontier is another pair's.
    """
    if frontier.get("fingerprint") not in (None, measured["fingerprint"]):
        raise UsageError(
            f"the frontier is of another pair ({frontier['fingerprint']}) than was measured ({measured['fingerprint']})"
        )
    names = ("intensity", "free", "rows", "agents", "questions", "tasks", "seeds")
    return {**frontier, "prefix": {name: measured[name] for name in names}}


def _row(value: float, exact: Sequence[AnswerOutcome], shared: Sequence[AnswerOutcome]) -> dict[str, Any]:
    """Compare the outcomes of the same questions at one λ."""
    pairs = list(zip(exact, shared, strict=True))

    def gained(drawn: Sequence[tuple[AnswerOutcome, AnswerOutcome]]) -> float:
        return mean([float(other.right) - float(one.right) for one, other in drawn])

    def ratio(drawn: Sequence[tuple[AnswerOutcome, AnswerOutcome]]) -> float:
        return sum(other.tokens for _, other in drawn) / max(1, sum(one.tokens for one, _ in drawn))

    return {
        "lambda": float(value),
        "exact": _means(exact),
        "shared": _means(shared),
        "difference": round(gained(pairs), 4),
        "difference_ci": rounded_interval(bootstrap(pairs, gained)),
        "tokens_ratio": round(ratio(pairs), 4),
        "tokens_ratio_ci": rounded_interval(bootstrap(pairs, ratio)),
    }


def _means(outcomes: Sequence[AnswerOutcome]) -> dict[str, float]:
    return {
        "accuracy": round(mean([float(each.right) for each in outcomes]), 4),
        "tokens": round(mean([float(each.tokens) for each in outcomes]), 2),
    }


def _agents(
    plan: PrefixPlan,
    tasks: TaskSet,
    source: PairSource,
    workers: int,
    concurrency: int,
    progress: Progress | None,
) -> list[dict[str, Any]]:
    """Solve the tasks at fixed λs and with λ per step, with prompts read either way."""
    modes = [Mode(name=f"λ={value:g}", intensity=Intensity(value)) for value in plan.agents] + [DAMI]
    found: dict[PrefixMode, dict[str, ModeResult]] = {}
    for prefix in MODES:
        settings = _settings(source) | {"prefix": prefix}
        warm_up(settings)

        def tell(name: str, done: int, total: int, prefix: str = prefix) -> None:
            if progress is not None:
                progress(f"agents, {prefix}: {name}", done, total)

        with AgentRunner(tasks, workers=workers, concurrency=concurrency, model=settings, tell=tell) as runner:
            found[prefix] = runner.run(modes)
    rows = []
    for mode in modes:
        exact, shared = found["exact"][mode.name], found["shared"][mode.name]
        row = {"mode": mode.name, "tasks": len(exact.runs), "exact": exact.totals(), "shared": shared.totals()}
        rows.append(row | difference(shared.runs, exact.runs))
    return rows


def _settings(source: PairSource) -> dict[str, Any]:
    given = {"instruct": source.instruct, "thinking": source.thinking}
    return {name: value for name, value in given.items() if value is not None}
