"""Decide when a thought begins and how it ends: a state machine over token ids, without torch.

States: *before* (nothing decoded), *thinking*, *closing* (the engine writes the closing tokens) and *answering*.
The thought ends when

- the model writes the close marker (``model``),
- its cap is reached (``cap``), an end-of-sequence comes inside it (``eos``) or it runs in a circle (``repetition``):
  then the engine writes the family's closing words, the close marker and the tokens that follow it in a chat, and the
  answer is decoded,
- the model writes ``<tool_call>`` (``tool_call``): that token and all after it are the answer.

There is one thought: once the answer has begun, neither marker may be drawn (:attr:`Thought.banned`). What the engine
writes to close a thought is output (it counts against ``max_tokens``) with part ``control``, as the markers are: the
model did not think it, so no count of reasoning tokens holds it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from dami_agent.runtime.repetition import LoopDetector, LoopRule
from dami_agent.types import Limits, Part, ThoughtClosedBy

__all__ = ["Thought", "ThoughtMarkers", "cap_and_words", "thought_cap"]

# The closing words may take one in so many tokens of a reply.
_WORDS_SHARE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ThoughtMarkers:
    """Ids of the control tokens around a thought; None where the vocabulary has no single token for one.

    Attributes:
        open_id: ``<think>``.
        close_id: ``</think>``.
        tool_call_id: ``<tool_call>``.
        after_close_ids: what a chat has between the close marker and the answer (``"\\n\\n"``); the engine writes
            it when it closes the thought itself.
        before_close_ids: the closing words: what the engine writes before the close marker, after a thought that was
            cut short.
        plain_close_ids: the same where the words have no place: after an empty thought, or where they would leave the
            answer too little room.
    """

    open_id: int | None = None
    close_id: int | None = None
    tool_call_id: int | None = None
    after_close_ids: tuple[int, ...] = ()
    before_close_ids: tuple[int, ...] = ()
    plain_close_ids: tuple[int, ...] = ()

    def closing(self, *, words: bool = True) -> tuple[int, ...]:
        """Return all that the engine writes to close a thought, with or without the words; () without a marker."""
        if self.close_id is None:
            return ()
        return (*(self.before_close_ids if words else self.plain_close_ids), self.close_id, *self.after_close_ids)


def thought_cap(limits: Limits, max_tokens: int, closing: int) -> int:
    """Return how many tokens a thought may have before the engine closes it.

    ``min(max_reasoning_tokens, max_tokens - answer_reserve)``; where tokens are reserved for the answer, the
    ``closing`` tokens come out of the thought's share, so that the reserve is the answer's alone.
    """
    cap = max_tokens
    if limits.answer_reserve:
        cap = max(0, max_tokens - limits.answer_reserve - closing)
    return cap if limits.max_reasoning_tokens is None else min(cap, limits.max_reasoning_tokens)


def cap_and_words(markers: ThoughtMarkers, limits: Limits, max_tokens: int) -> tuple[int, bool]:
    """Return the cap of a thought, and whether the engine closes it with the closing words.

    The words are for a thought that was cut short in a reply with room for them: they take a quarter of it at most, and
    leave the answer as many tokens as they take.
    """
    length = len(markers.closing())
    words = _WORDS_SHARE * length <= max_tokens
    cap = thought_cap(limits, max_tokens, len(markers.closing(words=words)))
    return cap, words and 0 < cap <= max_tokens - 2 * length


class Thought:
    """Follows one reply token by token. Per token: ask :meth:`forced`, else decode one; then :meth:`take` it.

    Args:
        markers: control tokens; without a close marker no thought can begin.
        eos_ids: end-of-sequence tokens.
        in_thought: the prompt ends inside the thought.
        cap: most tokens of the thought.
        words: close it with the closing words.
        rule: when a repetition counts as run away; None never.
    """

    def __init__(
        self,
        markers: ThoughtMarkers,
        eos_ids: Collection[int],
        *,
        in_thought: bool,
        cap: int,
        words: bool = True,
        rule: LoopRule | None = None,
    ) -> None:
        self._markers = markers
        self._closing = markers.closing(words=words)
        self._eos_ids = eos_ids
        self._cap = cap
        self._rule = rule
        self._loop: LoopDetector | None = None
        self._taken = 0
        self._thought_tokens = 0
        self._pending: deque[int] = deque()
        self._reason: ThoughtClosedBy | None = None
        self.open = False
        self.closed_by: ThoughtClosedBy | None = None
        if in_thought:
            self._begin()

    @property
    def free(self) -> bool:
        """Return whether the next token is the model's choice inside the thought."""
        return self.open and not self._pending

    @property
    def banned(self) -> tuple[int, ...]:
        """Return the markers that the model may not draw now: the first token may open a thought, which closes once."""
        if self.open or self._markers.close_id is None:
            return ()
        may_open = self._taken == 0 and self._cap > 0
        opening = () if may_open or self._markers.open_id is None else (self._markers.open_id,)
        return (*opening, self._markers.close_id)

    def forced(self) -> int | None:
        """Return the token that the engine writes now in place of the model, or None."""
        if self.free and self._thought_tokens >= self._cap:
            self._close("cap")
        return self._pending[0] if self._pending else None

    def take(self, token: int) -> tuple[int, Part]:
        """Account for ``token``, forced or decoded; returns the token to write in its place and its part.

        They differ only for an end-of-sequence inside the thought, which becomes the close marker.
        """
        if self.free and token in self._eos_ids:
            self._close("eos")
            token = self._pending[0]
        self._taken += 1
        if self._pending:
            return self._write(token)
        if self.open:
            return token, self._think(token)
        if self._taken == 1 and token == self._markers.open_id and self._markers.close_id is not None:
            self._begin()
            return token, "control"
        return token, "answer"

    def replay(self, tokens: Sequence[int]) -> Iterator[tuple[int, Part]]:
        """Account for a reply decoded earlier, perhaps under other limits; yields its tokens with their parts.

        A thought is taken to have been closed at its cap where the closing tokens stand beyond it. Anything else was
        the model's own; where that is longer than the cap, the thought is closed after the replay.
        """
        at = 0
        while at < len(tokens):
            if self.free and self._thought_tokens >= self._cap:
                written = tuple(tokens[at : at + len(self._closing)])
                if written == self._closing[: len(written)]:
                    self._close("cap")
            for _ in range(max(1, min(len(self._pending), len(tokens) - at))):
                yield self.take(tokens[at])
                at += 1

    def _begin(self) -> None:
        self.open = True
        self._loop = LoopDetector(self._rule) if self._rule else None

    def _close(self, reason: ThoughtClosedBy) -> None:
        if self._markers.close_id is None:  # refused at submission; kept so that a thought without end still ends
            return
        self._reason = reason
        self._pending.extend(self._closing)

    def _write(self, token: int) -> tuple[int, Part]:
        if token == self._markers.close_id:
            self.open = False
            self.closed_by = self._reason
        self._pending.popleft()
        return token, "control"

    def _think(self, token: int) -> Part:
        if token == self._markers.close_id:
            self.open = False
            self.closed_by = "model"
            return "control"
        if token == self._markers.tool_call_id:
            self.open = False
            self.closed_by = "tool_call"
            return "answer"
        self._thought_tokens += 1
        if self._loop is not None and self._loop.push(token):
            self._close("repetition")
        return "reasoning"
