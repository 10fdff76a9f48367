"""Lend one model to one forward pass at a time: what the two weights modes have in common."""

from __future__ import annotations

import inspect
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import torch

from dami_agent.errors import UsageError
from dami_agent.types import Intensity, WeightsMode

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Weights(ABC):
    """A model whose weights are θ(λ) for the λ asked of it.

    Attributes:
        mode: ``merged`` or ``mixed``.
        config: the transformers configuration of the model.
        device: where inputs go (``torch.device``).
        dtype: of the weights and the logits.
        version: of the working copy; bumps whenever it is rebuilt. Always 0 for mixed.
        cache_argument: name of ``forward``'s argument for keys and values: ``cache``, before transformers 5.24
            ``past_key_values``.
        switch_seconds: time spent so far in changing λ (merging, or preparing a batch's rows).
    """

    mode: WeightsMode
    cache_argument = "past_key_values"

    def __init__(self, model: PreTrainedModel, *, device: torch.device, dtype: torch.dtype) -> None:
        self._model = model
        self.config: Any = model.config
        self.device = device
        self.dtype = dtype
        self.version = 0
        self.switch_seconds = 0.0
        self.cache_argument = cache_argument(model)
        self._lent = threading.Lock()

    @property
    def intensity(self) -> Intensity | None:
        """Merged: λ of the weights as they are now, None after a failed switch. Mixed: always None."""
        return None

    def at(self, intensities: Sequence[float]) -> AbstractContextManager[PreTrainedModel]:
        """Lend the model for ONE forward pass whose batch rows have these λ.

        Args:
            intensities: one λ per row; its length is the batch size. In merged mode all must be equal.

        Raises:
            InvalidIntensity: a λ that is not finite or not in [0, 1].
            UsageError: no rows; unequal λ in merged mode; the model is lent already (use one worker).
        """
        return self._lend(tuple(Intensity(value) for value in intensities))

    @contextmanager
    def _lend(self, intensities: tuple[Intensity, ...]) -> Iterator[PreTrainedModel]:
        if not intensities:
            raise UsageError("a forward pass needs the λ of at least one row", hint="pass one λ for every batch row")
        if not self._lent.acquire(blocking=False):
            raise UsageError(
                "the model is in use by another forward pass: its weights cannot change now",
                hint="run all forward passes from one worker thread, as the runtime's engine does",
            )
        try:
            self._prepare(intensities)
            try:
                yield self._model
            finally:
                self._leave()
        finally:
            self._lent.release()

    @abstractmethod
    def _prepare(self, intensities: tuple[Intensity, ...]) -> None:
        """Make the model ready for these rows, or raise and leave it as it was (or marked invalid)."""

    def _leave(self) -> None:  # noqa: B027  (merged weights stay as they are)
        """Undo what ``_prepare`` did for one forward pass."""

    @abstractmethod
    def nbytes(self) -> dict[str, int]:
        """Return the bytes of the tensors held: ``instruct``, ``thinking`` and ``working`` (0 until a copy is needed).

        Endpoints loaded on the CPU in their file's own dtype are memory-mapped: their bytes are disk pages the
        operating system may drop, not memory of this process.
        """


def cache_argument(model: torch.nn.Module) -> str:
    """Name the argument of ``model.forward`` that takes the cache; transformers 5.24 renamed it."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def unique_nbytes(tensors: Sequence[torch.Tensor]) -> int:
    """Add up the bytes of tensors of any shape and dtype, counting those that share storage once."""
    return sum({(t.device, t.data_ptr()): t.nbytes for t in tensors}.values())
