"""Weights whose model says what a script says: the only way to bring a whole engine into a rare situation."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch

from dami_agent.types import Intensity, WeightsMode
from dami_agent.weights import Weights

VOCAB = 320


class ScriptedWeights(Weights):
    """After the token at position p, the model's best token is ``script(p + 1)``, 8 above all others.

    Args:
        script: absolute position -> token.
        before: called before every forward pass; may wait or raise.
    """

    mode: WeightsMode = "mixed"

    def __init__(self, script: Callable[[int], int], before: Callable[[], None] = lambda: None) -> None:
        self._script = script
        self._before = before
        self.config: Any = SimpleNamespace(vocab_size=VOCAB)
        self.device = torch.device("cpu")
        self.dtype = torch.float32
        self.version = 0
        self.switch_seconds = 0.0
        self._lent = threading.Lock()
        self._model: Any = self._forward
        self.passes = 0

    def _prepare(self, intensities: tuple[Intensity, ...]) -> None:
        pass

    def nbytes(self) -> dict[str, int]:
        return {}

    def _forward(self, *, position_ids: torch.Tensor, logits_to_keep: int, **_: Any) -> SimpleNamespace:
        self.passes += 1
        self._before()
        wanted = position_ids[:, -logits_to_keep:]
        logits = torch.zeros(*wanted.shape, VOCAB)
        best = [[self._script(int(p) + 1) for p in row] for row in wanted]
        logits.scatter_(-1, torch.tensor(best).unsqueeze(-1), 8.0)
        return SimpleNamespace(logits=logits)


def reply_script(prompt_length: int, reply: Sequence[int], then: int) -> Callable[[int], int]:
    """Say ``reply`` after a prompt of this length, and ``then`` for ever after."""
    return lambda position: reply[i] if 0 <= (i := position - prompt_length) < len(reply) else then
