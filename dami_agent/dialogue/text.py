"""Token ids to text, piece by piece: incomplete characters and possible stop strings are held back.

Whatever way the input is cut, the pieces put together are the same text.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence

from tokenizers import Tokenizer, decoders

from dami_agent.byte_level import BYTES
from dami_agent.stops import first_stop


class TokenText:
    """Makes streams of text out of token ids; one per tokenizer."""

    def __init__(self, backend: Tokenizer) -> None:
        self._backend = backend
        self._byte_level = isinstance(backend.decoder, decoders.ByteLevel)

    def stream(self) -> TextStream | DecodedStream:
        """Return a fresh stream; text of other tokens before it does not matter to it."""
        return TextStream(self._token_bytes) if self._byte_level else DecodedStream(self._decode)

    def is_call_open(self, token_id: int) -> bool:
        """Return whether this is the token ``<tool_call>``."""
        return self._backend.id_to_token(token_id) == "<tool_call>"

    @property
    def thought_markers(self) -> dict[str, int | None]:
        """Return the ids of ``<think>`` and ``</think>`` as ``open_id`` and ``close_id``; None for no single token."""
        return {"open_id": self._backend.token_to_id("<think>"), "close_id": self._backend.token_to_id("</think>")}

    def _token_bytes(self, token_id: int) -> bytes:
        token = self._backend.id_to_token(token_id)
        if token is None:  # a padded row of the embedding: the model can emit it, it has no text
            return b""
        try:
            return bytes(BYTES[c] for c in token)
        except KeyError:  # an added token, spelled as it is
            return token.encode()

    def _decode(self, ids: Sequence[int]) -> str:
        return self._backend.decode(list(ids), skip_special_tokens=False)


class TextStream:
    """Text of a byte-level tokenizer's tokens. A character is given out when its last byte is there."""

    def __init__(self, token_bytes: Callable[[int], bytes]) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token_id: int) -> str:
        """Take a token, and return the text that is certain after it."""
        return self._decoder.decode(self._token_bytes(token_id))

    def finish(self) -> str:
        """Return what was held back; an incomplete character becomes U+FFFD."""
        return self._decoder.decode(b"", final=True)


class DecodedStream:
    """The same for any other tokenizer: the last tokens are decoded, and what a new one adds is given out."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._given: list[int] = []  # tokens given out last: what a token becomes can depend on the one before
        self._held: list[int] = []

    def feed(self, token_id: int) -> str:
        """Take a token, and return the text that is certain after it."""
        self._held.append(token_id)
        new = self._new()
        if not new or new.endswith("\ufffd"):
            return ""
        self._given, self._held = self._held, []
        return new

    def finish(self) -> str:
        """Return what was held back."""
        new = self._new()
        self._given, self._held = self._held, []
        return new

    def _new(self) -> str:
        return self._decode([*self._given, *self._held])[len(self._decode(self._given)) :]


def held_back(text: str, markers: Sequence[str]) -> int:
    """Return the length of the longest end of ``text`` that is a proper beginning of one of ``markers``."""
    longest = max((len(m) - 1 for m in markers), default=0)
    for k in range(min(longest, len(text)), 0, -1):
        if any(len(m) > k and text.endswith(m[:k]) for m in markers):
            return k
    return 0


class StopCutter:
    """Ends the text before the stop string that :func:`~dami_agent.stops.first_stop` finds; holds back what may be one.

    Args:
        stop: the stop strings.
        continues: the text goes on with what was written before, so newlines at its start are text as all others are.

    Attributes:
        stop_string: the stop string that ended the text; None so far.
    """

    def __init__(self, stop: Sequence[str], *, continues: bool = False) -> None:
        self._stop = tuple(s for s in stop if s)
        self._buffer = ""
        # How many of the buffer's characters are opening newlines; None: all so far.
        self._lead: int | None = 0 if continues else None
        self.stop_string: str | None = None

    def feed(self, text: str) -> str:
        """Take a piece of text, and return what is certain by now and was not given out before."""
        if self.stop_string is not None or not text:
            return ""
        self._buffer += text
        if self._lead is None:
            body = self._buffer.lstrip("\n")
            if not body:
                return ""
            self._lead = len(self._buffer) - len(body)
        found = first_stop(self._buffer, self._stop, self._lead)
        if found is not None:
            at, self.stop_string = found
            return self._take(at)
        return self._take(len(self._buffer) - held_back(self._buffer, self._stop))

    def _take(self, count: int) -> str:
        out, self._buffer = self._buffer[:count], self._buffer[count:]
        self._lead = max(0, (self._lead or 0) - count)
        return out

    def finish(self) -> str:
        """Return what was held back."""
        return "" if self.stop_string is not None else self._take(len(self._buffer))
