"""Teacher forcing: log-probabilities of tokens that are given, not decoded; read in chunks, as prompts are."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field

import torch

from dami_agent.runtime.batch_inputs import BatchInputs, LoadedModel
from dami_agent.runtime.failures import not_finite
from dami_agent.runtime.schedule import Group
from dami_agent.types import Intensity

__all__ = ["ScoreRequest", "Scoring"]

# Logits held at once: 16 Mi float32 values, 64 MiB.
_MAX_LOGITS = 1 << 24


@dataclass(slots=True, kw_only=True, eq=False)
class ScoreRequest:
    """Score ``completion`` (at least one token) after ``context`` (at least one token) at λ."""

    context: tuple[int, ...]
    completion: tuple[int, ...]
    intensity: Intensity
    future: Future[tuple[float, ...]] = field(default_factory=Future)

    def __len__(self) -> int:
        return len(self.context) + len(self.completion)

    @property
    def done(self) -> bool:
        """Return whether it has its result, or nobody waits for it any more."""
        return self.future.done()

    def finish(self, scores: tuple[float, ...]) -> None:
        """End with the scores, unless the caller has gone."""
        with suppress(InvalidStateError):
            self.future.set_result(scores)

    def fail(self, error: Exception) -> None:
        """End with an error, unless the caller has gone or it has ended."""
        with suppress(InvalidStateError):
            self.future.set_exception(error)


class Scoring:
    """Computes the natural-log probability of every completion token of some requests, in one padded batch.

    Args:
        model: what reads.
        group: of all requests.
        requests: of like length, padded on the left to the longest. The last token is not fed: nothing is asked
            after it.
    """

    def __init__(self, model: LoadedModel, group: Group, requests: Sequence[ScoreRequest]) -> None:
        self._model = model
        self.group = group
        self.requests = list(requests)
        self.arrived = time.monotonic()
        self._width = max(map(len, requests)) - 1
        pads = [self._width + 1 - len(r) for r in requests]
        self._ids = [[0] * pad + [*r.context, *r.completion] for pad, r in zip(pads, requests, strict=True)]
        # Columns before this one predict no token of a completion.
        self._first = self._width - max(len(r.completion) for r in requests)
        self._inputs = BatchInputs(model, [r.intensity for r in requests], pads)
        self._scores: list[torch.Tensor] = []
        self._best: list[torch.Tensor] = []

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
        rows, start = len(self.requests), self._inputs.width
        asked = max(start, self._first)
        most = max(1, _MAX_LOGITS // (rows * int(self._model.weights.config.vocab_size)))
        end = min(start + max(1, self._model.chunk_tokens // rows), asked + most, self._width)
        logits = self._inputs.forward([ids[start:end] for ids in self._ids], max(1, end - asked))
        if end > asked:
            targets = torch.tensor([ids[asked + 1 : end + 1] for ids in self._ids], device=logits.device)
            logprobs = torch.log_softmax(logits, dim=-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
            self._scores.append(logprobs)
            self._best.append(logits.amax(dim=-1))
        if end == self._width:
            self._end()

    def _end(self) -> None:
        scores, best = torch.cat(self._scores, dim=1).tolist(), torch.cat(self._best, dim=1).tolist()
        for request, row, maxima in zip(self.requests, scores, best, strict=True):
            length = len(request.completion)
            bad = next((i for i, value in enumerate(maxima[-length:]) if not math.isfinite(value)), None)
            if bad is None:
                request.finish(tuple(row[-length:]))
            else:
                request.fail(not_finite(maxima[bad - length], f"completion token {bad + 1}"))
