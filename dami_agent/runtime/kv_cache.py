"""Keep the keys and values of one batch: transformers' cache with room to grow, rows that leave and join.

Rows are padded on the left, so all rows end in the same column and a step appends one column to all.
Keys and values are [rows, heads, columns, head dimension]. A cache belongs to one batch and so to one λ per row. A row
begins empty or with a prefix that was computed at its λ (``prefix_cache.py``); no key or value moves between rows
otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

from dami_agent.runtime.prefix_cache import KeyValues, Prefix

__all__ = ["BatchCache"]


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
        """Append columns and return views of all columns so far.

        Args:
            key_states, value_states: [rows, heads, new columns, head dimension].
            args, kwargs: ignored; transformers passes positions to other kinds of layers.
        """
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

    def settle(self, keys: torch.Tensor, values: torch.Tensor, width: int) -> None:
        """Move to other storage, [rows, heads, columns, head dimension], whose first ``width`` columns are filled."""
        self.keys, self.values, self._room = keys[:, :, :width], values[:, :, :width], (keys, values)


class BatchCache(Cache):
    """An empty cache; layers appear as the model writes to them."""

    layers: list[_GrowingLayer]  # type: ignore[assignment]  # narrower than transformers', which has other kinds

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=_GrowingLayer)

    def begin(self, prefixes: Sequence[Prefix | None], pads: Sequence[int], width: int) -> None:
        """Fill the first columns of an empty cache with what was read before.

        Args:
            prefixes: of each row, or None; at least one.
            pads: columns of padding before each row's first token.
            width: columns to fill; none of them is later than the end of a row's prefix, or of its padding.
        """
        first = next(prefix for prefix in prefixes if prefix is not None)
        for number, (like, _) in enumerate(first.layers):
            rooms = []
            for part in (0, 1):
                room = _spacious(like[None], len(prefixes), width)
                room[:, :, :width] = 0.0  # padding is masked, but 0 times an arbitrary NaN would not be 0
                for row, (prefix, pad) in enumerate(zip(prefixes, pads, strict=True)):
                    if prefix is not None and pad < width:
                        room[row, :, pad:width] = prefix.layers[number][part][:, : width - pad]
                rooms.append(room)
            layer = _GrowingLayer()
            layer.lazy_initialization(rooms[0], rooms[1])
            layer.settle(rooms[0], rooms[1], width)
            self.layers.append(layer)

    def copy_row(self, row: int, first_column: int, columns: int) -> KeyValues:
        """Copy so many columns of one row, from ``first_column`` on."""
        last = first_column + columns
        return tuple(
            (layer.keys[row, :, first_column:last].clone(), layer.values[row, :, first_column:last].clone())
            for layer in self.layers
        )

    def keep_rows(self, rows: Sequence[int], first_column: int) -> None:
        """Drop all rows but ``rows``, and the columns before ``first_column`` (padding in every row that stays)."""
        for layer in self.layers:
            index = torch.tensor(rows, device=layer.keys.device)
            width = layer.keys.shape[-2] - first_column
            rooms = [_spacious(layer.keys, len(rows), width), _spacious(layer.values, len(rows), width)]
            for room, states in zip(rooms, (layer.keys, layer.values), strict=True):
                torch.index_select(states[:, :, first_column:], 0, index, out=room[:, :, :width])
            layer.settle(rooms[0], rooms[1], width)

    def append_rows(self, other: BatchCache) -> None:
        """Add the rows of ``other`` below these, both widened on the left to the wider of the two."""
        for layer, more in zip(self.layers, other.layers, strict=True):
            width = max(layer.keys.shape[-2], more.keys.shape[-2])
            keys, values = _stacked(layer.keys, more.keys, width), _stacked(layer.values, more.values, width)
            layer.settle(keys, values, width)


def _spacious(like: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Allocate [rows, heads, more than ``columns``, head dimension], of ``like``'s dtype; its content is arbitrary."""
    _, heads, _, width = like.shape
    spare = min(max(64, columns // 4), 1024)
    return torch.empty(rows, heads, columns + spare, width, dtype=like.dtype, device=like.device)


def _grown(old: torch.Tensor, like: torch.Tensor, columns: int) -> torch.Tensor:
    new = _spacious(like, like.shape[0], columns)
    if old.numel():
        new[:, :, : old.shape[-2]] = old
    return new


def _stacked(above: torch.Tensor, below: torch.Tensor, width: int) -> torch.Tensor:
    """Stack two caches by rows, each ending in the last of ``width`` columns; the padding before them is zero.

    Args:
        above, below: keys or values [rows, heads, columns, head dimension].
        width: columns that both are padded to, on the left.
    """
    new = _spacious(above, above.shape[0] + below.shape[0], width)
    top = 0
    for states in (above, below):
        rows, pad = new[top : top + states.shape[0]], width - states.shape[-2]
        rows[:, :, :pad] = 0.0  # masked, but 0 times an arbitrary NaN would not be 0
        rows[:, :, pad:width] = states
        top += states.shape[0]
    return new
