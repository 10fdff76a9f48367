"""Collect what heads are fitted to: a pair's hidden states of prompts, its probes, and its replies at several λs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from dami_agent.errors import InvalidRequest, UsageError
from dami_agent.estimators import ConfidenceEstimator
from dami_agent.estimators.entropy import ALTERNATIVES, mean_entropy
from dami_agent.estimators.head import entropy_vector, probe_vector
from dami_agent.estimators.samples import Samples
from dami_agent.evaluation import runner
from dami_agent.evaluation.asked import Ask, AskedBatch, SamplePlan, SampleSet
from dami_agent.evaluation.call_batches import AnswerOutcome, BatchRunner, Progress
from dami_agent.evaluation.runner import Request
from dami_agent.policy import Frontier
from dami_agent.request_checks import reader_of_states
from dami_agent.session import Session
from dami_agent.types import Engine, Estimate, Intensity, Prompt, Step

__all__ = ["collect", "every_layer", "joined", "read_states", "rendered", "states_read_at"]

_READERS = 64  # prompts in flight, so that the engine reads many together


def collect(batches: BatchRunner, plan: SamplePlan, asked: SampleSet, *, kept: Path | None = None) -> Samples:
    """Read the hidden states of all that is asked, probe it, and answer it at every λ.

    Args:
        batches: decodes the replies.
        plan: the λs, and how replies are drawn.
        asked: questions and tasks; their samples follow one another in this order.
        kept: a file for the answers, of this plan and set alone (:class:`~dami_agent.evaluation.asked.AnswerFile`).

    Raises:
        UsageError: a prompt does not fit the context window; says which, before anything is decoded.
        InvalidRequest: as :func:`every_layer`.
    """
    asks = asked.asks(plan)
    prompts = rendered(batches.session, asks)
    # What is read costs little, so that what cannot be read is known before hours of decoding.
    layers = every_layer(batches.session.engine)
    read_at = states_read_at(batches.session.frontier)
    states = read_states(batches.session, prompts, layers, batches.tell, read_at=read_at)
    estimates = read_probes(batches.session, [ask.step for ask in asks], batches.tell)
    replies = _replies(batches, plan, asked, kept)
    return joined(asks, layers, states, estimates, plan.lambdas, replies, read_at=read_at)


def every_layer(engine: Engine) -> tuple[int, ...]:
    """Return the numbers of all layers, as transformers numbers ``hidden_states``, of an engine that gives states.

    Raises:
        InvalidRequest: it gives none, or does not say how many layers it has.
    """
    reader_of_states(engine)
    info = engine.info
    if not info.layers:
        raise InvalidRequest(f"the engine of {info.model} does not say how many layers it has")
    return tuple(range(1, info.layers + 1))


def states_read_at(frontier: Frontier) -> Intensity:
    """Return the λ at which prompts are read for their states: that of the prompts of all replies, or 0."""
    return frontier.prefix_intensity or Intensity(0)


def joined(
    asks: Sequence[Ask],
    layers: tuple[int, ...],
    states: torch.Tensor,
    estimates: Sequence[Estimate],
    lambdas: Sequence[float],
    replies: Sequence[Sequence[Sequence[AnswerOutcome]]],
    *,
    read_at: Intensity,
) -> Samples:
    """Make samples of what was read of some prompts and what came of the replies.

    Args:
        asks: the prompts.
        layers: whose states were read.
        states: float32 [prompts, layers, 2 · hidden size].
        estimates: of probes.
        lambdas: rising.
        replies: outcomes by λ, try and prompt.
        read_at: λ that the states were read at.
    """
    numbers: dict[str, float] = {}
    return Samples(
        layers=layers,
        states=states,
        probes=torch.stack([probe_vector(each.features) for each in estimates]),
        entropies=torch.stack([entropy_vector(_entropy_of(each)) for each in estimates]),
        probe_tokens=torch.tensor([float(each.tokens) for each in estimates]),
        tools=torch.tensor([float(len(ask.step.tools) > 0) for ask in asks]),
        groups=torch.tensor([numbers.setdefault(ask.group, float(len(numbers))) for ask in asks]),
        lambdas=tuple(Intensity(value) for value in lambdas),
        right=_means(replies, "right"),
        tokens=_means(replies, "tokens"),
        read_at=read_at,
    )


def rendered(session: Session, asks: Sequence[Ask]) -> list[Prompt]:
    """Render every prompt with Instruct's template, and refuse what does not fit.

    Args:
        session: the pair.
        asks: the prompts.

    Raises:
        UsageError: a prompt does not fit the context window; says which.
    """
    prompts, window = [], session.engine.info.context_length
    for number, ask in enumerate(asks, 1):
        prompt = session.dialogue.render(ask.step, "instruct")
        if len(prompt.token_ids) >= window:
            begins = ask.step.messages[-1].content[:60]
            raise UsageError(
                f"prompt {number} of {len(asks)} ({begins!r}…) has {len(prompt.token_ids)} tokens, and the context "
                f"window {window}",
                hint="leave it out, or shorten it",
            )
        prompts.append(prompt)
    return prompts


def _replies(
    batches: BatchRunner, plan: SamplePlan, asked: SampleSet, kept: Path | None
) -> list[list[list[AnswerOutcome]]]:
    """Answer everything: outcomes by λ, try and prompt."""
    given: dict[str, Any] = {
        "asked": asked,
        "plan": plan,
        "switch": batches.session.frontier.switch_point,
        "kept": kept,
    }
    made = [
        AskedBatch(name=f"λ={value:g}", intensity=Intensity(value), attempt=n, **given)
        for value in plan.lambdas
        for n in range(plan.tries)
    ]
    outcomes = batches.run(made)
    return [outcomes[i * plan.tries : (i + 1) * plan.tries] for i in range(len(plan.lambdas))]


def read_probes(session: Session, steps: Sequence[Step], tell: Progress | None = None) -> list[Estimate]:
    """Make the probes that ``confidence`` would make, many at a time, with the alternatives that ``entropy`` looks at.

    Args:
        session: the pair.
        steps: what is asked.
        tell: of progress.
    """
    estimator = ConfidenceEstimator(calibrated=False)
    alternatives = min(ALTERNATIVES, session.engine.info.vocab_size or ALTERNATIVES)

    def probe(step: Step) -> Estimate:
        step = dataclasses.replace(step, sampling=dataclasses.replace(step.sampling, logprobs=alternatives))
        prompt = session.dialogue.render(step, "instruct")
        decision = runner.decide(runner.POLICY, Request(step=step, intensity=Intensity(0)))
        return estimator.estimate(prompt, decision, session.engine)

    found: list[Estimate] = []
    with ThreadPoolExecutor(_READERS) as pool:
        for estimate in pool.map(probe, steps):
            found.append(estimate)
            if tell is not None:
                tell("probes", len(found), len(steps))
    return found


def _entropy_of(estimate: Estimate) -> dict[str, float]:
    """Return the mean entropy of an estimate's probe by name; nothing of an empty one."""
    entropy = mean_entropy(estimate.probe.events) if estimate.probe is not None else None
    return {} if entropy is None else {"entropy": entropy}


def read_states(
    session: Session,
    prompts: Sequence[Prompt],
    layers: Sequence[int],
    tell: Progress | None = None,
    *,
    read_at: Intensity,
) -> torch.Tensor:
    """Read the states of some prompts: float32 [prompts, layers, 2 · hidden size].

    Args:
        session: the pair.
        prompts: rendered with Instruct's template.
        layers: as transformers numbers ``hidden_states``.
        tell: of progress.
        read_at: λ.

    Raises:
        InvalidRequest: the pair's engine gives no hidden states.
    """
    reader = reader_of_states(session.engine)
    rows: list[torch.Tensor] = []
    with ThreadPoolExecutor(_READERS) as pool:
        for row in pool.map(lambda prompt: reader.hidden_states(prompt, read_at, layers), prompts):
            rows.append(torch.tensor(row, dtype=torch.float32))  # tuples would take eight times as much
            if tell is not None:
                tell("hidden states", len(rows), len(prompts))
    return torch.stack(rows)


def _means(by_lambda: Sequence[Sequence[Sequence[AnswerOutcome]]], name: str) -> torch.Tensor:
    """Return the mean over the tries of one field: float32 [prompts, λs]."""
    columns = [
        torch.tensor([[float(getattr(each, name)) for each in one] for one in tries]).mean(dim=0) for tries in by_lambda
    ]
    return torch.stack(columns, dim=1)
