"""Find stop strings in the answer's text as it is decoded, also across tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dami_agent.stops import first_stop

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["StopStrings"]


class StopStrings:
    """Watches one answer for the stop string that ends it, as :func:`~dami_agent.stops.first_stop` says.

    Only a tail of tokens is decoded per step. Every token is at least one byte, so a stop string of n UTF-8 bytes that
    ends in the newest token begins within the last n tokens; one more keeps a leading space that decoders drop at the
    start of a text.

    Args:
        stops: the stop strings.
        tokenizer: decodes the tail.
        continues: the answer goes on with what was written before, so newlines at its start are text as all others are.
    """

    def __init__(self, stops: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, continues: bool = False) -> None:
        self._stops = tuple(stops)
        self._tokenizer = tokenizer
        self._continues = continues
        self._window = max(len(s.encode("utf-8")) for s in stops) + 1
        self._tail: list[int] = []
        self._body = 0  # tokens since the first that is not all opening newlines, and that one

    def push(self, token: int) -> str | None:
        """Take one token of the answer, and return the stop string that ends it, if it is complete now."""
        self._tail.append(token)
        if len(self._tail) > self._window:
            del self._tail[0]
        text = str(self._tokenizer.decode(self._tail, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        body = text.lstrip("\n")
        self._body += self._body > 0 or bool(body)
        opens = not self._continues and self._body <= len(self._tail)  # the tail still holds where the text begins
        found = first_stop(text, self._stops, len(text) - len(body) if opens else 0)
        return None if found is None else found[1]
