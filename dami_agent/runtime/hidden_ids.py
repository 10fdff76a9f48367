"""Finds ids of a model's vocabulary that have no text: rows that pad its embedding, holes in the tokenizer's ids."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["ids_without_text"]


def ids_without_text(
    tokenizer: PreTrainedTokenizerBase, vocab_size: int, keep: Collection[int] = ()
) -> tuple[int, ...]:
    """List the ids below ``vocab_size`` that the tokenizer does not know, in order.

    Qwen3's model has 151,936 rows and its tokenizer 151,669 tokens, for example. A model can still score the others,
    and what it draws of them is no text at all.

    Args:
        tokenizer: its vocabulary, added tokens included.
        vocab_size: of the model's output.
        keep: ids that may be drawn all the same (end-of-sequence tokens that only ``generation_config`` names).
    """
    known = {*tokenizer.get_vocab().values(), *keep}
    return tuple(i for i in range(vocab_size) if i not in known)
