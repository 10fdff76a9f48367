"""A real model whose scores of chosen rows are spoilt: the state that overflowing weights bring about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from dami_agent.types import Intensity, WeightsMode
from dami_agent.weights import Weights


class PoisonedWeights(Weights):
    """Lends another ``Weights``' model, which spoils the scores of a row from where it reads ``token``.

    Args:
        weights: the real ones.
        token: the poison; scores are spoilt in the pass that reads it only.
        value: NaN or +inf for one entry of the scores, -inf for all of them.
    """

    def __init__(self, weights: Weights, token: int, value: float) -> None:
        self.__dict__.update(weights.__dict__)
        self.mode: WeightsMode = weights.mode
        self._weights = weights
        self._real: Any = weights._model
        self._model: Any = self._forward
        self._token, self._value = token, value

    def _prepare(self, intensities: tuple[Intensity, ...]) -> None:
        self._weights._prepare(intensities)

    def _leave(self) -> None:
        self._weights._leave()

    def nbytes(self) -> dict[str, int]:
        return self._weights.nbytes()

    def _forward(self, *, input_ids: torch.Tensor, **options: Any) -> Any:
        output = self._real(input_ids=input_ids, **options)
        kept = output.logits.shape[1]
        for row, column in (input_ids == self._token).nonzero().tolist():
            first = max(0, column - (input_ids.shape[1] - kept))
            if self._value == -torch.inf:
                output.logits[row, first:] = self._value
            else:
                output.logits[row, first:, 11] = self._value
        return output


def spoilt(ids: Sequence[int], token: int, at: int) -> list[int]:
    """``ids`` with the poison at one place."""
    return [*ids[:at], token, *ids[at + 1 :]]
