"""Take requests from any thread and hand them to the one thread that owns a model: what every engine of ours does.

Requests are checked, and their grammars compiled, in the caller's thread.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from typing_extensions import Self

from dami_agent.errors import EngineClosed, InvalidRequest
from dami_agent.request_checks import check_fits, check_intensity, check_tokens
from dami_agent.runtime.failures import panics_to_dami_error
from dami_agent.runtime.job import LocalJob
from dami_agent.runtime.reading import ReadRequest
from dami_agent.runtime.request_queue import RequestQueue
from dami_agent.runtime.scoring import ScoreRequest
from dami_agent.runtime.sequence import SequenceState
from dami_agent.runtime.sequence_builder import SequenceBuilder
from dami_agent.runtime.thought import ThoughtMarkers
from dami_agent.types import Decision, EngineInfo, Generation, Intensity, Prompt

__all__ = ["ModelThread", "QueuedEngine"]


class ModelThread(Protocol):
    """Owns a model in a thread of its own, which takes what is queued."""

    @property
    def queue(self) -> RequestQueue:
        """Return the queue between callers and the thread."""
        ...

    def close(self, timeout: float) -> None:
        """Have the thread fail what it holds, drop the model and end; wait so many seconds for that."""
        ...


class QueuedEngine:
    """Implements :class:`dami_agent.types.Engine` but for the model; a subclass opens it.

    The thread is a daemon; it ends at :meth:`close`, when the engine is garbage-collected, and at exit. An engine is of
    no use in a forked child (its thread stays behind); make one there.

    Args:
        info: what this engine runs on.
        builder: makes of each request the state that its decoding goes through.
        worker: owns the model.
    """

    def __init__(self, info: EngineInfo, builder: SequenceBuilder, worker: ModelThread) -> None:
        self._info = info
        self._builder = builder
        self._queue = worker.queue
        self._pid = os.getpid()
        self._finalizer = weakref.finalize(self, _shut_down, worker, self._pid)

    @property
    def info(self) -> EngineInfo:
        """Return what this engine runs on."""
        return self._info

    @property
    def markers(self) -> ThoughtMarkers:
        """Return the control tokens around a thought."""
        return self._builder.markers

    @property
    def closed(self) -> bool:
        """Return whether it takes no requests any more: closed, or broken by what ended its thread."""
        return self._queue.closed

    def load(self) -> None:
        """Load the weights now, if they are not, and wait for it. Raises what loading raises."""
        self._check_process()
        self._queue.add_load().result()

    def submit(self, prompt: Prompt, decision: Decision) -> LocalJob:
        """Check a request, compile its grammar and queue it.

        Raises:
            InvalidRequest: sampling, limits or prompt that make no sense.
            ContextOverflow: it does not fit the context window.
            InvalidSchema: its constraint is malformed.
            EngineBusy, EngineClosed: the queue is full; the engine is closed.
        """
        self._check_process()
        with self._arriving(), panics_to_dami_error():
            row = self.sequence_of(prompt, decision)
            row.replay()
            if not row.done:
                self._queue.add_row(row)
            return row.job

    def generate(self, prompt: Prompt, decision: Decision) -> Generation:
        """Run a request to its end; an interrupt (Ctrl-C) while waiting cancels it."""
        job = self.submit(prompt, decision)
        try:
            return job.result()
        finally:
            job.cancel()  # of no effect on a job that has ended

    def score(self, prompt: Prompt, completion: Sequence[int], intensity: Intensity) -> tuple[float, ...]:
        """Return each completion token's natural-log probability after ``prompt`` (and its ``reply_ids``) at λ.

        Raises:
            InvalidRequest, ContextOverflow, EngineBusy, EngineClosed: as :meth:`submit`.
        """
        self._check_process()
        check_intensity(intensity, self._info)
        context = (*prompt.token_ids, *prompt.reply_ids)
        check_tokens("prompt", context, self._info)
        if not completion:
            return ()
        check_tokens("completion", completion, self._info)
        check_fits(len(context), len(completion), self._info)
        scores: tuple[float, ...] = self._read(
            ScoreRequest(context=context, completion=tuple(completion), intensity=Intensity(intensity))
        )
        return scores

    def _read(self, request: ReadRequest) -> Any:
        with self._arriving():
            self._queue.add_read(request)
        try:
            return request.future.result()
        finally:
            request.future.cancel()  # of no effect on one that has ended

    def close(self) -> None:
        """Fail what is queued or running with ``EngineClosed`` and free the memory; idempotent."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __deepcopy__(self, memo: object) -> Self:
        """Share the engine: its weights and its thread are not to be had twice."""
        return self

    def __reduce__(self) -> str:
        raise InvalidRequest(
            "an engine cannot be sent to another process",
            hint="name it there: ChatDAMI(engine=..., instruct=..., thinking=...) opens the pair where it is used",
        )

    def __repr__(self) -> str:
        i = self._info
        settings = f"{i.weights_mode}, {i.device}, {i.dtype}, context_length={i.context_length}"
        return f"{type(self).__name__}({i.model!r}, {settings})"

    # --- checks, in the caller's thread ------------------------------------------------------------------------------

    def sequence_of(self, prompt: Prompt, decision: Decision) -> SequenceState:
        """Check a request, and build the state that its decoding goes through."""
        return self._builder.build(prompt, decision, on_end=self._job_ended)

    def _job_ended(self) -> None:
        """Do nothing: a job's reference to this method keeps the engine alive while the job runs."""

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise EngineClosed("this engine belongs to the parent process", hint="make an engine after the fork")

    @contextmanager
    def _arriving(self) -> Iterator[None]:
        self._queue.announce(1)
        try:
            yield
        finally:
            self._queue.announce(-1)


def _shut_down(worker: ModelThread, pid: int) -> None:
    if os.getpid() == pid:  # a forked child must not touch locks that its parent may hold
        worker.close(timeout=10.0)
