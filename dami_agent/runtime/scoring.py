"""Teacher forcing: log-probabilities of tokens that are given, not decoded; read in chunks, as prompts are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dami_agent.runtime.batch_inputs import LoadedModel
from dami_agent.runtime.failures import not_finite
from dami_agent.runtime.reading import Reading, ReadRequest
from dami_agent.runtime.schedule import Group

__all__ = ["ScoreRequest", "Scoring"]

# Logits held at once: 16 Mi float32 values, 64 MiB.
_MAX_LOGITS = 1 << 24


@dataclass(slots=True, kw_only=True, eq=False)
class ScoreRequest(ReadRequest):
    """Score ``completion`` (at least one token) after ``context`` (at least one token) at λ."""

    context: tuple[int, ...]
    completion: tuple[int, ...]

    @property
    def tokens(self) -> tuple[int, ...]:
        """Return context and completion without its last token: nothing is asked after that."""
        return (*self.context, *self.completion[:-1])


class Scoring(Reading[ScoreRequest]):
    """Computes the natural-log probability of every completion token of some requests.

    Args:
        model: what reads.
        group: of all requests.
        requests: of like length.
    """

    def __init__(self, model: LoadedModel, group: Group, requests: Sequence[ScoreRequest]) -> None:
        super().__init__(model, group, requests)
        # Columns before this one predict no token of a completion.
        self._first = self._width - max(len(r.completion) for r in requests)
        self._targets = [[*ids[1:], r.completion[-1]] for ids, r in zip(self._ids, self.requests, strict=True)]
        self._scores: list[torch.Tensor] = []
        self._best: list[torch.Tensor] = []

    def _end_of_chunk(self, start: int, columns: int) -> int:
        most = max(1, _MAX_LOGITS // (len(self.requests) * int(self._model.weights.config.vocab_size)))
        return min(start + columns, max(start, self._first) + most, self._width)

    def _read(self, ids: Sequence[Sequence[int]], start: int, end: int) -> None:
        asked = max(start, self._first)
        logits = self._inputs.forward(ids, max(1, end - asked))
        if end > asked:
            targets = torch.tensor([each[asked:end] for each in self._targets], device=logits.device)
            logprobs = torch.log_softmax(logits, dim=-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
            self._scores.append(logprobs)
            self._best.append(logits.amax(dim=-1))

    def _finish(self) -> None:
        scores, best = torch.cat(self._scores, dim=1).tolist(), torch.cat(self._best, dim=1).tolist()
        for request, row, maxima in zip(self.requests, scores, best, strict=True):
            length = len(request.completion)
            bad = next((i for i, value in enumerate(maxima[-length:]) if not math.isfinite(value)), None)
            if bad is None:
                request.finish(tuple(row[-length:]))
            else:
                request.fail(not_finite(maxima[bad - length], f"completion token {bad + 1}"))
