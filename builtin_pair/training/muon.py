"""Muon over stacks of matrices: the update of `torch.optim.Muon`, all matrices of one shape at once.

A small model has dozens of small matrices, and Newton-Schulz takes fifteen products of each: one by one they are
launches, stacked they are work. A test compares the two step by step.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic Newton-Schulz iteration (Jordan 2024, as in `torch.optim.Muon`)."""

ITERATIONS = 5
_EPS = 1e-7


def orthogonal(stack: torch.Tensor) -> torch.Tensor:
    """Roughly the nearest orthogonal matrix to each of [matrices, rows, columns]; computed and returned in bf16."""
    a, b, c = COEFFICIENTS
    found = stack.bfloat16()
    turned = found.shape[1] > found.shape[2]  # products of the smaller side are cheaper
    if turned:
        found = found.mT
    found = found / found.norm(dim=(1, 2), keepdim=True).clamp(min=_EPS)
    for _ in range(ITERATIONS):
        gram = found @ found.mT
        update = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        found = torch.baddbmm(found, update, found, beta=a)
    return found.mT if turned else found


class StackedMuon(torch.optim.Optimizer):
    """Momentum, Nesterov, Newton-Schulz and weight decay of `torch.optim.Muon`; parameters must be matrices."""

    def __init__(
        self, params: Iterable[torch.nn.Parameter], lr: float, *, weight_decay: float = 0.1, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        if any(each.ndim != 2 for group in self.param_groups for each in group["params"]):
            raise ValueError("Muon takes matrices only")

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update; gradients that are None leave their matrix alone."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[torch.nn.Parameter]] = {}
            for each in group["params"]:
                if each.grad is not None:
                    shapes.setdefault(each.shape, []).append(each)
            for shape, matrices in shapes.items():
                self._update(group, shape, matrices)

    def _update(self, group: dict[str, Any], shape: torch.Size, matrices: list[torch.nn.Parameter]) -> None:
        gradients = [each.grad for each in matrices if each.grad is not None]
        for each in matrices:
            if not self.state[each]:
                self.state[each]["momentum_buffer"] = torch.zeros_like(each)
        buffers = [self.state[each]["momentum_buffer"] for each in matrices]
        torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, buffers, group["momentum"])
        updates = orthogonal(torch.stack(list(ahead))).float().unbind()
        values: list[torch.Tensor] = list(matrices)
        torch._foreach_mul_(values, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(values, updates, alpha=-group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5)
