"""Find stop strings in the answer's text as it is decoded, also across tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["StopStrings"]


class StopStrings:
    """Watches one answer for the first stop string.

    Only a tail of tokens is decoded per step. Every token is at least one byte, so a stop string of n UTF-8 bytes that
    ends in the newest token begins within the last n tokens; one more keeps a leading space that decoders drop at the
    start of a text.
    """

    def __init__(self, stops: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> None:
        self._stops = tuple(stops)
        self._tokenizer = tokenizer
        self._window = max(len(s.encode("utf-8")) for s in stops) + 1
        self._tail: list[int] = []

    def push(self, token: int) -> str | None:
        """Take one token of the answer and return the stop string that is now complete (the first in the text)."""
        self._tail.append(token)
        if len(self._tail) > self._window:
            del self._tail[0]
        text = str(self._tokenizer.decode(self._tail, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        found = [(text.find(s), s) for s in self._stops if s in text]
        return min(found)[1] if found else None
