"""Forward passes over rows that share a cache: padding, positions and masks, and nothing about what is decoded."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from dami_agent.checkpoints.memory import PREFILL_TOKENS
from dami_agent.runtime.kv_cache import BatchCache
from dami_agent.runtime.prefix_cache import KeyValues, Prefix
from dami_agent.types import Intensity

if TYPE_CHECKING:
    from dami_agent.weights import Weights

__all__ = ["BatchInputs", "LoadedModel"]

# Floating-point operations that one chunk of a prefill may take, so that rows which decode wait for some tenths of a
# second, and the bounds of its tokens: fewer would waste the device, more its memory (activations, attention masks).
_CHUNK_FLOPS = {"cpu": 6e9}
_CHUNK_FLOPS_ACCELERATOR = 2e13
_MIN_CHUNK = {"cpu": 64}
_MIN_CHUNK_ACCELERATOR = 512


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Weights that are loaded, and what every forward pass over them needs to know.

    Attributes:
        weights: lends the model, one forward at a time.
        hidden: int64 ids of the vocabulary, on the device, that are never drawn; None: all may be.
        chunk_tokens: tokens that one pass reads of prompts, over all rows.
    """

    weights: Weights
    hidden: torch.Tensor | None
    chunk_tokens: int

    @classmethod
    def of(cls, weights: Weights, hidden_ids: Sequence[int]) -> LoadedModel:
        """Put the hidden ids on the weights' device, and size chunks by how fast that device can be."""
        hidden = torch.tensor(hidden_ids, dtype=torch.long, device=weights.device) if hidden_ids else None
        return cls(weights, hidden, _chunk_tokens(weights))


def _chunk_tokens(weights: Weights) -> int:
    """Return tokens per chunk: a matter of device and number of parameters alone, so that equal runs stay equal."""
    kind = weights.device.type
    parameters = weights.nbytes().get("instruct", 0) // weights.dtype.itemsize
    wanted = _CHUNK_FLOPS.get(kind, _CHUNK_FLOPS_ACCELERATOR) / max(1, 2 * parameters)
    return int(min(max(wanted, _MIN_CHUNK.get(kind, _MIN_CHUNK_ACCELERATOR)), PREFILL_TOKENS))


class BatchInputs:
    """Left-padded batch of sequences that share one KV cache; builds attention masks and position ids.

    All rows end in the same column.

    Args:
        model: the loaded weights.
        intensities: λ of each row; equal ones where the weights are merged.
        pads: columns of padding before each row's first token.

    Attributes:
        width: columns fed so far.
        switch_seconds, forward_seconds: spent so far in changing weights and in computing.
    """

    def __init__(self, model: LoadedModel, intensities: Sequence[Intensity], pads: Sequence[int]) -> None:
        self.weights = weights = model.weights
        self._hidden = model.hidden
        self.intensities = list(intensities)
        self.width = 0
        self.switch_seconds = 0.0
        self.forward_seconds = 0.0
        self._last_position = int(getattr(weights.config, "max_position_embeddings", None) or 2**31) - 1
        self._cache = BatchCache()
        self._set_pads(list(pads))

    @property
    def rows(self) -> int:
        """Return the number of sequences in the batch."""
        return len(self.intensities)

    @property
    def cache_tokens(self) -> int:
        """Cache positions in use, padding included."""
        return self.rows * self.width

    def begin(self, prefixes: Sequence[Prefix | None], width: int) -> None:
        """Begin with what was read before instead of feeding it.

        Args:
            prefixes: of each row, or None; at least one.
            width: columns to fill; none of them is later than the end of a row's prefix, or of its padding.
        """
        with torch.inference_mode():
            self._cache.begin(prefixes, self._pads, width)
        self.width = width

    def copy_row(self, row: int, tokens: int) -> KeyValues:
        """Copy the keys and values of the first ``tokens`` of a row, all of them fed."""
        with torch.inference_mode():
            return self._cache.copy_row(row, self._pads[row], tokens)

    def forward(self, ids: Sequence[Sequence[int]], keep: int) -> torch.Tensor:
        """Feed some columns.

        Args:
            ids: [rows, columns] token ids; anything where a row is still padding.
            keep: for how many of the last columns logits are wanted, at least 1.

        Returns:
            Logits, float32 [rows, keep, vocabulary]; -inf at the ids that are never drawn.
        """
        logits: torch.Tensor = self._feed(ids, keep).logits.float()
        if self._hidden is not None:
            with torch.inference_mode():  # as they were made
                logits.index_fill_(-1, self._hidden, -torch.inf)
        return logits

    def hidden_states(self, ids: Sequence[Sequence[int]], layers: Sequence[int]) -> list[torch.Tensor]:
        """Feed some columns for the hidden states after some layers.

        Args:
            ids: as for :meth:`forward`.
            layers: as transformers numbers them, at least one.

        Returns:
            States of each layer, [rows, columns, features] in the weights' dtype.
        """
        states = self._feed(ids, 1, output_hidden_states=True).hidden_states
        return [states[layer] for layer in layers]

    def _feed(self, ids: Sequence[Sequence[int]], keep: int, **wanted: bool) -> Any:
        device, start = self.weights.device, self.width
        columns = torch.arange(start, start + len(ids[0]), device=device)
        end = start + len(ids[0])
        mask = positions = None
        if self._padded:
            # Before its first token a row stands still; so does, at the last position, one that ended and waits idly.
            positions = (columns[None, :] - self._pad_column).clamp_(0, self._last_position)
            mask = torch.arange(end, device=device)[None, :] >= self._pad_column
        else:
            positions = columns[None, :].expand(self.rows, -1)
        begin = time.perf_counter()
        switched = self.weights.switch_seconds
        with self.weights.at(self.intensities) as model, torch.inference_mode():
            output = model(
                input_ids=torch.tensor(ids, device=device),
                attention_mask=mask,
                position_ids=positions,
                use_cache=True,
                logits_to_keep=keep,
                **{self.weights.cache_argument: self._cache},
                **wanted,
            )
            # What decodes is waited for when a token is drawn from it. Nothing waits for a chunk of a prompt, so that
            # a GPU would still be reading it in the time that is counted as what comes next.
            if len(ids[0]) > 1 and device.type == "cuda":
                torch.cuda.synchronize(device)
        self.width = end
        switched = self.weights.switch_seconds - switched
        self.switch_seconds += switched
        self.forward_seconds += time.perf_counter() - begin - switched
        return output

    def keep_rows(self, rows: Sequence[int]) -> None:
        """Drop all rows but these, and the columns that are then padding everywhere."""
        first = min(self._pads[i] for i in rows)
        with torch.inference_mode():
            self._cache.keep_rows(rows, first)
        self.width -= first
        self.intensities = [self.intensities[i] for i in rows]
        self._set_pads([self._pads[i] - first for i in rows])

    def join(self, other: BatchInputs) -> None:
        """Take over the rows of ``other``, which must not be used any more."""
        with torch.inference_mode():
            self._cache.append_rows(other._cache)
        width = max(self.width, other.width)
        pads = [p + width - self.width for p in self._pads] + [p + width - other.width for p in other._pads]
        self.width = width
        self.intensities += other.intensities
        self._set_pads(pads)

    def _set_pads(self, pads: list[int]) -> None:
        self._pads = pads
        self._padded = any(pads)
        self._pad_column = torch.tensor(pads, device=self.weights.device).unsqueeze(1)
