"""Ask prompts that can be judged — questions, steps of agent tasks — and keep every answer as it comes.

An :class:`AskedBatch` is pure data until it runs, like any batch (``call_batches.py``). Where it is given a file, each
answer is appended to it at once, and answers that stand in it are not asked for again: a run that broke off goes on
where it was.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

from dami_agent.answers import answer_of
from dami_agent.errors import UsageError
from dami_agent.evaluation import runner
from dami_agent.evaluation.call_batches import AnswerOutcome, outcome
from dami_agent.evaluation.gym_questions import GymQuestion
from dami_agent.evaluation.own_questions import OwnQuestion
from dami_agent.evaluation.recorded_steps import RecordedStep
from dami_agent.evaluation.reference_steps import Right, reference_steps
from dami_agent.evaluation.runner import MAX_TOKENS, Request
from dami_agent.evaluation.task_set import TaskSet
from dami_agent.session import Session
from dami_agent.tasks import AgentTask, Question
from dami_agent.types import Intensity, Sampling, Step, Template

__all__ = ["AnswerFile", "Ask", "AskedBatch", "SamplePlan", "SampleSet"]

AskedQuestion: TypeAlias = Question | OwnQuestion | GymQuestion | RecordedStep
"""One of the tasks', of a user's own, of reasoning-gym, or a step of a ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplePlan:
    """Say how replies are sampled.

    Attributes:
        lambdas: in [0, 1]; 0 and 1 are always among them.
        tries: replies to each prompt at each λ.
        temperature: at every λ; None: the checkpoints' own. Top-p and top-k always are the checkpoints' own.
        max_tokens: cap of one reply; None: what the context window leaves.
        max_reasoning_tokens: cap of its thought; with one, log-probabilities of its tokens are kept too.
    """

    lambdas: tuple[float, ...] = (0.0, 0.3, 0.5, 0.8, 1.0)
    tries: int = 1
    temperature: float | None = 0.7
    max_tokens: int | None = MAX_TOKENS
    max_reasoning_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise UsageError(f"tries must be at least 1, got {self.tries}")
        object.__setattr__(self, "lambdas", tuple(sorted({Intensity(value) for value in (*self.lambdas, 0, 1)})))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Hold one prompt and how its reply is judged.

    Attributes:
        step: what is sent.
        right: of a reply.
        group: equal for prompts that hang together: a question in the same words, the steps of one task.
        kind: of question, for counts by kind.
        level: how long its replies are likely to be, so that those of like lengths are decoded together.
        voted: replies are voted on, so what each answers is kept.
    """

    step: Step
    right: Right
    group: str
    kind: str
    level: int
    voted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSet:
    """Say what is asked: questions, and every step of agent tasks after the history of their reference solution."""

    questions: Sequence[tuple[int, AskedQuestion]] = ()
    tasks: TaskSet | None = None

    def __len__(self) -> int:
        return len(self.questions) + sum(task.steps for task in self.drawn)

    @property
    def drawn(self) -> list[AgentTask]:
        """Return the tasks themselves."""
        return self.tasks.all if self.tasks is not None else []

    def digest(self, *how: object) -> str:
        """Identify what is asked, how it is graded, and how it is sampled: the same in every process."""
        said = (
            list(self.questions),
            [(task.prompt, task.rounds, task.answers) for task in self.drawn],
            version("dami-agent"),
        )
        return blake2b(repr((said, how)).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()

    def asks(self, plan: SamplePlan, attempt: int = 0) -> list[Ask]:
        """Return the prompts, questions first.

        A prompt's random stream depends on it, its seed and the attempt alone. The first attempt's is that of probes
        too, which are how that reply at λ=0 begins.

        Args:
            plan: temperature and cap.
            attempt: sets apart the streams of several tries.
        """
        stream = ("samples", attempt)
        found = [_of_question(seed, question, plan, stream) for seed, question in self.questions]
        for place, task in enumerate(self.drawn):
            found += _of_task(f"task {place}", task, plan, stream)
        return found if plan.max_reasoning_tokens is None else [_capped(ask, plan) for ask in found]


def _capped(ask: Ask, plan: SamplePlan) -> Ask:
    limits = dataclasses.replace(ask.step.limits, max_reasoning_tokens=plan.max_reasoning_tokens)
    return _with_logprobs(dataclasses.replace(ask, step=dataclasses.replace(ask.step, limits=limits)))


def _with_logprobs(ask: Ask) -> Ask:
    sampling = dataclasses.replace(ask.step.sampling, logprobs=0)
    return dataclasses.replace(ask, step=dataclasses.replace(ask.step, sampling=sampling))


def _of_question(seed: int, question: AskedQuestion, plan: SamplePlan, stream: tuple[object, ...]) -> Ask:
    sampling = Sampling(temperature=plan.temperature, seed=runner.stream_seed(seed, question.prompt, *stream))
    if isinstance(question, RecordedStep):
        limits = dataclasses.replace(question.step.limits, max_tokens=plan.max_tokens)
        step = dataclasses.replace(question.step, sampling=sampling, limits=limits)
        return Ask(step=step, right=question.right, group=question.run, kind=question.kind, level=0, voted=True)
    step = runner.question_step(question.prompt, sampling=sampling, max_tokens=plan.max_tokens)
    if not isinstance(question, Question):
        step = dataclasses.replace(step, messages=question.messages)
    if isinstance(question, OwnQuestion):
        step = dataclasses.replace(step, tools=question.tools)
    return Ask(
        step=step,
        right=question.right if isinstance(question, OwnQuestion) else lambda reply: question.grade(reply.content),
        group=question.prompt,
        kind=f"{question.family}, level {question.level}" if isinstance(question, Question) else question.kind,
        level=question.level if isinstance(question, Question) else 0,
    )


def _of_task(group: str, task: AgentTask, plan: SamplePlan, stream: tuple[object, ...]) -> list[Ask]:
    sampling = Sampling(temperature=plan.temperature, seed=runner.stream_seed("steps", task.prompt, *stream))
    found = []
    for each in reference_steps(task, sampling):
        limits = dataclasses.replace(each.step.limits, max_tokens=plan.max_tokens)
        step = dataclasses.replace(each.step, limits=limits)
        found.append(Ask(step=step, right=each.right, group=group, kind="agent step", level=each.depth))
    return found


@dataclass(frozen=True, slots=True)
class AnswerFile:
    """Keeps outcomes in a JSONL file, one a line, as they come; several processes may append to it."""

    path: Path

    def add(self, place: int, label: str, found: AnswerOutcome) -> None:
        """Append the outcome of one prompt."""
        line = json.dumps({"prompt": place, "label": label, **dataclasses.asdict(found)})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def mend(self) -> None:
        """End a line that broke off, so that the next answer does not go on in it."""
        if self.path.exists() and self.path.read_bytes()[-1:] not in (b"", b"\n"):
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n")

    def read(self, label: str | None = None) -> dict[tuple[str, int], AnswerOutcome]:
        """Return the outcomes by label and prompt; of one label, if it is given. A line that broke off is left out."""
        found: dict[tuple[str, int], AnswerOutcome] = {}
        if not self.path.exists():
            return found
        for line in self.path.read_text(encoding="utf-8", errors="replace").split("\n"):
            with suppress(ValueError, KeyError, TypeError, AttributeError):
                said = json.loads(line)
                place, of = said.pop("prompt"), said.pop("label")
                if label is None or of == label:
                    found[of, place] = AnswerOutcome(**said)
        return found


@dataclass(frozen=True, kw_only=True)
class AskedBatch:
    """Answers some of the prompts of a set at one λ.

    Attributes:
        asked: the set; drawn anew where it is asked.
        places: which of its prompts; None: all.
        intensity: λ.
        plan: temperature and cap.
        switch: λ up to which Instruct's template is used; ``template`` overrules it.
        attempt: see :meth:`SampleSet.asks`.
        kept: a file for the answers (:class:`AnswerFile`).
        voted: keep what each reply answers, and how probable its tokens are; answers in the file that lack this are
            asked for again.
        told: keep the text of each reply, thought aside, as others are told of it; as with ``voted``.
    """

    name: str
    asked: SampleSet
    intensity: Intensity
    plan: SamplePlan
    places: tuple[int, ...] | None = None
    switch: float = 0.0
    template: Template | None = None
    attempt: int = 0
    kept: Path | None = None
    voted: bool = False
    told: bool = False

    @property
    def size(self) -> int:
        """Return the number of calls."""
        return len(self.asked) if self.places is None else len(self.places)

    @property
    def label(self) -> str:
        """Return what tells the answers from those at other settings, in a file of one plan and one pair."""
        template = self.template or ("instruct" if self.intensity <= self.switch else "thinking")
        cap = self.plan.max_reasoning_tokens
        said = f"{float(self.intensity)!r} {template if self.intensity > 0 else 'instruct'} {self.attempt}"
        return said if cap is None else f"{said} cap {cap}"

    def run(self, session: Session, done: Callable[[int], None]) -> list[AnswerOutcome]:
        """Make the calls that were not made yet, and judge the replies; outcomes are in the order of the prompts."""
        file = AnswerFile(self.kept) if self.kept is not None else None
        if file is not None:
            file.mend()
        known = {place: each for (_, place), each in (file.read(self.label) if file else {}).items()}
        asks = self.asked.asks(self.plan, self.attempt)
        if self.voted:
            known = {place: each for place, each in known.items() if each.logprob is not None}
            asks = [dataclasses.replace(_with_logprobs(ask), voted=True) for ask in asks]
        if self.told:
            known = {place: each for place, each in known.items() if each.content is not None}
        places = range(len(asks)) if self.places is None else self.places
        done(sum(place in known for place in places))
        order = sorted((place for place in places if place not in known), key=lambda place: asks[place].level)
        requests = (Request(step=asks[place].step, intensity=self.intensity, template=self.template) for place in order)
        answers = runner.answers(session, requests, switch_point=self.switch, done=done)
        for place, answer in zip(order, answers, strict=True):
            known[place] = outcome(
                answer,
                right=answer.error is None and asks[place].right(answer.reply),
                answers=answer_of(answer.reply) if asks[place].voted else None,
                content=answer.reply.content if self.told else None,
            )
            if file is not None and not known[place].failed:  # what failed is asked again
                file.add(place, self.label, known[place])
        return [known[place] for place in places]
