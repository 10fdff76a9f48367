"""Collect what heads are fitted to: a pair's hidden states of prompts, its probes, and its replies at several λs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import torch

from dami_agent.errors import UsageError
from dami_agent.estimators import ConfidenceEstimator
from dami_agent.estimators.head import probe_vector
from dami_agent.estimators.samples import Samples
from dami_agent.evaluation import runner
from dami_agent.evaluation.call_batches import (
    AnswerOutcome,
    AskedQuestions,
    Batch,
    BatchRunner,
    Progress,
    QuestionBatch,
    outcome,
    question_step,
)
from dami_agent.evaluation.own_questions import OwnQuestion
from dami_agent.evaluation.reference_steps import ReferenceStep, reference_steps
from dami_agent.evaluation.runner import MAX_TOKENS, Request
from dami_agent.evaluation.task_set import TaskSet
from dami_agent.request_checks import reader_of_states
from dami_agent.session import Session
from dami_agent.tasks import AgentTask, Question
from dami_agent.types import Estimate, Intensity, Prompt, Sampling, Step

__all__ = ["SamplePlan", "SampleSet", "collect", "read_states"]

_READERS = 64  # prompts in flight, so that the engine reads many together


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplePlan:
    """Say how replies are sampled.

    Attributes:
        lambdas: in [0, 1]; 0 and 1 are always among them.
        tries: replies to each prompt at each λ.
        temperature: at every λ; top-p and top-k stay the checkpoints' own.
        max_tokens: cap of one reply.
    """

    lambdas: tuple[float, ...] = (0.0, 0.3, 0.5, 0.8, 1.0)
    tries: int = 1
    temperature: float = 0.7
    max_tokens: int = MAX_TOKENS

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise UsageError(f"tries must be at least 1, got {self.tries}")
        object.__setattr__(self, "lambdas", tuple(sorted({Intensity(value) for value in (*self.lambdas, 0, 1)})))


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSet:
    """Say what is asked: questions, and every step of agent tasks after the history of their reference solution."""

    questions: AskedQuestions = ()
    tasks: TaskSet | None = None

    def __len__(self) -> int:
        return len(self.questions) + sum(task.steps for task in self.drawn)

    @property
    def drawn(self) -> list[AgentTask]:
        """Return the tasks themselves."""
        return self.tasks.all if self.tasks is not None else []

    def digest(self, *how: object) -> str:
        """Identify what is asked, and how: the same in every process."""
        said = [(seed, question.prompt) for seed, question in self.questions], [task.prompt for task in self.drawn]
        return blake2b(repr((said, how)).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


@dataclass(frozen=True, kw_only=True)
class StepBatch:
    """Answer every reference step of some agent tasks at one λ; the tasks are drawn where they are answered."""

    name: str
    asked: SampleSet
    intensity: Intensity
    temperature: float
    max_tokens: int
    switch: float = 0.0
    stream: tuple[object, ...] = ()

    @property
    def size(self) -> int:
        """Return the number of calls."""
        return sum(task.steps for task in self.asked.drawn)

    def run(self, session: Session, done: Callable[[int], None]) -> list[AnswerOutcome]:
        """Make the calls, and judge each by the plan of its task."""
        steps = [
            each
            for task in self.asked.drawn
            for each in capped_steps(task, self.temperature, self.max_tokens, self.stream)
        ]
        requests = (Request(step=each.step, intensity=self.intensity) for each in steps)
        answers = runner.answers(session, requests, switch_point=self.switch, done=done)
        return [outcome(answer, right=each.right(answer.reply)) for each, answer in zip(steps, answers, strict=True)]


def capped_steps(
    task: AgentTask, temperature: float, max_tokens: int, stream: tuple[object, ...]
) -> list[ReferenceStep]:
    """Return the reference steps of a task as they are sampled.

    Args:
        task: of the split that is asked.
        temperature: of sampling.
        max_tokens: cap of one reply.
        stream: sets apart the random streams of several tries.
    """
    seed = runner.stream_seed("steps", task.prompt, *stream)
    found = reference_steps(task, Sampling(temperature=temperature, seed=seed))
    capped = (replace(each.step, limits=replace(each.step.limits, max_tokens=max_tokens)) for each in found)
    return [replace(each, step=step) for each, step in zip(found, capped, strict=True)]


def collect(batches: BatchRunner, plan: SamplePlan, asked: SampleSet) -> Samples:
    """Read the hidden states of all that is asked, probe it, and answer it at every λ.

    Args:
        batches: decodes the replies.
        plan: the λs, and how replies are drawn.
        asked: questions and tasks; their samples follow one another in this order.

    Raises:
        UsageError: a prompt does not fit the context window; says which, before anything is decoded.
    """
    session = batches.session
    tasks = asked.drawn
    steps = [_question_step(item, plan) for item in asked.questions]
    steps += [each.step for task in tasks for each in _steps_of(task, plan)]
    prompts = _rendered(session, steps)
    layers = tuple(range(1, session.engine.info.layers + 1))
    # What is read costs little, so that what cannot be read is known before hours of decoding.
    states = read_states(session, prompts, layers, batches.tell)
    estimates = read_probes(session, steps, batches.tell)
    by_lambda = _replies(batches, plan, asked)
    return Samples(
        layers=layers,
        states=states,
        probes=torch.stack([probe_vector(each.features) for each in estimates]),
        probe_tokens=torch.tensor([float(each.tokens) for each in estimates]),
        tools=torch.tensor([float(prompt.tools > 0) for prompt in prompts]),
        groups=torch.tensor(_groups(asked.questions, tasks)),
        lambdas=tuple(Intensity(value) for value in plan.lambdas),
        right=_means(by_lambda, "right"),
        tokens=_means(by_lambda, "tokens"),
    )


def _rendered(session: Session, steps: Sequence[Step]) -> list[Prompt]:
    """Render every prompt with Instruct's template, and refuse what does not fit."""
    prompts, window = [], session.engine.info.context_length
    for number, step in enumerate(steps, 1):
        prompt = session.dialogue.render(step, "instruct")
        if len(prompt.token_ids) >= window:
            begins = step.messages[-1].content[:60]
            raise UsageError(
                f"prompt {number} of {len(steps)} ({begins!r}…) has {len(prompt.token_ids)} tokens, and the context "
                f"window {window}",
                hint="leave it out, or shorten it",
            )
        prompts.append(prompt)
    return prompts


def _groups(asked: AskedQuestions, tasks: Sequence[AgentTask]) -> list[float]:
    """Give one number to what hangs together: questions in the same words, the steps of one task."""
    names: dict[object, float] = {}
    said: list[object] = [question.prompt for _, question in asked]
    said += [("task", place) for place, task in enumerate(tasks) for _ in range(task.steps)]
    return [names.setdefault(each, float(len(names))) for each in said]


def _replies(batches: BatchRunner, plan: SamplePlan, asked: SampleSet) -> list[list[list[AnswerOutcome]]]:
    """Answer everything: outcomes by λ, try and prompt."""
    switch = batches.session.frontier.switch_point

    def made(value: Intensity, attempt: int) -> list[Batch]:
        settings: dict[str, Any] = {
            "name": f"λ={value:g}",
            "intensity": value,
            "temperature": plan.temperature,
            "max_tokens": plan.max_tokens,
            "switch": switch,
            "stream": _stream(attempt),
        }
        steps = SampleSet(tasks=asked.tasks)
        return [QuestionBatch(asked=asked.questions, **settings), StepBatch(asked=steps, **settings)]

    lambdas = [Intensity(value) for value in plan.lambdas]
    outcomes = batches.run([each for value in lambdas for n in range(plan.tries) for each in made(value, n)])
    together = [[*first, *then] for first, then in zip(outcomes[::2], outcomes[1::2], strict=True)]
    return [together[i * plan.tries : (i + 1) * plan.tries] for i in range(len(lambdas))]


def _stream(attempt: int) -> tuple[object, ...]:
    """Set apart the streams of several tries; a probe has the first one's, being how that reply at λ=0 begins."""
    return ("samples", attempt)


def _question_step(item: tuple[int, Question | OwnQuestion], plan: SamplePlan) -> Step:
    seed, question = item
    sampling = Sampling(temperature=plan.temperature, seed=runner.stream_seed(seed, question.prompt, *_stream(0)))
    return question_step(question, sampling=sampling, max_tokens=plan.max_tokens)


def _steps_of(task: AgentTask, plan: SamplePlan) -> list[ReferenceStep]:
    return capped_steps(task, plan.temperature, plan.max_tokens, _stream(0))


def read_probes(session: Session, steps: Sequence[Step], tell: Progress | None = None) -> list[Estimate]:
    """Make the probes that ``confidence`` would make, many at a time.

    Args:
        session: the pair.
        steps: what is asked.
        tell: of progress.
    """
    estimator = ConfidenceEstimator(calibrated=False)

    def probe(step: Step) -> Estimate:
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


def read_states(
    session: Session, prompts: Sequence[Prompt], layers: Sequence[int], tell: Progress | None = None
) -> torch.Tensor:
    """Read the prompts at λ=0: float32 [prompts, layers, 2 · hidden size].

    Args:
        session: the pair.
        prompts: rendered with Instruct's template.
        layers: as transformers numbers ``hidden_states``.
        tell: of progress.

    Raises:
        InvalidRequest: the pair's engine gives no hidden states.
    """
    reader = reader_of_states(session.engine)
    rows: list[torch.Tensor] = []
    with ThreadPoolExecutor(_READERS) as pool:
        for row in pool.map(lambda prompt: reader.hidden_states(prompt, Intensity(0), layers), prompts):
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
