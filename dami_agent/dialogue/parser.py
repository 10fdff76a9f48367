"""Parse tokens into a reply as they come: reasoning, answer, tool calls; the same whether streamed or not.

The engine decides where the thought ends (``TokenEvent.part``); this module trusts it. The answer is read as text:

    newlines at its start and around tool calls belong to the format and are dropped (at the start of a message that
    is continued they belong to its text);
    ``<tool_call>`` opens a call; ``</tool_call>`` outside a JSON string, the next ``<tool_call>`` or the end closes it;
    what stands between is a call, or an invalid one, kept whole with the reason (see :mod:`calls`).

Text before, between and after calls is the content, joined by a newline where a call stood between. A structured output
that does not begin with a call is content throughout.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from dami_agent.dialogue.calls import CallReader, inside_string
from dami_agent.dialogue.text import StopCutter, TokenText, held_back
from dami_agent.types import Generation, InvalidToolCall, Prompt, Reply, Step, TokenEvent, ToolCall

OPEN, CLOSE = "<tool_call>", "</tool_call>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """One piece of a reply in the making.

    Attributes:
        kind: ``reasoning`` and ``text`` carry ``text``; ``partial_call`` too, of a structured output asked for by a
            call; the others a whole call, when it is complete and checked.
        text: a piece of the reasoning or the content; all pieces joined are the reply's. Of a ``partial_call``, all
            that is written of the call so far.
        call: the call; valid and invalid ones come in the order the model wrote them.
        index: 1, 2, … for calls, valid and invalid counted together; 0 for text.
    """

    kind: Literal["reasoning", "text", "partial_call", "tool_call", "invalid_tool_call"]
    text: str = ""
    call: ToolCall | InvalidToolCall | None = None
    index: int = 0


class _Reasoning:
    """The thought's text: without a ``<think>`` the model wrote itself, and without newlines at both ends."""

    def __init__(self) -> None:
        self._held = ""
        self._begun = False
        self._lead = ""

    def feed(self, text: str) -> str:
        if not self._begun:
            self._lead += text
            body = self._lead.lstrip("\n")
            if not body or "<think>".startswith(body):
                return ""
            text = body.removeprefix("<think>").lstrip("\n") if body.startswith("<think>") else body
            if not text:
                self._lead = body
                return ""
            self._begun, self._lead = True, ""
        self._held += text
        out = self._held.rstrip("\n")
        self._held = self._held[len(out) :]
        return out

    def finish(self) -> str:
        """Return what was held back and is text after all, of a thought that might have begun with ``<think>``."""
        lead, self._lead, self._held = self._lead.strip("\n"), "", ""
        return lead.removeprefix("<think>").strip("\n")


class _Content:
    """The content's text, given out piecewise: newlines before a call or at the very start are dropped."""

    def __init__(self, *, continues: bool = False) -> None:
        self._held = ""
        self._fresh = not continues  # nothing but newlines since the start or since the last call
        self._any = continues

    def feed(self, text: str) -> str:
        if self._fresh:
            text = text.lstrip("\n")
            if not text:
                return ""
            if self._any:
                text = "\n" + text
            self._fresh, self._any = False, True
        text = self._held + text
        out = text.rstrip("\n")
        self._held = text[len(out) :]
        return out

    def call(self) -> None:
        """Begin a call: newlines before it are no content."""
        self._held, self._fresh = "", True

    def finish(self) -> str:
        out, self._held = self._held, ""
        return out


class _Calls:
    """Splits the answer into content and the bodies of tool calls.

    With ``json_or_calls`` (structured output) an answer that does not begin with a call has none: it is JSON, and
    ``<tool_call>`` in one of its strings is text.
    """

    def __init__(
        self, on_text: Callable[[str], None], on_call: Callable[[str, bool], None], *, json_or_calls: bool = False
    ) -> None:
        self._on_text, self._on_call = on_text, on_call
        self._buffer = ""
        self._undecided = json_or_calls
        self._marker: tuple[str, ...] = (OPEN,)
        self._inside = False
        self._seen = 0  # how far the body was searched in vain

    def feed(self, text: str, *, last: bool = False) -> None:
        self._buffer += text
        while self._advance(last):
            pass

    @property
    def begun(self) -> str:
        """Return the body of a call that is not complete yet; "" outside a call."""
        return self._buffer if self._inside else ""

    def _advance(self, last: bool) -> bool:
        return self._advance_call(last) if self._inside else self._advance_text(last)

    def _advance_text(self, last: bool) -> bool:
        if self._undecided:
            begin = self._buffer.lstrip("\n")
            if OPEN.startswith(begin) and begin != OPEN and not last:
                return False
            self._undecided = False
            self._marker = (OPEN,) if begin.startswith(OPEN) else ()
        at = self._buffer.find(OPEN) if self._marker else -1
        if at < 0:
            keep = 0 if last else held_back(self._buffer, self._marker)
            cut = len(self._buffer) - keep
            if cut:
                self._on_text(self._buffer[:cut])
            self._buffer = self._buffer[cut:]
            return False
        if at:
            self._on_text(self._buffer[:at])
        self._buffer, self._inside, self._seen = self._buffer[at + len(OPEN) :], True, 0
        return True

    def _advance_call(self, last: bool) -> bool:
        body = self._buffer
        while (end := self._next_end(self._seen)) is not None:
            at, marker = end
            if not inside_string(body[:at]):
                return self._close(at, marker)
            self._seen = at + 1
        if not last:
            self._seen = max(self._seen, len(body) - len(CLOSE) + 1)
            return False
        # The end came inside a JSON string or before any end marker: the first marker, if there is one, was the end.
        first = self._next_end(0)
        if first is not None:
            return self._close(*first)
        self._on_call(body, False)
        self._buffer, self._inside = "", False
        return False

    def _close(self, at: int, marker: str) -> bool:
        body, rest = self._buffer[:at], self._buffer[at:]
        self._buffer = rest[len(CLOSE) :] if marker == CLOSE else rest
        self._inside = False
        self._on_call(body, marker == CLOSE)
        return True

    def _next_end(self, start: int) -> tuple[int, str] | None:
        ends = [(at, m) for m in (CLOSE, OPEN) if (at := self._buffer.find(m, max(0, start))) >= 0]
        return min(ends, default=None)


class ReplyParser:
    """Reads one generation's tokens in order. ``feed`` each, then ``finish`` once."""

    def __init__(self, text: TokenText, reader: CallReader, prompt: Prompt, step: Step) -> None:
        self._streams = text
        self._reader = reader
        self._key = hashlib.blake2b(
            repr((step.run_context.call_id, prompt.token_ids)).encode(), digest_size=9
        ).hexdigest()
        self._part: str | None = None
        self._stream = text.stream()
        self._reasoning = _Reasoning()
        self._stop = StopCutter(step.limits.stop, continues=prompt.continues)
        self._content = _Content(continues=prompt.continues)
        self._calls = _Calls(self._on_text, self._on_call, json_or_calls=step.response_format is not None)
        self._by_call = step.structured and step.tool_choice.mode == "tool"
        self._deltas: list[Delta] = []
        self._all: list[Delta] = []

    def feed(self, event: TokenEvent) -> list[Delta]:
        """Take a token, and return the deltas that it makes certain. Tokens come in the order of the generation."""
        part = event.part
        if part == "control":
            if self._streams.is_call_open(event.token_id):
                part = "answer"  # it closes the thought, and opens the call
            else:
                self._flush()
                self._part = None
                return self._take()
        if part != self._part:
            self._flush()
            if part == "answer":
                self._emit("reasoning", self._reasoning.finish())
            self._part = part
        self._text(self._stream.feed(event.token_id))
        return self._take()

    def finish(self, generation: Generation) -> tuple[list[Delta], Reply]:
        """Return the rest of the deltas, and the whole reply; ``generation`` says why it ended."""
        self._flush()
        self._emit("reasoning", self._reasoning.finish())
        self._calls.feed(self._stop.finish(), last=True)
        self._emit("text", self._content.finish())
        deltas = self._take()
        calls = tuple(d.call for d in self._all if isinstance(d.call, ToolCall))
        finish: Literal["stop", "length", "tool_calls"] = generation.finish_reason
        if finish == "stop" and calls:
            finish = "tool_calls"
        reply = Reply(
            content="".join(d.text for d in self._all if d.kind == "text"),
            reasoning="".join(d.text for d in self._all if d.kind == "reasoning"),
            tool_calls=calls,
            invalid_tool_calls=tuple(d.call for d in self._all if isinstance(d.call, InvalidToolCall)),
            finish_reason=finish,
        )
        return deltas, reply

    def read(self, events: Sequence[TokenEvent]) -> list[Delta]:
        """Feed many tokens, and return all their deltas."""
        return [delta for event in events for delta in self.feed(event)]

    def _flush(self) -> None:
        """End a part: characters that are still incomplete will stay so."""
        self._text(self._stream.finish())
        self._stream = self._streams.stream()

    def _text(self, text: str) -> None:
        if not text:
            return
        if self._part == "reasoning":
            self._emit("reasoning", self._reasoning.feed(text))
        elif self._part == "answer":
            self._calls.feed(self._stop.feed(text))
            if self._by_call and self._calls.begun:
                self._deltas.append(Delta(kind="partial_call", text=self._calls.begun))

    def _on_text(self, text: str) -> None:
        self._emit("text", self._content.feed(text))

    def _on_call(self, body: str, closed: bool) -> None:
        self._content.call()
        index = 1 + sum(d.call is not None for d in self._all)
        call = self._reader.read(body, id_=f"call_{self._key}{index:02d}", first=index == 1, closed=closed)
        kind: Literal["tool_call", "invalid_tool_call"] = (
            "tool_call" if isinstance(call, ToolCall) else "invalid_tool_call"
        )
        self._add(Delta(kind=kind, call=call, index=index))

    def _emit(self, kind: Literal["reasoning", "text"], text: str) -> None:
        if text:
            self._add(Delta(kind=kind, text=text))

    def _add(self, delta: Delta) -> None:
        self._deltas.append(delta)
        self._all.append(delta)

    def _take(self) -> list[Delta]:
        deltas, self._deltas = self._deltas, []
        return deltas
