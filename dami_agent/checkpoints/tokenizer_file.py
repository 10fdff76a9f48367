"""Read the tokens and their ids off a tokenizer.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FILE = "tokenizer.json"


def token_ids(tokenizer: Mapping[str, Any]) -> dict[str, int]:
    """Collect the full token → id map of a parsed tokenizer.json: model vocabulary and added tokens."""
    vocab = tokenizer["model"].get("vocab", {})
    if isinstance(vocab, list):  # Unigram: a list of [token, score]
        ids = {str(entry[0]): index for index, entry in enumerate(vocab)}
    else:
        ids = {str(token): int(index) for token, index in vocab.items()}
    return ids | {str(t["content"]): int(t["id"]) for t in tokenizer.get("added_tokens") or ()}
