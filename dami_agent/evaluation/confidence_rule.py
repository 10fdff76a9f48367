"""Choose the confidence estimator's two numbers on the calibration split, and show what the choice is worth.

Items are questions and single steps of agent tasks (the conversation up to the step is the reference solution's). For
every item: the probe the estimator would make, with both models' log-probabilities of its tokens, and the full reply
at every λ of the frontier. From these, any rule "probe -> λ" can be replayed without a model:

- **AUC** of a confidence: the chance that it is higher where Instruct's own reply is right than where it is wrong.
- a rule's **accuracy** and **tokens**: of the reply at the λ it picks; the probe's tokens are added unless it picks 0.

``choose`` takes the cheapest rule that is at least as accurate as always-Thinking.
Run it with ``python -m dami_agent.evaluation.confidence_rule``.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Annotated, Any

import typer

from dami_agent.estimators import ConfidenceEstimator
from dami_agent.evaluation import runner
from dami_agent.evaluation.reference_steps import reference_steps
from dami_agent.evaluation.runner import Answer, Request
from dami_agent.evaluation.stats import auc, mean
from dami_agent.policy import Frontier
from dami_agent.session import Session
from dami_agent.tasks import Question, agent_tasks, questions
from dami_agent.types import Intensity, Reply, Sampling, Step

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
ACCEPTS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Hold one call and how to judge its reply."""

    kind: str
    step: Step
    right: Callable[[Reply], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Hold what the models did with one item.

    Attributes:
        kind: ``question``, ``call`` or ``reply`` (an agent's tool call, its final reply).
        own, scored: log-probabilities of the probe's tokens, Instruct's and Thinking's.
        probe_tokens: its length.
        right, tokens: of the full reply at each λ, in the order of the frontier's grid.
    """

    kind: str
    own: tuple[float, ...]
    scored: tuple[float, ...]
    probe_tokens: int
    right: tuple[bool, ...]
    tokens: tuple[int, ...]


Confidence = Callable[[Observation], float]


def minimum(weight: float) -> Confidence:
    """Make the estimator's own formula: the weakest token's probability under the mix of both models."""

    def confidence(o: Observation) -> float:
        mixed = [(1 - weight) * a + weight * b for a, b in zip(o.own, o.scored, strict=True)]
        return math.exp(min(mixed)) if mixed else 0.0

    return confidence


def product(weight: float) -> Confidence:
    """Make the formula of the whole probe's probability under the mix."""

    def confidence(o: Observation) -> float:
        mixed = [(1 - weight) * a + weight * b for a, b in zip(o.own, o.scored, strict=True)]
        return math.exp(math.fsum(mixed)) if mixed else 0.0

    return confidence


def agreement(o: Observation) -> float:
    """Return how far Thinking follows Instruct: the worst drop from one to the other, as a ratio of probabilities."""
    drops = [b - a for a, b in zip(o.own, o.scored, strict=True)]
    return math.exp(min(0.0, min(drops))) if drops else 0.0


FORMULAS: dict[str, Confidence] = {
    **{f"min, w={w:g}": minimum(w) for w in WEIGHTS},
    **{f"product, w={w:g}": product(w) for w in WEIGHTS},
    "agreement": agreement,
}


def question_items(count: int, sampling: Sampling) -> list[Item]:
    """Draw questions of the calibration split."""
    return [
        Item(kind="question", step=_step(question.prompt, sampling), right=_answers(question))
        for question in questions("calibration", count, seed=1)
    ]


def step_items(count: int, sampling: Sampling) -> list[Item]:
    """Draw single steps of agent tasks of the calibration split, one drawn from each task."""
    rng = Random("calibrate:steps")
    items: list[Item] = []
    for task in agent_tasks("calibration", count, seed=1):
        seeded = dataclasses.replace(sampling, seed=runner.stream_seed("calibrate", task.prompt))
        chosen = reference_steps(task, seeded)[rng.randrange(task.steps)]
        items.append(Item(kind="call" if chosen.calling else "reply", step=chosen.step, right=chosen.right))
    return items


def _step(prompt: str, sampling: Sampling) -> Step:
    seeded = dataclasses.replace(sampling, seed=runner.stream_seed("calibrate", prompt))
    return runner.question_step(prompt, sampling=seeded, max_tokens=runner.MAX_TOKENS)


def _answers(question: Question) -> Callable[[Reply], bool]:
    return lambda reply: question.grade(reply.content)


def observe(
    session: Session, items: Sequence[Item], lambdas: Sequence[float], *, workers: int = 128
) -> list[Observation]:
    """Probe, score and answer every item; the probes are the estimator's own requests.

    Args:
        session: the opened pair.
        items: questions and steps of agents.
        lambdas: λs that every item is answered at.
        workers: threads.
    """
    estimator = ConfidenceEstimator()
    switch = session.frontier.switch_point

    def probe(item: Item) -> tuple[tuple[float, ...], tuple[float, ...], int]:
        prompt = session.dialogue.render(item.step, "instruct")
        base = runner.decide(runner.POLICY, Request(step=item.step, intensity=Intensity(0)))
        estimate = estimator.estimate(prompt, base, session.engine)
        assert estimate.probe is not None
        own = tuple(e.logprob.logprob for e in estimate.probe.events if e.logprob is not None)
        scored = session.engine.score(prompt, estimate.probe.token_ids, Intensity(1)) if own else ()
        return own, scored, estimate.tokens

    with ThreadPoolExecutor(workers) as pool:
        probes = list(pool.map(probe, items))
    replies: list[list[Answer]] = []
    for value in lambdas:
        requests = (Request(step=item.step, intensity=Intensity(value)) for item in items)
        replies.append(list(runner.answers(session, requests, switch_point=switch)))
    return [
        Observation(
            kind=item.kind,
            own=own,
            scored=scored,
            probe_tokens=tokens,
            right=tuple(item.right(column[i].reply) for column in replies),
            tokens=tuple(column[i].tokens for column in replies),
        )
        for i, (item, (own, scored, tokens)) in enumerate(zip(items, probes, strict=True))
    ]


def replay(
    observed: Sequence[Observation], confidence: Confidence, accept: float, grid: Sequence[float]
) -> dict[str, float]:
    """Return accuracy, tokens and mean λ of the rule: λ=0 from ``accept`` on, else 1 − confidence on the grid.

    Args:
        observed: what :func:`observe` gave.
        confidence: the formula.
        accept: confidence from which λ=0 answers.
        grid: λs that were observed, ascending.
    """
    right, tokens, chosen = [], [], []
    for o in observed:
        c = confidence(o)
        wanted = 0.0 if c >= accept else 1 - c
        at = min(range(len(grid)), key=lambda i: (abs(grid[i] - wanted), -grid[i]))
        right.append(o.right[at])
        tokens.append(o.tokens[at] + (o.probe_tokens if grid[at] > 0 else 0))
        chosen.append(grid[at])
    accepted = [i for i, value in enumerate(chosen) if value == 0]
    return {
        "accuracy": round(mean(right), 4),
        "tokens": round(mean(tokens), 2),
        "mean_lambda": round(mean(chosen), 3),
        "accepted": round(len(accepted) / len(chosen), 3),
        "accepted_right": round(mean([right[i] for i in accepted]), 4),
    }


def choose(rows: Sequence[dict[str, Any]], thinking: float) -> dict[str, Any]:
    """Choose the cheapest rule at least as accurate as always-Thinking; the most accurate one if there is none."""
    good = [row for row in rows if row["accuracy"] >= thinking]
    return min(good, key=lambda r: r["tokens"]) if good else max(rows, key=lambda r: (r["accuracy"], -r["tokens"]))


def report(observed: Sequence[Observation], grid: Sequence[float], seed: int = 0) -> dict[str, Any]:
    """Report AUC of every formula, every rule, the default and its shuffle, the fixed λs, oracle, the best rules."""
    kinds = sorted({o.kind for o in observed})
    groups = {"all": list(observed), **{kind: [o for o in observed if o.kind == kind] for kind in kinds}}
    aucs = {
        name: {kind: auc([f(o) for o in group], [o.right[0] for o in group]) for kind, group in groups.items()}
        for name, f in FORMULAS.items()
    }
    fixed = [
        {
            "lambda": value,
            "accuracy": mean([o.right[i] for o in observed]),
            "tokens": mean([o.tokens[i] for o in observed]),
        }
        for i, value in enumerate(grid)
    ]
    rules: list[dict[str, Any]] = [
        {"formula": name, "accept": accept, **replay(observed, f, accept, grid)}
        for name, f in FORMULAS.items()
        for accept in ACCEPTS
    ]
    thinking = float(fixed[-1]["accuracy"])
    estimator = ConfidenceEstimator()
    default = minimum(estimator.thinking_weight)
    first_right = [next((i for i, r in enumerate(o.right) if r), 0) for o in observed]
    oracle = {
        "accuracy": mean([any(o.right) for o in observed]),
        "tokens": mean([o.tokens[i] for o, i in zip(observed, first_right, strict=True)]),
    }
    return {
        "items": {kind: len(group) for kind, group in groups.items()},
        "auc": aucs,
        "fixed": fixed,
        "default": replay(observed, default, estimator.accept, grid),
        "shuffled": replay(observed, _shuffled(observed, default, seed), estimator.accept, grid),
        "chosen": choose([rule for rule in rules if rule["formula"].startswith("min")], thinking),
        "best_formula": choose(rules, thinking),
        "oracle": oracle,
        "rules": rules,
    }


def _shuffled(observed: Sequence[Observation], confidence: Confidence, seed: int) -> Confidence:
    """Shuffle the confidences over the items: what the histogram of λ alone is worth."""
    values = [confidence(o) for o in observed]
    Random(f"calibrate:{seed}").shuffle(values)
    shuffled = {id(o): value for o, value in zip(observed, values, strict=True)}
    return lambda o: shuffled[id(o)]


def main(
    items: Annotated[int, typer.Option(help="Questions, and as many agent steps.")] = 400,
    instruct: Annotated[str | None, typer.Option()] = None,
    thinking: Annotated[str | None, typer.Option()] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write all of it as JSON.")] = None,
) -> None:
    """Print AUC of every formula, fixed λs, the default rule, its controls and the best rules, as JSON."""
    session = runner.open_batch_session(instruct, thinking)
    frontier: Frontier = session.frontier
    grid = [float(value) for value in frontier.grid] or [i / 10 for i in range(11)]
    found = question_items(items, Sampling()) + step_items(items, Sampling())
    observed = observe(session, found, grid)
    info = session.engine.info
    result = {"pair": info.model, "fingerprint": info.fingerprint} | report(observed, grid)
    if output is not None:
        kept = result | {"grid": grid, "observations": [dataclasses.asdict(o) for o in observed]}
        output.write_text(json.dumps(kept) + "\n", encoding="utf-8")
    result.pop("rules")
    typer.echo(json.dumps(result, indent=2))


if __name__ == "__main__":
    typer.run(main)
