"""Read tokens that are given, and decode none: what scoring and reading hidden states have in common."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from dami_agent.runtime.batch_inputs import BatchInputs, LoadedModel
from dami_agent.runtime.schedule import Group
from dami_agent.types import Intensity

__all__ = ["ReadRequest", "Reading"]


@dataclass(slots=True, kw_only=True, eq=False)
class ReadRequest(ABC):
    """Asks for something about tokens that are read at λ; ``future`` holds it in the end."""

    intensity: Intensity
    future: Future[Any] = field(default_factory=Future)

    @property
    @abstractmethod
    def tokens(self) -> tuple[int, ...]:
        """Return all tokens that are fed to the model, at least one."""

    @property
    def done(self) -> bool:
        """Return whether it has its result, or nobody waits for it any more."""
        return self.future.done()

    @property
    def failed(self) -> bool:
        """Return whether it ended with an error; one that was given up by its caller did not."""
        return self.future.done() and not self.future.cancelled() and self.future.exception() is not None

    def finish(self, result: Any) -> None:
        """End with the result, unless the caller has gone."""
        with suppress(InvalidStateError):
            self.future.set_result(result)

    def fail(self, error: Exception) -> None:
        """End with an error, unless the caller has gone or it has ended."""
        with suppress(InvalidStateError):
            self.future.set_exception(error)


R = TypeVar("R", bound=ReadRequest)


class Reading(ABC, Generic[R]):
    """Reads the tokens of some requests in one padded batch, chunk by chunk; the last chunk ends them.

    Args:
        model: what reads.
        group: of all requests.
        requests: of like length, padded on the left to the longest.
    """

    def __init__(self, model: LoadedModel, group: Group, requests: Sequence[R]) -> None:
        self.group = group
        self.requests = list(requests)
        self.arrived = time.monotonic()
        self._model = model
        tokens = [request.tokens for request in requests]
        self._width = max(map(len, tokens))
        self._pads = [self._width - len(each) for each in tokens]
        self._ids = [[0] * pad + list(each) for pad, each in zip(self._pads, tokens, strict=True)]
        self._inputs = BatchInputs(model, [request.intensity for request in requests], self._pads)

    @property
    def finished(self) -> bool:
        """Return whether all requests have ended."""
        return all(request.done for request in self.requests)

    @property
    def remaining(self) -> int:
        """Return the tokens still to be read, padding included."""
        return len(self.requests) * (self._width - self._inputs.width)

    @property
    def cache_tokens(self) -> int:
        """Cache positions that it will have taken in the end, padding included."""
        return len(self.requests) * self._width

    def advance(self) -> None:
        """Read one chunk; the last one ends the requests."""
        if self.finished:
            return
        start = self._inputs.width
        end = self._end_of_chunk(start, max(1, self._model.chunk_tokens // len(self.requests)))
        self._read([ids[start:end] for ids in self._ids], start, end)
        if end == self._width:
            self._finish()

    def _end_of_chunk(self, start: int, columns: int) -> int:
        """Return the column at which a chunk of at most so many columns ends."""
        return min(start + columns, self._width)

    @abstractmethod
    def _read(self, ids: Sequence[Sequence[int]], start: int, end: int) -> None:
        """Feed the columns from ``start`` to ``end``, and keep what is asked for of them."""

    @abstractmethod
    def _finish(self) -> None:
        """Give every request its result."""
