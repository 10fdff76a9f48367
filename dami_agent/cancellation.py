"""Cancel a call from any thread, whichever of its requests is running."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from dami_agent.errors import Cancelled, RunError
from dami_agent.types import Decision, Engine, EngineInfo, Generation, Intensity, Job, Prompt, StateReader

__all__ = ["CancellableEngine", "CancellableReader", "Cancellation", "cancellable", "stop_and_collect"]

_STOP_TIMEOUT = 30.0  # seconds: far longer than one decode step


class Cancellation:
    """A switch that stops a call at its next token; may be used from any thread, before or while the call runs."""

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
        """Make ``job`` the one to cancel, and cancel it immediately if the switch is set already."""
        with self._lock:
            self._job = job
            cancelled = self._cancelled
        if cancelled:
            job.cancel()
        return job

    def check(self) -> None:
        """Raise ``Cancelled`` if the switch is set."""
        if self._cancelled:
            raise Cancelled("the call was cancelled by its caller")


@dataclass(frozen=True, slots=True, kw_only=True)
class CancellableEngine:
    """An engine whose jobs a cancellation reaches, so that an estimator's probe stops as promptly as an answer.

    Attributes:
        jobs: everything that was submitted through it, in order.
    """

    engine: Engine
    cancellation: Cancellation
    jobs: list[Job] = field(default_factory=list)

    @property
    def info(self) -> EngineInfo:
        """Return the wrapped engine's info."""
        return self.engine.info

    def submit(self, prompt: Prompt, decision: Decision) -> Job:
        """Submit a request to the wrapped engine and make it the one that the cancellation stops.

        Raises:
            Cancelled: the call was cancelled before.
            DamiError: as the wrapped engine raises.
        """
        self.cancellation.check()
        job = self.engine.submit(prompt, decision)
        self.jobs.append(job)
        return self.cancellation.watch(job)

    def generate(self, prompt: Prompt, decision: Decision) -> Generation:
        """Submit a request and wait for its end; raises as ``submit`` and ``Job.result`` do."""
        return self.submit(prompt, decision).result()

    def score(self, prompt: Prompt, completion: Sequence[int], intensity: Intensity) -> tuple[float, ...]:
        """Score with the wrapped engine; raises ``Cancelled`` if the call was cancelled before."""
        self.cancellation.check()
        return self.engine.score(prompt, completion, intensity)

    def close(self) -> None:
        """Do nothing: the wrapped engine is owned by the caller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancellableReader(CancellableEngine):
    """Wraps an engine that also gives hidden states."""

    reader: StateReader

    def hidden_states(
        self, prompt: Prompt, intensity: Intensity, layers: Sequence[int]
    ) -> tuple[tuple[float, ...], ...]:
        """Read with the wrapped engine; raises ``Cancelled`` if the call was cancelled before."""
        self.cancellation.check()
        return self.reader.hidden_states(prompt, intensity, layers)


def cancellable(engine: Engine, cancellation: Cancellation) -> CancellableEngine:
    """Wrap an engine so that the cancellation reaches its jobs; what the engine can, the wrapper can."""
    if isinstance(engine, StateReader):
        return CancellableReader(engine=engine, cancellation=cancellation, reader=engine)
    return CancellableEngine(engine=engine, cancellation=cancellation)


def stop_and_collect(job: Job) -> Generation | None:
    """Cancel a job and return what it had decoded; None if the engine cannot tell within half a minute."""
    job.cancel()
    try:
        return job.result(timeout=_STOP_TIMEOUT)
    except RunError as error:
        return error.generation
    except Exception:  # the engine broke, or does not answer: the call's own error is what matters, and is on record
        return None
