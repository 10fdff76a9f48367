"""Show a submitted request to its caller: tokens as they come, the end, and ways to stop.

The first of worker, canceller and deadline to end a job wins; what comes later is ignored. A job that is ended from
outside is noticed by the worker at the next token.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from dami_agent.errors import Cancelled, DeadlineExceeded, RunError
from dami_agent.types import FinishReason, Generation, ThoughtClosedBy, Timing, TokenEvent

__all__ = ["Clock", "LocalJob"]


@dataclass(slots=True)
class Clock:
    """When things happened (``time.monotonic`` seconds) and how long the shared parts took."""

    submitted: float
    admitted: float | None = None
    first_token: float | None = None
    switch: float = 0.0
    prefill: float = 0.0

    def timing(self, end: float) -> Timing:
        """Return how long each part took, in seconds, as seen at ``end``."""
        admitted = end if self.admitted is None else self.admitted
        first = end if self.first_token is None else self.first_token
        return Timing(
            queue=admitted - self.submitted,
            switch=self.switch,
            prefill=self.prefill,
            first_token=first - self.submitted,
            decode=end - first,
            total=end - self.submitted,
        )


class LocalJob:
    """Implements :class:`dami_agent.types.Job`.

    Args:
        blank: the generation without tokens, with all that is known beforehand; its closing words are those that the
            engine would write.
        deadline: seconds from now, or None.
        on_end: called once, from whichever thread ended the job.
    """

    def __init__(self, blank: Generation, deadline: float | None, on_end: Callable[[], None] | None = None) -> None:
        self.clock = Clock(time.monotonic())
        self.expires = None if deadline is None else self.clock.submitted + deadline
        self.weights_version = blank.weights_version
        self.cached_tokens = 0
        self.reread_tokens = 0
        self._blank = blank
        self._events: list[TokenEvent] = []
        self._closed_by: ThoughtClosedBy | None = None
        self._ending: Generation | RunError | Exception | None = None
        self._changed = threading.Condition()
        self._waiting = 0
        self._on_end = on_end

    @property
    def done(self) -> bool:
        """Return whether the job has ended, one way or another."""
        return self._ending is not None

    @property
    def succeeded(self) -> bool:
        """Return whether it has ended with a result, neither failed nor cancelled."""
        return isinstance(self._ending, Generation)

    # --- the worker's side -------------------------------------------------------------------------------------------

    def publish(self, event: TokenEvent, closed_by: ThoughtClosedBy | None = None) -> None:
        """Append a token."""
        with self._changed:
            if self._ending is not None:
                return
            if self.clock.first_token is None:
                self.clock.first_token = time.monotonic()
            self._events.append(event)
            self._closed_by = closed_by
            if self._waiting:
                self._changed.notify_all()

    def finish(self, reason: FinishReason, stop_string: str | None = None) -> None:
        """End with a result."""
        with self._changed:
            self._end(self._generation(reason, stop_string))

    def fail(self, error: Exception) -> None:
        """End with an error; a ``RunError`` is given what had been decoded."""
        with self._changed:
            try:
                if isinstance(error, RunError) and error.generation is None:
                    error.generation = self._generation("length", None)
            finally:  # without it rather than not at all
                self._end(error)

    # --- the caller's side -------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[TokenEvent]:
        seen = 0
        while True:
            with self._changed:
                self._wait(None, beyond=seen)
                fresh = self._events[seen:]
                ending = self._ending
            seen += len(fresh)
            yield from fresh
            if not fresh and ending is not None:
                if isinstance(ending, Exception):
                    raise ending
                return

    def result(self, timeout: float | None = None) -> Generation:
        """Wait for the end, at most ``timeout`` seconds (then ``TimeoutError``; the job goes on)."""
        with self._changed:
            self._wait(timeout)
            ending = self._ending
        if ending is None:
            raise TimeoutError(f"no result within {timeout} s; the request goes on")
        if isinstance(ending, Exception):
            raise ending
        return ending

    def cancel(self) -> None:
        """End with ``Cancelled`` now; the worker drops the row at the next token."""
        if not self.done:
            self.fail(Cancelled("the request was cancelled"))

    def expire(self, now: float) -> None:
        """End with ``DeadlineExceeded`` if the deadline has passed at ``now``."""
        if self.expires is not None and now >= self.expires:
            seconds = self.expires - self.clock.submitted
            state = "queued" if self.clock.admitted is None else "decoding"
            self.fail(
                DeadlineExceeded(
                    f"the timeout of {seconds:g} s passed while the request was {state}",
                    hint="raise the timeout, lower max_tokens, or read `.generation` for what there was",
                )
            )

    # --- inside ------------------------------------------------------------------------------------------------------

    def _wait(self, timeout: float | None, *, beyond: int | None = None) -> None:
        """Wait (lock held) for the end or the timeout, or for more than ``beyond`` tokens."""

        def ready() -> bool:
            return self.done or (beyond is not None and len(self._events) > beyond)

        until = None if timeout is None else time.monotonic() + timeout
        self._waiting += 1
        try:
            while not ready():
                now = time.monotonic()
                self.expire(now)  # the lock is reentrant
                if ready() or (until is not None and now >= until):
                    return
                ends = [t for t in (until, self.expires) if t is not None]
                self._changed.wait(min(min(ends) - now, threading.TIMEOUT_MAX) if ends else None)
        finally:
            self._waiting -= 1

    def _end(self, ending: Generation | Exception) -> None:
        if self._ending is not None:
            return
        self._ending = ending
        self._changed.notify_all()
        if self._on_end is not None:
            self._on_end()
            self._on_end = None

    def _generation(self, reason: FinishReason, stop_string: str | None) -> Generation:
        return replace(
            self._blank,
            events=tuple(self._events),
            finish_reason=reason,
            stop_string=stop_string,
            thought_closed_by=self._closed_by,
            closing_words=self._blank.closing_words if self._closed_by in ("cap", "eos", "repetition") else None,
            weights_version=self.weights_version,
            cached_tokens=min(self.cached_tokens, self._blank.prompt_tokens),
            reread_tokens=self.reread_tokens,
            timing=self.clock.timing(time.monotonic()),
        )
