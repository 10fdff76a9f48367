"""One attempt at a call as it goes: the switch that stops it, the engine as seen through it, what is known so far."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from dami_agent.errors import BudgetExhausted, Cancelled, OutputInvalid, OutputTruncated, RunError
from dami_agent.types import (
    CallRecord,
    Decision,
    Engine,
    EngineInfo,
    Generation,
    Intensity,
    Job,
    Prompt,
    Reply,
    Step,
    Timing,
    TokenEvent,
    Usage,
)

_STOPS_WITHIN = 30.0  # seconds: far longer than one decode step


class Cancellation:
    """A switch that stops a call at its next token; safe to pull from any thread, before or while it runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._job: Job | None = None
        self._cancelled = False

    def cancel(self) -> None:
        """Stop the call; idempotent."""
        with self._lock:
            self._cancelled = True
            job = self._job
        if job is not None:
            job.cancel()

    def watch(self, job: Job) -> Job:
        """Make ``job`` the one to cancel; cancels it at once if the switch was pulled already."""
        with self._lock:
            self._job = job
            cancelled = self._cancelled
        if cancelled:
            job.cancel()
        return job

    def check(self) -> None:
        """Raise ``Cancelled`` if the switch was pulled."""
        if self._cancelled:
            raise Cancelled("the call was cancelled by its caller")


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """An engine whose jobs a cancellation can reach, so that a probe stops as promptly as an answer."""

    engine: Engine
    cancellation: Cancellation
    jobs: list[Job]

    @property
    def info(self) -> EngineInfo:
        """The engine's."""
        return self.engine.info

    def submit(self, prompt: Prompt, decision: Decision) -> Job:
        """Submit and watch."""
        self.cancellation.check()
        job = self.engine.submit(prompt, decision)
        self.jobs.append(job)
        return self.cancellation.watch(job)

    def generate(self, prompt: Prompt, decision: Decision) -> Generation:
        """``submit(...).result()``."""
        return self.submit(prompt, decision).result()

    def score(self, prompt: Prompt, completion: Sequence[int], intensity: Intensity) -> tuple[float, ...]:
        """The engine's, unless the call was cancelled."""
        self.cancellation.check()
        return self.engine.score(prompt, completion, intensity)

    def close(self) -> None:
        """Not ours to close."""


@dataclass(slots=True)
class Attempt:
    """What is known so far of one attempt; becomes a record whatever happens.

    Attributes:
        number: 0 for the first try.
        jobs: everything submitted for it, probes too.
        seen: output tokens that reached the reader.
        thought: where the answer has a λ of its own, what was decoded at the thought's.
        dropped: tokens of the answer in it.
    """

    step: Step
    model: str
    fingerprint: str = ""
    frontier: str = ""
    number: int = 0
    jobs: list[Job] = field(default_factory=list)
    seen: int = 0
    thought: Generation | None = None
    dropped: int = 0
    started_at: float = field(default_factory=time.time)
    clock: float = field(default_factory=time.perf_counter)
    decision: Decision | None = None
    prompt: Prompt | None = None
    generation: Generation | None = None
    reply: Reply | None = None

    def counted(self, events: Iterable[TokenEvent]) -> Iterator[TokenEvent]:
        """The same tokens, counted as they reach the reader."""
        for event in events:
            self.seen += 1
            yield event

    def record(self, error: BaseException | None = None) -> CallRecord:
        """For the ledger; a failed attempt keeps what its error says had been decoded."""
        generation = self._decoded(error)
        dropped = 0 if generation is self.thought else self.dropped
        shown = generation.output_tokens - (self.dropped - dropped) if generation else 0
        unknown = max(0, self.seen - shown)
        return CallRecord(
            step=self.step,
            decision=self.decision,
            prompt=self.prompt,
            generation=generation,
            reply=self.reply,
            model=self.model,
            fingerprint=self.fingerprint,
            frontier=self.frontier,
            dropped_tokens=dropped + unknown,
            started_at=self.started_at,
            seconds=time.perf_counter() - self.clock,
            error=None if error is None else _said(error),
        )

    def usage(self, record: CallRecord) -> Usage | None:
        """What the attempt used; None if a job was begun and nobody can tell what it decoded."""
        unknown = record.generation is None or record.generation is self.thought
        return None if self.jobs and unknown and not self._only_probed() else record.usage

    def _decoded(self, error: BaseException | None) -> Generation | None:
        """All that is known of the reply, also of one that broke off."""
        if self.generation is not None:
            return self.generation
        found: Generation | None = getattr(error, "generation", None) or self._left_behind(error)
        if self.thought is None or found is None or found is self.thought:
            return found or self.thought
        return _joined(self.thought, found)

    def _left_behind(self, error: BaseException | None) -> Generation | None:
        """What the last job had decoded when its reader went away; a probe that ended before is known without it."""
        if error is None or not self.jobs or isinstance(error, RunError) or self._only_probed():
            return None
        return _abandoned(self.jobs[-1])

    def _only_probed(self) -> bool:
        """Whether nothing was begun after the estimator had its probe."""
        estimate = self.decision.estimate if self.decision else None
        return estimate is not None and estimate.probe is not None and _abandoned(self.jobs[-1]) is estimate.probe


def decode(engine: Engine, prompt: Prompt, decision: Decision, attempt: Attempt) -> Generator[TokenEvent, None, None]:
    """Every output token as it comes; the whole is left in ``attempt.generation``.

    Where the answer has a λ of its own, the thought is decoded at ``decision.intensity``; at its end the job is
    stopped, and its tokens are carried over (the KV is not) to a second job that decodes the answer.
    """
    job = engine.submit(prompt, decision)
    if decision.answer_intensity is None or not prompt.in_thought:
        yield from job
        attempt.generation = job.result()
        return
    thought: list[TokenEvent] = []
    for event in job:
        if event.part == "answer":
            break
        thought.append(event)
        yield event
    else:  # it never came to an answer
        attempt.generation = job.result()
        return
    first = _abandoned(job)
    if first is None:
        raise RunError("the thought's end is not known", hint="the engine did not stop within seconds; try again")
    if thought and thought[-1].part != "control":  # a tool call closed it, and is the answer's first token
        thought.append(event)
        yield event
    dropped, limits = max(0, first.output_tokens - len(thought)), decision.limits
    if limits.max_tokens is not None and limits.max_tokens - dropped <= len(thought):  # no room to say it again
        yield from first.events[len(thought) :]
        attempt.generation = first
        return
    attempt.thought, attempt.dropped = first, dropped
    if limits.max_tokens is not None:
        limits = dataclasses.replace(limits, max_tokens=limits.max_tokens - dropped)
    answer = dataclasses.replace(
        decision,
        intensity=decision.answer_intensity,
        sampling=first.sampling,  # the same random stream, from where it was
        limits=limits,
    )
    ids = tuple(event.token_id for event in thought)
    second = engine.submit(dataclasses.replace(prompt, reply_ids=ids), answer)
    for place, event in enumerate(second):
        if place >= len(thought):
            yield event
    attempt.generation = _joined(first, second.result())


def _joined(first: Generation, second: Generation) -> Generation:
    """One generation of two: λ, first token and the thought's end are the first's, times add up."""
    one, other = first.timing, second.timing
    ends = (place for place, event in enumerate(first.events) if event.part == "answer")
    carried = next(ends, len(first.events))
    return dataclasses.replace(
        second,
        events=first.events[:carried] + second.events[carried:],  # the first's have their log-probabilities
        intensity=first.intensity,
        answer_intensity=second.intensity,
        thought_closed_by=first.thought_closed_by,
        timing=Timing(
            queue=one.queue + other.queue,
            switch=one.switch + other.switch,
            prefill=one.prefill + other.prefill,
            first_token=one.first_token,
            decode=one.decode + other.decode,
            total=one.total + other.total,
        ),
    )


def ends_in_silence(attempt: Attempt, cut_by_budget: bool) -> None:
    """Refuse a reply that would end an agent without an answer, a call or a word about it.

    A reply cut off before its answer, or inside a tool call, ends an agent like a finished one; so does a call that
    nobody can read, inside a graph. A bare call without tools gets such a reply as other models give it: empty, with
    ``finish_reason="length"``. A structured output has its own error.

    Raises:
        BudgetExhausted: a budget's end cut the reply off.
        OutputTruncated: something else did.
        OutputInvalid: the model's call cannot be read.
    """
    step, generation, reply = attempt.step, attempt.generation, attempt.reply
    assert generation is not None
    assert reply is not None
    node = step.trace.node is not None
    blank, unread = not reply.content.strip(), reply.invalid_tool_calls
    if reply.tool_calls or step.structured or not (node or step.tools):
        return
    error: RunError
    if reply.finish_reason == "length" and (blank or unread):
        said = f"the reply was cut off {'inside a tool call' if unread else 'before its answer'}"
        said += f", after {generation.output_tokens} tokens"
        if cut_by_budget:
            error = BudgetExhausted(f"{said}: the budget has no more", hint="raise the run's or thread's budget")
        else:
            hint = "raise max_tokens or context_length, lower reasoning_intensity, or set max_reasoning_tokens"
            error = OutputTruncated(said, text=reply.content or reply.reasoning, hint=hint)
    elif node and blank and unread:
        error = OutputInvalid(
            f"the model's tool call cannot be read: {unread[0].error}",
            text=unread[0].text,
            hint="raise reasoning_intensity, or let the policy try more often (escalation.max_attempts)",
        )
    else:
        return
    error.generation = generation
    raise error


def _said(error: BaseException) -> str:
    """Class and message; who stops reading, or presses Ctrl-C, has cancelled."""
    if not isinstance(error, Exception):
        return f"{Cancelled.__name__}: its reader went away ({type(error).__name__})"
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # a foreign exception whose own text cannot be had must not take the call's place
        return type(error).__name__


def _abandoned(job: Job) -> Generation | None:
    """What a job had decoded when its reader went away; it stops at its next token."""
    job.cancel()
    try:
        return job.result(timeout=_STOPS_WITHIN)
    except RunError as error:
        return error.generation
    except Exception:  # the engine broke, or does not answer: the call's own error is what matters, and is on record
        return None
