"""When the thought begins and how it ends: a state machine over token ids, without torch.

States: *before* (nothing decoded), *thinking*, *closing* (the engine writes the closing tokens) and *answering*.
The thought ends when

- the model writes the close marker (``model``),
- its cap is reached (``cap``), an end-of-sequence comes inside it (``eos``) or it runs in a circle (``repetition``):
  then the engine writes the close marker and the tokens that follow it in a chat, and the answer is decoded,
- the model writes ``<tool_call>`` (``tool_call``): that token and all after it are the answer.

The closing tokens are output (they count against ``max_tokens``) with part ``control``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

from dami_agent.runtime.repetition import LoopDetector, LoopRule
from dami_agent.types import Limits, Part, ThoughtClosedBy

__all__ = ["Thought", "ThoughtMarkers", "thought_cap"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ThoughtMarkers:
    """Ids of the control tokens around a thought; None where the vocabulary has no single token for one.

    Attributes:
        open_id: ``<think>``.
        close_id: ``</think>``.
        tool_call_id: ``<tool_call>``.
        after_close_ids: what a chat has between the close marker and the answer (``"\\n\\n"``); the engine writes
            it when it closes the thought itself.
    """

    open_id: int | None = None
    close_id: int | None = None
    tool_call_id: int | None = None
    after_close_ids: tuple[int, ...] = ()


def thought_cap(limits: Limits, max_tokens: int, closing: int) -> int:
    """Most tokens of the thought before the engine closes it.

    ``min(max_reasoning_tokens, max_tokens - answer_reserve)``; where tokens are reserved for the answer, the
    ``closing`` tokens come out of the thought's share, so that the reserve is the answer's alone.
    """
    cap = max_tokens
    if limits.answer_reserve:
        cap = max(0, max_tokens - limits.answer_reserve - closing)
    return cap if limits.max_reasoning_tokens is None else min(cap, limits.max_reasoning_tokens)


class Thought:
    """Follows one reply token by token. Per token: ask :meth:`forced`, else decode one; then :meth:`take` it.

    Args:
        markers: control tokens; without a close marker no thought can begin.
        eos_ids: end-of-sequence tokens.
        in_thought: the prompt ends inside the thought.
        cap: most tokens of the thought.
        rule: when a repetition counts as run away; None never.
    """

    def __init__(
        self,
        markers: ThoughtMarkers,
        eos_ids: Collection[int],
        *,
        in_thought: bool,
        cap: int,
        rule: LoopRule | None = None,
    ) -> None:
        self._markers = markers
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
        """Whether the next token is the model's choice inside the thought."""
        return self.open and not self._pending

    def forced(self) -> int | None:
        """The token that the engine writes now in place of the model, or None."""
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

    def replay(self, token: int) -> Part:
        """Account for a token of a reply decoded earlier, perhaps under other limits; returns its part."""
        if self.forced() not in (None, token):
            self._pending.clear()  # it was not closed then; it will be after the replay
        return self.take(token)[1]

    def _begin(self) -> None:
        self.open = True
        self._loop = LoopDetector(self._rule) if self._rule else None

    def _close(self, reason: ThoughtClosedBy) -> None:
        if self._markers.close_id is None:  # refused at submission; kept so that a thought without end still ends
            return
        self._reason = reason
        self._pending.extend((self._markers.close_id, *self._markers.after_close_ids))

    def _write(self, token: int) -> tuple[int, Part]:
        if self.open:
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
