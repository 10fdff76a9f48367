"""The key-value cache of one lane: transformers' cache with room to grow, rows that leave and rows that join.

Rows are padded on the left, so all rows end in the same column and a step appends one column to all.
Keys and values are [rows, heads, columns, head dimension]. A cache belongs to one lane and so to one λ per row: nothing
here ever moves a key or value from one row to another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

__all__ = ["LaneCache"]


class _GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]  # its __init_subclass__ has no annotations
    """A ``DynamicLayer`` that appends in place: it keeps spare columns instead of copying all of them every step."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        self._room: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append columns; returns views of all columns so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if self._room is None or self._room[0].shape[-2] < end:
            self._room = (_grown(self.keys, key_states, end), _grown(self.values, value_states, end))
        keys, values = self._room
        keys[:, :, start:end] = key_states
        values[:, :, start:end] = value_states
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self.keys, self.values

    def replace(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Put other rows in place of all."""
        self.keys, self.values, self._room = keys, values, None


class LaneCache(Cache):
    """An empty cache; layers appear as the model writes to them."""

    layers: list[_GrowingLayer]  # type: ignore[assignment]  # narrower than transformers', which has other kinds

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=_GrowingLayer)

    def keep_rows(self, rows: Sequence[int], first_column: int) -> None:
        """Drop all rows but ``rows``, and the columns before ``first_column`` (padding in every row that stays)."""
        for layer in self.layers:
            index = torch.tensor(rows, device=layer.keys.device)
            layer.replace(
                layer.keys[:, :, first_column:].index_select(0, index),
                layer.values[:, :, first_column:].index_select(0, index),
            )

    def append_rows(self, other: LaneCache) -> None:
        """Add the rows of ``other`` below these, both widened on the left to the wider of the two."""
        for layer, more in zip(self.layers, other.layers, strict=True):
            width = max(layer.keys.shape[-2], more.keys.shape[-2])
            layer.replace(
                torch.cat([_widened(layer.keys, width), _widened(more.keys, width)]),
                torch.cat([_widened(layer.values, width), _widened(more.values, width)]),
            )


def _grown(old: torch.Tensor, like: torch.Tensor, columns: int) -> torch.Tensor:
    rows, heads, _, width = like.shape
    spare = min(max(64, columns // 4), 1024)
    new = torch.empty(rows, heads, columns + spare, width, dtype=like.dtype, device=like.device)
    if old.numel():
        new[:, :, : old.shape[-2]] = old
    return new


def _widened(states: torch.Tensor, width: int) -> torch.Tensor:
    return torch.nn.functional.pad(states, (0, 0, width - states.shape[-2], 0))
