"""Keep keys and values in storage that never moves nor grows, so that a captured graph of a step stays valid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

from dami_agent.weights import Weights


class _FixedLayer(DynamicLayer):  # type: ignore[no-untyped-call]  # its __init_subclass__ has no annotations
    """Holds the keys and values of one layer of :class:`FixedCache`."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, place: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys, self.values, self.place = keys, values, place
        self.is_initialized = True
        self.dtype, self.device = keys.dtype, keys.device

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new columns at ``place``, int64 [new columns], and return all of the storage."""
        self.keys.index_copy_(2, self.place, key_states)
        self.values.index_copy_(2, self.place, value_states)
        return self.keys, self.values


class FixedCache(Cache):
    """Holds a batch's keys and values, [rows, heads, columns, head dimension], all zero at first.

    transformers' own ``StaticCache`` changes from release to release in how it is told where to write.

    Args:
        weights: whose configuration says the shapes.
        rows, columns: of the batch.
    """

    def __init__(self, weights: Weights, rows: int, columns: int) -> None:
        config = weights.config
        shape = (rows, config.num_key_value_heads, columns, config.head_dim)
        self.place = torch.zeros(1, dtype=torch.long, device=weights.device)
        self.fixed: list[_FixedLayer] = []
        for _ in range(config.num_hidden_layers):
            keys, values = (torch.zeros(shape, dtype=weights.dtype, device=weights.device) for _ in range(2))
            for storage in (keys, values):
                torch._dynamo.mark_static_address(storage)  # else a graph would not write to it
            self.fixed.append(_FixedLayer(keys, values, self.place))
        super().__init__(layers=[*self.fixed])
        self._columns = torch.arange(columns, device=weights.device)
        self.width = 0

    def arguments(self, weights: Weights, ids: Sequence[Sequence[int]]) -> dict[str, Any]:
        """Return what the model's forward pass takes to feed columns, and count them as fed.

        Args:
            weights: of the model.
            ids: [rows, columns] token ids. One column is written where ``place`` points, which does not move.
        """
        given = torch.tensor(ids, device=self._columns.device)
        count = given.shape[1]
        positions = torch.arange(self.width, self.width + count, device=self._columns.device)
        self.width += count
        if count == 1:
            self.place.copy_(positions)
        for layer in self.fixed:
            layer.place = self.place if count == 1 else positions
        mask = (self._columns[None, :] <= positions[:, None])[None, None]
        return {
            "input_ids": given,
            "attention_mask": mask.repeat(len(ids), 1, 1, 1),
            "position_ids": positions.repeat(len(ids), 1),
            "use_cache": True,
            "logits_to_keep": 1,
            weights.cache_argument: self,
        }
