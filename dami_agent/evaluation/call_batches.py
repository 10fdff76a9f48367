"""Batches: many calls at one λ, judged where they are made, so that they can run in other processes too.

A batch is pure data until it runs; each call gives one small :class:`AnswerOutcome`. With several workers,
each process opens the pair for itself and takes whole batches, so every call meets the neighbours it would meet in
one process, and the outcomes are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol

from dami_agent.evaluation import runner
from dami_agent.evaluation.runner import Answer, Request
from dami_agent.evaluation.stats import mean
from dami_agent.evaluation.worker_pool import WorkerPool
from dami_agent.processes import end_with_parent
from dami_agent.session import Session
from dami_agent.tasks import Question
from dami_agent.types import Intensity, PrefixMode, Sampling, Template

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""

SeededQuestions = Sequence[tuple[int, Question]]
"""(seed, question) pairs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerOutcome:
    """Hold what became of one call.

    Attributes:
        right: the answer, or the whole tool call.
        named: the right tool was called, whatever its arguments.
        tokens, reasoning_tokens: output tokens, and those of them in the thought.
        thought: there was one, and it was not blank.
        finished: the model ended thought and reply itself, before any cap.
        failed: the call raised an error; it counts as wrong.
        template: whose chat template was used.
        logprob: mean log-probability of the output tokens, where it was asked for.
        answer: what it answers, where replies are voted on (``dami_agent.answers.answer_of``).
        content: its text without the thought, where others are told of it.
        capped: its thought was closed at a cap.
        answer_tokens, answer_logprob: output tokens after the thought, and the mean log-probability of those, where it
            was asked for.
    """

    right: bool
    tokens: int
    template: Template
    reasoning_tokens: int = 0
    thought: bool = False
    finished: bool = True
    failed: bool = False
    named: bool = False
    logprob: float | None = None
    answer: str | None = None
    content: str | None = None
    capped: bool = False
    answer_tokens: int = 0
    answer_logprob: float | None = None


class Batch(Protocol):
    """A number of calls to make at one λ."""

    @property
    def name(self) -> str:
        """Return the label of the progress bar; batches of one name share a bar."""

    @property
    def size(self) -> int:
        """Return the number of calls."""

    def run(self, session: Session, done: Callable[[int], None]) -> list[AnswerOutcome]:
        """Make the calls; ``done`` is called with 1 after each."""


@dataclass(frozen=True, kw_only=True)
class QuestionBatch:
    """Ask all of ``asked`` at one λ. A question's random stream depends on it, its seed and ``stream`` alone.

    Attributes:
        switch: λ up to which Instruct's template is used; ``template`` overrules it.
        stream: sets apart the streams of several tries at the same questions.
        logprobs: keep the mean log-probability of each output.
        prefix: how the prompts are read.
    """

    name: str
    asked: SeededQuestions
    intensity: Intensity
    temperature: float
    max_tokens: int
    switch: float = 0.0
    template: Template | None = None
    stream: tuple[object, ...] = ()
    logprobs: bool = False
    prefix: PrefixMode = "exact"

    @property
    def size(self) -> int:
        """Return the number of calls."""
        return len(self.asked)

    def run(self, session: Session, done: Callable[[int], None]) -> list[AnswerOutcome]:
        """Ask every question and grade its answer.

        Easy questions are asked first: their replies are short, and rows of like lengths decoded together waste little
        on padding.
        """
        levels = [question.level for _, question in self.asked]
        order = sorted(range(len(self.asked)), key=levels.__getitem__)
        requests = (self._request(self.asked[place]) for place in order)
        answers = runner.answers(session, requests, switch_point=self.switch, done=done)
        found = dict(zip(order, answers, strict=True))
        return [
            outcome(found[place], right=question.grade(found[place].reply.content))
            for place, (_, question) in enumerate(self.asked)
        ]

    def _request(self, item: tuple[int, Question]) -> Request:
        seed, question = item
        sampling = Sampling(
            temperature=self.temperature,
            seed=runner.stream_seed(seed, question.prompt, *self.stream),
            logprobs=0 if self.logprobs else None,
        )
        step = runner.question_step(question.prompt, sampling=sampling, max_tokens=self.max_tokens)
        return Request(step=replace(step, prefix=self.prefix), intensity=self.intensity, template=self.template)


def outcome(
    answer: Answer, *, right: bool, named: bool = False, answers: str | None = None, content: str | None = None
) -> AnswerOutcome:
    """Reduce an answer to what is counted of it.

    Args:
        answer: what came back.
        right, named: how it was judged.
        answers: what it says, where replies are voted on.
        content: its text, where others are told of it.
    """
    events = answer.generation.events if answer.generation else ()
    logprobs = [event.logprob.logprob for event in events if event.logprob is not None]
    answered = [event for event in events if event.part == "answer"]
    of_answer = [event.logprob.logprob for event in answered if event.logprob is not None]
    return AnswerOutcome(
        right=right and answer.error is None,
        named=named,
        tokens=answer.tokens,
        reasoning_tokens=answer.generation.reasoning_tokens if answer.generation else 0,
        thought=answer.thought,
        finished=answer.finished,
        failed=answer.error is not None,
        template=answer.decision.template,
        logprob=mean(logprobs) if logprobs else None,
        answer=answers,
        content=content,
        capped=answer.generation is not None and answer.generation.thought_closed_by == "cap",
        answer_tokens=len(answered),
        answer_logprob=mean(of_answer) if of_answer else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSource:
    """Say which pair to open, in this process or another; None is the built-in one.

    Attributes:
        instruct, thinking: folders or hub ids.
        batch: sequences decoded together at most.
        revision: of both hub ids.
    """

    instruct: str | None = None
    thinking: str | None = None
    batch: int = runner.BATCH
    revision: str | None = None

    def open(self) -> Session:
        """Return the pair's session, opened once per process."""
        return runner.open_batch_session(self.instruct, self.thinking, batch=self.batch, revision=self.revision)


class BatchRunner:
    """Run batches in this process (``workers=1``) or in several; a context manager.

    Args:
        source: the pair.
        workers: processes; each has the pair's weights in memory.
        tell: of progress: call by call in this process, batch by batch from others.
    """

    def __init__(self, source: PairSource, workers: int = 1, tell: Progress | None = None) -> None:
        self.session = source.open()
        self.tell = tell or _silent
        self._pool = WorkerPool[Batch, list[AnswerOutcome]](workers, _run, _prepare, source) if workers > 1 else None

    def __enter__(self) -> BatchRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.__exit__(kind, error, trace)

    def run(self, batches: Sequence[Batch]) -> list[list[AnswerOutcome]]:
        """Return the outcomes of each batch, in the order given; the last are begun first, so put the longest there."""
        totals: dict[str, int] = {}
        for batch in batches:
            totals[batch.name] = totals.get(batch.name, 0) + batch.size
        finished = dict.fromkeys(totals, 0)

        def count(name: str, more: int) -> None:
            finished[name] += more
            self.tell(name, finished[name], totals[name])

        if self._pool is None:
            return [batch.run(self.session, lambda more, name=batch.name: count(name, more)) for batch in batches]  # type: ignore[misc]
        return self._pool.map(batches, lambda batch, _: count(batch.name, batch.size))


_session: Session | None = None
"""Of a worker process."""


def _prepare(source: PairSource) -> None:
    global _session
    end_with_parent()
    _session = source.open()


def _run(batch: Batch) -> list[AnswerOutcome]:
    assert _session is not None  # the initializer has run
    return batch.run(_session, lambda _: None)


def _silent(what: str, done: int, total: int) -> None:
    """Show no progress."""
