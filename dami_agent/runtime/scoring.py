"""Teacher forcing: log-probabilities of tokens that are given, not decoded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from dami_agent.errors import RunError
from dami_agent.runtime.lane import not_finite
from dami_agent.runtime.passes import Passes
from dami_agent.types import Intensity

if TYPE_CHECKING:
    from dami_agent.weights import Weights

__all__ = ["ScoreRequest", "score_together"]

_PREFILL_TOKENS = 8192
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


def score_together(weights: Weights, requests: Sequence[ScoreRequest]) -> list[tuple[float, ...] | RunError]:
    """Natural-log probability of every completion token of every request, in one padded batch.

    The last token is not fed: nothing is asked after it.
    """
    width = max(map(len, requests)) - 1
    passes = Passes(weights, [r.intensity for r in requests], [width + 1 - len(r) for r in requests])
    ids = [[0] * (width + 1 - len(r)) + [*r.context, *r.completion] for r in requests]
    first = width - max(len(r.completion) for r in requests)  # columns before it predict no token of a completion
    _feed(passes, ids, first)
    scores: list[torch.Tensor] = []
    best: list[torch.Tensor] = []
    step = max(1, _MAX_LOGITS // (len(requests) * int(weights.config.vocab_size)))
    for start in range(first, width, step):
        end = min(start + step, width)
        logits = passes.forward([row[start:end] for row in ids], end - start)
        targets = torch.tensor([row[start + 1 : end + 1] for row in ids], device=logits.device)
        best.append(logits.amax(dim=-1))
        scores.append(torch.log_softmax(logits, dim=-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1))
    table, largest = torch.cat(scores, dim=1).tolist(), torch.cat(best, dim=1).tolist()
    return [
        _checked(row[-len(r.completion) :], maxima[-len(r.completion) :])
        for row, maxima, r in zip(table, largest, requests, strict=True)
    ]


def _checked(scores: Sequence[float], best: Sequence[float]) -> tuple[float, ...] | RunError:
    """The log-probabilities of one request, or its error where the model gave no finite scores."""
    bad = next((i for i, value in enumerate(best) if not math.isfinite(value)), None)
    return tuple(scores) if bad is None else not_finite(best[bad], f"completion token {bad + 1}")


def _feed(passes: Passes, ids: Sequence[Sequence[int]], columns: int) -> None:
    step = max(1, _PREFILL_TOKENS // len(ids))
    for start in range(0, columns, step):
        passes.forward([row[start : min(start + step, columns)] for row in ids], 1)
