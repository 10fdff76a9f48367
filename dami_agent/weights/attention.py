"""Attend to what each row has, where rows of unlike lengths decode together on a CPU.

Rows of a batch are padded on the left to the longest. Attention over the padding costs what attention over tokens
does, and a row that has thought for a thousand tokens makes all others pay for a thousand. Here neighbouring rows of
like lengths attend together and to their own columns alone; what is computed is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

__all__ = ["RowSpan", "attend_by_rows", "attends_by_rows", "row_spans"]

NAME = "sdpa_by_rows"
"""What the attention is called in a model's configuration."""

FAMILIES = ("llama", "qwen2", "qwen3")
"""Families whose layers hand on to the attention what the model is given."""

_WASTE, _WASTE_SHARE = 512, 0.1
"""Padding that rows may share rather than attend apart, in columns over all of them: a call costs as much, and this
share of their tokens."""

RowSpan = tuple[int, int, int]
"""First row, row behind the last, and the first column that is not padding in all of them."""


def row_spans(pads: Sequence[int], width: int) -> list[RowSpan]:
    """Divide the rows of a batch into neighbours of like lengths.

    Args:
        pads: columns of padding before each row's first token.
        width: columns in all.
    """
    spans: list[RowSpan] = []
    begin, lowest, total = 0, width, 0
    for row, pad in enumerate(pads):
        low, padding = min(lowest, pad), total + pad
        count = row + 1 - begin
        tokens = count * width - padding
        if count > 1 and padding - count * low > _WASTE + _WASTE_SHARE * tokens:
            spans.append((begin, row, lowest))
            begin, low, padding = row, pad, pad
        lowest, total = low, padding
    return [*spans, (begin, len(pads), lowest)]


def attend_by_rows(model: PreTrainedModel) -> None:
    """Let a model on a CPU take ``row_spans`` in its forward pass, if its family and its attention are known."""
    config = model.config
    if config.model_type in FAMILIES and config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)


def attends_by_rows(model: PreTrainedModel) -> bool:
    """Tell whether the model's forward pass takes ``row_spans``."""
    return bool(getattr(model.config, "_attn_implementation", None) == NAME)


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    row_spans: Sequence[RowSpan] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend as transformers' ``sdpa`` does, span by span where there are ``row_spans``.

    Args:
        module: transformers' attention layer.
        query: [rows, heads, columns, width]; one column where there are spans.
        key, value: [rows, key-value heads, all columns, width].
        attention_mask: bool [rows, 1, columns, all columns], or None: all are seen.
        scaling: of the scores.
        row_spans: of the rows, or None.
        kwargs: of ``sdpa``.

    Returns:
        [rows, columns, heads, width], and no weights of the attention.
    """
    if row_spans is None or attention_mask is None or query.shape[2] != 1:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    rows, heads, _, width = query.shape
    # Heads that share keys and values are so many queries of one head: nothing is repeated.
    grouped = query.reshape(rows, key.shape[1], -1, width)
    parts = [
        functional.scaled_dot_product_attention(
            grouped[begin:end],
            key[begin:end, :, start:],
            value[begin:end, :, start:],
            attn_mask=attention_mask[begin:end, :, :, start:],
            scale=scaling,
        )
        for begin, end, start in row_spans
    ]
    return torch.cat(parts).reshape(rows, 1, heads, width), None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
