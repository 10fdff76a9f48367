"""One attempt at a call as it goes: the switch that stops it, the engine as seen through it, what is known so far."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from dami_agent.errors import Cancelled, RunError
from dami_agent.policy import Usage
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
)

_STOPS_WITHIN = 5.0  # seconds: far longer than one decode step


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
    """What is known so far of one attempt; becomes a record whatever happens."""

    step: Step
    model: str
    fingerprint: str = ""
    frontier: str = ""
    number: int = 0
    jobs: list[Job] = field(default_factory=list)
    seen: int = 0
    started_at: float = field(default_factory=time.time)
    clock: float = field(default_factory=time.perf_counter)
    decision: Decision | None = None
    prompt: Prompt | None = None
    generation: Generation | None = None
    reply: Reply | None = None

    def record(self, error: BaseException | None = None) -> CallRecord:
        """For the ledger; a failed attempt keeps what its error says had been decoded."""
        partial = getattr(error, "generation", None)
        return CallRecord(
            step=self.step,
            decision=self.decision,
            prompt=self.prompt,
            generation=self.generation or partial,
            reply=self.reply,
            model=self.model,
            fingerprint=self.fingerprint,
            frontier=self.frontier,
            started_at=self.started_at,
            seconds=time.perf_counter() - self.clock,
            error=None if error is None else f"{type(error).__name__}: {error}",
        )

    def usage(self, record: CallRecord, error: BaseException | None) -> Usage | None:
        """What the attempt used; None if a job was begun and nobody can tell what it decoded."""
        generation = record.generation
        if generation is None and self.jobs:
            generation = _abandoned(self.jobs[-1]) if not isinstance(error, RunError) else None
            if generation is None:
                return None
        estimate = self.decision.estimate if self.decision else None
        thrown = estimate.probe if estimate is not None and record.probe_tokens else None
        decoded = [g for g in (generation, thrown) if g is not None]
        return Usage(
            tokens=record.probe_tokens + max(self.seen, generation.output_tokens if generation else 0),
            reasoning_tokens=sum(event.part == "reasoning" for g in decoded for event in g.events),
            prompt_tokens=sum(g.prompt_tokens for g in decoded),
        )


def _abandoned(job: Job) -> Generation | None:
    """What a job had decoded when its reader went away; it stops at its next token."""
    job.cancel()
    try:
        return job.result(timeout=_STOPS_WITHIN)
    except RunError as error:
        return error.generation
