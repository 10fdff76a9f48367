"""Modules that hold the weights of both endpoints and give every batch row its own λ.

y_row = (1−λ_row)·f(x_row; W_I) + λ_row·f(x_row; W_T), for all that is linear in its weights. The outputs of the two
matmuls are mixed in float32; norm and embedding weights are mixed themselves (they are small), with the same rounding
as a merged weight has. λ=0 and λ=1 rows are exact: ``torch.lerp`` returns its ends unchanged there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dami_agent.errors import UsageError
from dami_agent.types import Intensity
from dami_agent.weights.norms import rms_norm


class BatchIntensities:
    """The λ of every row of the batch in flight; one object, shared by all modules of a model.

    Attributes:
        intensities: λ per row; None when no forward pass is allowed.
        epoch: changes with the intensities, so that what was derived from them can be kept.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._set: tuple[Intensity, ...] | None = None
        self._lambda = torch.empty(0)
        self._instruct_rows = self._thinking_rows = torch.empty(0, dtype=torch.long)
        self.intensities: tuple[Intensity, ...] | None = None
        self.epoch = 0
        self.needs_instruct = self.needs_thinking = self.splits = False

    def set(self, intensities: tuple[Intensity, ...]) -> None:
        """Allow a forward pass of ``len(intensities)`` rows."""
        if intensities != self._set:
            needs_i = [row for row, value in enumerate(intensities) if value < 1]
            needs_t = [row for row, value in enumerate(intensities) if value > 0]
            self._lambda = torch.tensor(intensities, dtype=torch.float32, device=self._device)
            self._instruct_rows = torch.tensor(needs_i, dtype=torch.long, device=self._device)
            self._thinking_rows = torch.tensor(needs_t, dtype=torch.long, device=self._device)
            self.needs_instruct, self.needs_thinking = bool(needs_i), bool(needs_t)
            self.splits = min(len(needs_i), len(needs_t)) < len(intensities)
            self._set = intensities
            self.epoch += 1
        self.intensities = intensities

    def clear(self) -> None:
        """Allow no forward pass; what was derived from the last λs is kept for the next one with the same."""
        self.intensities = None

    def check(self, batch: int) -> None:
        """Refuse a forward pass outside ``at`` or with another number of rows."""
        if self.intensities is None:
            raise UsageError(
                "a mixed model ran outside of Weights.at(...), which says the λ of its rows",
                hint="with weights.at([...]) as model: model(...)",
            )
        if batch != len(self.intensities):
            raise UsageError(
                f"the batch has {batch} rows, but λ was given for {len(self.intensities)}",
                hint="pass one λ for every row of the batch",
            )

    def spread(self, like: Tensor) -> Tensor:
        """Return λ as float32, shaped to broadcast over ``like`` (rows first)."""
        return self._lambda.view(-1, *[1] * (like.dim() - 1))

    def mix(self, instruct: Tensor, thinking: Tensor) -> Tensor:
        """Interpolate two results of one dtype, in float32, and round once.

        Args:
            instruct, thinking: (batch, …), of one shape and dtype; so is the result.
        """
        weight = self.spread(instruct)
        return torch.lerp(instruct.float(), thinking.float(), weight).to(instruct.dtype)

    def mix_weight(self, instruct: Tensor, thinking: Tensor) -> Tensor:
        """Interpolate two weight vectors of shape (n,) per row: (batch, n), rounded as a merged weight is."""
        return self.mix(instruct.expand(len(self._lambda), -1), thinking.expand(len(self._lambda), -1))

    def apply(self, x: Tensor, instruct: Callable[[Tensor], Tensor], thinking: Callable[[Tensor], Tensor]) -> Tensor:
        """Run both functions on the rows that need them and mix.

        Args:
            x: (batch, positions, …) input.
            instruct: what λ=0 computes; independent per row.
            thinking: what λ=1 computes.
        """
        self.check(x.shape[0])
        if not self.needs_thinking:
            return instruct(x)
        if not self.needs_instruct:
            return thinking(x)
        if not self.splits or x.shape[1] == 1:  # decoding is bound by reading weights: leaving rows out gains nothing
            return self.mix(instruct(x), thinking(x))
        part_i = instruct(x.index_select(0, self._instruct_rows))
        part_t = thinking(x.index_select(0, self._thinking_rows))
        both_i = part_i.new_zeros((x.shape[0], *part_i.shape[1:])).index_copy_(0, self._instruct_rows, part_i)
        both_t = part_t.new_zeros(both_i.shape).index_copy_(0, self._thinking_rows, part_t)
        return self.mix(both_i, both_t)


class MixedLinear(nn.Module):
    """Two ``nn.Linear`` of one shape as one, λ per row."""

    def __init__(self, instruct: nn.Linear, thinking: nn.Linear, batch: BatchIntensities) -> None:
        super().__init__()
        self.weight, self.bias = instruct.weight, instruct.bias
        self.weight_thinking, self.bias_thinking = thinking.weight, thinking.bias
        self.in_features, self.out_features = instruct.in_features, instruct.out_features
        self._batch = batch

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer at every row's λ: (batch, positions, in) -> (batch, positions, out)."""
        return self._batch.apply(
            x,
            lambda part: functional.linear(part, self.weight, self.bias),
            lambda part: functional.linear(part, self.weight_thinking, self.bias_thinking),
        )


class MixedEmbedding(nn.Module):
    """Two ``nn.Embedding`` of one shape as one, λ per row."""

    def __init__(self, instruct: nn.Embedding, thinking: nn.Embedding, batch: BatchIntensities) -> None:
        super().__init__()
        self.weight, self.weight_thinking = instruct.weight, thinking.weight
        self.num_embeddings, self.embedding_dim = instruct.num_embeddings, instruct.embedding_dim
        self._batch = batch

    def forward(self, ids: Tensor) -> Tensor:
        """Look token ids up at every row's λ: (batch, positions) -> (batch, positions, hidden)."""
        return self._batch.apply(
            ids,
            lambda part: functional.embedding(part, self.weight),
            lambda part: functional.embedding(part, self.weight_thinking),
        )


class MixedRMSNorm(nn.Module):
    """Two RMSNorms of Qwen2, Qwen3 or Llama as one; the weight is interpolated per row, and kept while λs stay."""

    weight: Tensor
    weight_thinking: Tensor

    def __init__(self, instruct: Any, thinking: Any, batch: BatchIntensities) -> None:
        super().__init__()
        self.weight, self.weight_thinking = instruct.weight, thinking.weight
        self.variance_epsilon: float = instruct.variance_epsilon
        self._batch = batch
        self._epoch = -1
        self._mixed = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise at every row's λ: (batch, …, n) -> the same shape, as the architecture's own norm computes it."""
        self._batch.check(x.shape[0])
        if self._epoch != self._batch.epoch:
            self._mixed = self._batch.mix_weight(self.weight, self.weight_thinking)
            self._epoch = self._batch.epoch
        weight = self._mixed.view(x.shape[0], *[1] * (x.dim() - 2), -1)
        return rms_norm(x, weight, self.variance_epsilon)
