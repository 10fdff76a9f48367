"""Run vLLM's layers at a λ per token: both endpoints' weights stay whole, and what they compute is interpolated.

A linear layer is linear in its weights, so ``(1-λ)·x·W_I + λ·x·W_T`` is its output under θ(λ), for every row's own λ. A
norm multiplies by its weights after all else, so there they are interpolated themselves.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import nn
from torch.nn.functional import embedding, linear
from vllm.model_executor.layers.quantization.base_config import QuantizeMethodBase

__all__ = ["IntensityRows", "MixedNorm", "MixedWeightsMethod"]


class IntensityRows:
    """Holds λ of every row of the coming forward pass in buffers that never move, for CUDA graphs read them in place.

    Args:
        size: rows at most.
        device: of the model.

    Attributes:
        tokens: λ of each scheduled token, float32 [size, 1].
        logits: λ of each row of hidden states that logits are computed of, float32 [rows, 1]; set by the model.
        end: 0 or 1 where most rows of the coming pass are at that end, whose weights do for them; else None.
        others: the places of the rows that are not, int64; empty where all are.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self.tokens = torch.zeros(size, 1, device=device, dtype=torch.float32)
        self.logits = torch.empty(0, 1, device=device, dtype=torch.float32)
        self.end: int | None = None
        self.others = torch.empty(0, device=device, dtype=torch.int64)
        _rows_at[_place(self.tokens)] = self

    def write(self, intensities: torch.Tensor) -> None:
        """Set λ of the first ``len(intensities)`` rows: float32 [rows], on the CPU."""
        self.end = None
        for end in (0, 1):
            others = torch.nonzero(intensities != end)[:, 0]
            if len(others) <= _FEW * len(intensities):
                self.end, self.others = end, others.to(self.tokens.device, non_blocking=True)
        self.tokens[: len(intensities), 0].copy_(intensities, non_blocking=True)

    @property
    def shortcut(self) -> tuple[int, torch.Tensor] | None:
        """Return ``end`` and ``others``; None while a CUDA graph is captured, which is replayed with any λ."""
        capturing = torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
        return None if capturing or self.end is None else (self.end, self.others)


def _place(at: torch.Tensor) -> int:
    """Return where a tensor's memory begins, its own or that of the buffer that it is a part of."""
    return int(at.untyped_storage().data_ptr())


_FEW = 0.25  # of the rows may be elsewhere for it to pay that the others take one endpoint's weights

# By the place of ``tokens``: compiled code is kept on disk and used by other engines, so no number may stand in it.
_rows_at: weakref.WeakValueDictionary[int, IntensityRows] = weakref.WeakValueDictionary()


@torch.library.custom_op("dami::mixed_linear", mutates_args=())
def mixed_linear(
    x: torch.Tensor,
    instruct: torch.Tensor,
    thinking: torch.Tensor,
    bias_instruct: torch.Tensor | None,
    bias_thinking: torch.Tensor | None,
    at: torch.Tensor,
) -> torch.Tensor:
    """Compute a linear layer, each row at its λ; by one endpoint's weights alone for rows at that end, if most are.

    An operator of its own, so that compiled code asks at every pass which of the two it is.

    Args:
        x: [rows, in].
        instruct, thinking: [out, in].
        bias_instruct, bias_thinking: [out], or None.
        at: λ of each row, float32 [rows, 1]; a part of ``IntensityRows.tokens``, which says which are at an end.

    Returns:
        [rows, out], in the dtype of ``x``.
    """
    rows = _rows_at.get(_place(at))
    shortcut = None if rows is None else rows.shortcut
    if shortcut is None:
        return _mix(x, instruct, thinking, bias_instruct, bias_thinking, at)
    end, others = shortcut
    out = linear(x, thinking, bias_thinking) if end else linear(x, instruct, bias_instruct)
    if len(others):
        out[others] = _mix(x[others], instruct, thinking, bias_instruct, bias_thinking, at[others])
    return out


def _mix(
    x: torch.Tensor,
    instruct: torch.Tensor,
    thinking: torch.Tensor,
    bias_instruct: torch.Tensor | None,
    bias_thinking: torch.Tensor | None,
    at: torch.Tensor,
) -> torch.Tensor:
    """Interpolate the outputs of two layers."""
    low, high = linear(x, instruct, bias_instruct), linear(x, thinking, bias_thinking)
    return torch.lerp(low.float(), high.float(), at).to(x.dtype)


@mixed_linear.register_fake
def _shape_of_mixed_linear(
    x: torch.Tensor,
    instruct: torch.Tensor,
    thinking: torch.Tensor,
    bias_instruct: torch.Tensor | None,
    bias_thinking: torch.Tensor | None,
    at: torch.Tensor,
) -> torch.Tensor:
    return x.new_empty(*x.shape[:-1], instruct.shape[0])


class MixedWeightsMethod(QuantizeMethodBase):
    """Stands where vLLM keeps how a layer computes, and computes with two weights.

    Args:
        rows: λ of the rows.
        instruct, thinking: weights of the two endpoints, [out, in], sharded as vLLM has loaded them.
        biases: of the two endpoints, [out] each, or None.
        head: the layer makes logits, of some of the rows only.
    """

    def __init__(
        self,
        rows: IntensityRows,
        instruct: torch.Tensor,
        thinking: torch.Tensor,
        biases: tuple[torch.Tensor, torch.Tensor] | None = None,
        *,
        head: bool = False,
    ) -> None:
        self._rows = rows
        self._instruct, self._thinking = instruct, thinking
        self._biases = biases
        self._head = head

    def create_weights(self, layer: nn.Module, *weight_args: Any, **extra_weight_attrs: Any) -> None:
        """Refuse: the weights are vLLM's own, loaded before this method takes their place."""
        raise NotImplementedError("made of weights that have been loaded")

    def process_weights_after_loading(self, layer: nn.Module) -> None:
        """Leave the weights as they are: nothing may be packed in place of one endpoint's."""

    def apply(self, layer: nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """Compute the layer's output, each row at its λ.

        Args:
            layer: not used.
            x: [rows, in].
            bias: not used but for whether it is to be added: a layer whose output is summed over ranks has it once.

        Returns:
            [rows, out], in the dtype of ``x``.
        """
        low, high = (None, None) if bias is None or self._biases is None else self._biases
        at = self._of(x)
        if self._head:  # outside what is compiled
            return _mix(x, self._instruct, self._thinking, low, high, at)
        mixed: torch.Tensor = mixed_linear(x, self._instruct, self._thinking, low, high, at)
        return mixed

    def embedding(self, layer: nn.Module, input_: torch.Tensor) -> torch.Tensor:
        """Return the embeddings of token ids [rows], each row at its λ: [rows, hidden]."""
        low, high = embedding(input_, self._instruct), embedding(input_, self._thinking)
        return torch.lerp(low.float(), high.float(), self._of(input_)).to(self._instruct.dtype)

    def _of(self, rows: torch.Tensor) -> torch.Tensor:
        held = self._rows.logits if self._head else self._rows.tokens
        return held[: rows.shape[0]]


class MixedNorm(nn.Module):
    """Takes the place of vLLM's ``RMSNorm``: each row is scaled by the weights at its λ.

    Args:
        rows: λ of the rows.
        instruct, thinking: weights of the two endpoints, [hidden].
        epsilon: as the model's configuration says.
    """

    def __init__(self, rows: IntensityRows, instruct: torch.Tensor, thinking: torch.Tensor, epsilon: float) -> None:
        super().__init__()
        self._rows = rows
        self._instruct = instruct.float()
        self._difference = thinking.float() - instruct.float()
        self._epsilon = epsilon

    def forward(
        self, x: torch.Tensor, residual: torch.Tensor | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Norm ``x`` [rows, ..., hidden]; a residual, if there is one, is added before and the sum returned with it."""
        if residual is not None:
            x = residual = x + residual
        at = self._rows.tokens[: x.shape[0]].view(-1, *[1] * (x.ndim - 1))
        scaled = x.float()
        scaled = scaled * torch.rsqrt(scaled.pow(2).mean(-1, keepdim=True) + self._epsilon)
        out = (scaled * (self._instruct + at * self._difference)).to(x.dtype)
        return out if residual is None else (out, residual)
