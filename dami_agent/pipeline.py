"""One call from message to ledger: decide, render, generate, parse, record.

This module knows the order of things and nothing else: λ is the policy's, text is the dialogue's, tokens are the
engine's, rows are the ledger's.
"""

from __future__ import annotations

import dataclasses
import threading
import time
import uuid
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from dami_agent.errors import Cancelled
from dami_agent.types import (
    CallRecord,
    Decision,
    Engine,
    EngineInfo,
    Estimate,
    Estimator,
    Generation,
    Intensity,
    Job,
    Prompt,
    Reply,
    Step,
)

if TYPE_CHECKING:
    from dami_agent.dialogue import Delta, Dialogue
    from dami_agent.policy import ReasoningPolicy


class Recorder(Protocol):
    """What the pipeline needs of a ledger."""

    def record(self, record: CallRecord) -> None:
        """Keep one attempt; never raises because it cannot be written."""
        ...


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
class Outcome:
    """The end of a call: the accepted reply and the record of the attempt that gave it."""

    reply: Reply
    record: CallRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watched:
    """An engine whose jobs a cancellation can reach, so that a probe stops as promptly as an answer."""

    engine: Engine
    cancellation: Cancellation

    @property
    def info(self) -> EngineInfo:
        """The engine's."""
        return self.engine.info

    def submit(self, prompt: Prompt, decision: Decision) -> Job:
        """Submit and watch."""
        self.cancellation.check()
        return self.cancellation.watch(self.engine.submit(prompt, decision))

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
class _Attempt:
    """What is known so far of one attempt; becomes a record whatever happens."""

    step: Step
    model: str
    started_at: float = field(default_factory=time.time)
    clock: float = field(default_factory=time.perf_counter)
    decision: Decision | None = None
    prompt: Prompt | None = None
    generation: Generation | None = None
    reply: Reply | None = None

    def record(self, error: BaseException | None = None) -> CallRecord:
        partial = getattr(error, "generation", None)
        return CallRecord(
            step=self.step,
            decision=self.decision,
            prompt=self.prompt,
            generation=self.generation or partial,
            reply=self.reply,
            model=self.model,
            started_at=self.started_at,
            seconds=time.perf_counter() - self.clock,
            error=None if error is None else f"{type(error).__name__}: {error}",
        )


class Pipeline:
    """Runs steps through policy, dialogue, engine and ledger. Safe to use from many threads.

    Args:
        engine: where tokens come from.
        dialogue: messages <-> tokens.
        policy: the one authority over λ.
        estimator: asked by the policy when λ is to be estimated.
        ledger: every attempt is recorded there before its answer is returned; None keeps nothing.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        dialogue: Dialogue,
        policy: ReasoningPolicy,
        estimator: Estimator,
        ledger: Recorder | None = None,
    ) -> None:
        self.engine = engine
        self.dialogue = dialogue
        self.policy = policy
        self.estimator = estimator
        self.ledger = ledger

    def run(self, step: Step, cancellation: Cancellation | None = None) -> Outcome:
        """The whole call at once; see :meth:`stream`."""
        for item in self.stream(step, cancellation):
            if isinstance(item, Outcome):
                return item
        raise AssertionError("a stream ends with its outcome or an error")

    def stream(self, step: Step, cancellation: Cancellation | None = None) -> Iterator[Delta | Outcome]:
        """Yield pieces of the reply as they are decoded, then the outcome, recorded.

        Closing the iterator early cancels the call; that is recorded too.

        Raises:
            UsageError: bad input, before anything runs.
            RunError: the call was started and failed; recorded with what it had cost.
        """
        if not step.trace.call_id:
            trace = dataclasses.replace(step.trace, call_id=uuid.uuid4().hex)
            step = dataclasses.replace(step, trace=trace)
        cancellation = cancellation or Cancellation()
        attempt = _Attempt(step=step, model=self.engine.info.model)
        try:
            with closing(self._attempt(attempt, cancellation)) as deltas:
                yield from deltas
        except BaseException as error:  # GeneratorExit and KeyboardInterrupt too: what it cost must be on record
            cancellation.cancel()
            self._record(attempt.record(error))
            raise
        assert attempt.reply is not None
        record = attempt.record()
        self._record(record)
        yield Outcome(reply=attempt.reply, record=record)

    def _attempt(self, attempt: _Attempt, cancellation: Cancellation) -> Generator[Delta, None, None]:
        step, engine = attempt.step, _Watched(engine=self.engine, cancellation=cancellation)

        def ask(base: Decision) -> Estimate:
            return self.estimator.estimate(self.dialogue.render(step, base.template), base, engine)

        decision = attempt.decision = self.policy.decide(step, 0, ask)
        whole = _whole_probe(decision)
        if whole is not None:
            assert decision.estimate is not None
            prompt = attempt.prompt = decision.estimate.probe_prompt
            assert prompt is not None
            events, job = iter(whole.events), None
        else:
            prompt = attempt.prompt = self._prompt(step, decision)
            job = engine.submit(prompt, decision)
            events = iter(job)
        parser = self.dialogue.parser(prompt, step)
        for event in events:
            yield from parser.feed(event)
        generation = attempt.generation = job.result() if job is not None else whole
        assert generation is not None
        deltas, attempt.reply = parser.finish(generation)
        yield from deltas

    def _prompt(self, step: Step, decision: Decision) -> Prompt:
        """Rendered for the decision; a probe begun at the same λ and template is carried on, not thrown away."""
        estimate = decision.estimate
        if estimate is not None and estimate.probe is not None and estimate.probe_prompt is not None:
            prompt = estimate.probe_prompt
            if decision.intensity == estimate.probe.intensity and decision.template == prompt.template:
                return dataclasses.replace(prompt, reply_ids=estimate.probe.token_ids)
        return self.dialogue.render(step, decision.template)

    def _record(self, record: CallRecord) -> None:
        if self.ledger is not None:
            self.ledger.record(record)


def _whole_probe(decision: Decision) -> Generation | None:
    """The estimator's probe, if it is a complete answer at the λ and template that were decided."""
    estimate = decision.estimate
    if estimate is None or estimate.probe is None or estimate.probe_prompt is None:
        return None
    probe, limit = estimate.probe, decision.limits.max_tokens
    same = decision.intensity == probe.intensity and decision.template == estimate.probe_prompt.template
    complete = probe.finish_reason == "stop" or (limit is not None and probe.output_tokens >= limit)
    return probe if same and complete else None
