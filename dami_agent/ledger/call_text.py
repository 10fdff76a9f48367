"""Keep the text of a call only where the user asks for it, and redact all text that is kept."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from dami_agent.ledger.database import first_line
from dami_agent.ledger.plain import plain, storable
from dami_agent.types import CallRecord, Message, Reply, ResponseFormat, Step, Tool, ToolCall, ToolChoice

log = logging.getLogger("dami_agent.ledger")
Redact = Callable[[str], str]
TEXTS = ("prompt_text", "reasoning_text", "answer_text")
FAILED = "<redaction failed>"


class Redaction:
    """Applies the user's hook to every string it is shown; a hook that fails leaks nothing and breaks nothing."""

    def __init__(self, hook: Redact | None) -> None:
        self.hook = hook
        self._warned = False

    def __call__(self, value: Any) -> Any:
        """Redact the strings of ``value``; keys of mappings stay as they are."""
        if self.hook is None:
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            return {key: self(inner) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [self(inner) for inner in value]
        return value

    def _text(self, text: str) -> str:
        assert self.hook is not None
        redacted: Any
        try:
            redacted = self.hook(text)
        except Exception as e:  # the user's code must not break the answer
            self._warn(first_line(e))
            return FAILED
        if not isinstance(redacted, str):
            self._warn(f"it returned {type(redacted).__name__}, not str")
            return FAILED
        return redacted

    def _warn(self, why: str) -> None:
        if not self._warned:
            self._warned = True
            log.warning("the ledger's redaction hook failed (%s); %r is kept instead of the text", why, FAILED)


def texts_of(record: CallRecord, redact: Redaction) -> dict[str, str | None]:
    """Fill the columns ``prompt_text`` (JSON, see :func:`step_of`), ``reasoning_text`` and ``answer_text``, uncut."""
    try:
        return _texts(record.step, record.reply, redact)
    except Exception as e:  # arguments of a foreign tool call that JSON cannot hold, and whatever else they do
        log.warning("the text of call %s cannot be kept: %s", plain(record.step.run_context.call_id), first_line(e))
        return dict.fromkeys(TEXTS)


def _texts(step: Step, reply: Reply | None, redact: Redaction) -> dict[str, str | None]:
    asked = {
        "messages": [_message(m, redact) for m in step.messages],
        "tools": [{**redact(dataclasses.asdict(t)), "name": t.name} for t in step.tools],
        "tool_choice": dataclasses.asdict(step.tool_choice),
        "parallel_tool_calls": step.parallel_tool_calls,
        "structured": step.structured,
        "response_format": redact(dataclasses.asdict(step.response_format)) if step.response_format else None,
    }
    return {
        "prompt_text": storable(json.dumps(asked, ensure_ascii=False, default=str)),
        "reasoning_text": None if reply is None else storable(redact(reply.reasoning)),
        "answer_text": None if reply is None else storable(_answer(reply, redact)),
    }


def step_of(text: str) -> Step:
    """Rebuild the step whose ``prompt_text`` this is: messages, tools and form, without settings and run context."""
    asked = json.loads(text)
    form = asked["response_format"]
    return Step(
        messages=tuple(
            Message(**{**m, "tool_calls": tuple(ToolCall(**c) for c in m["tool_calls"])}) for m in asked["messages"]
        ),
        tools=tuple(Tool(**tool) for tool in asked["tools"]),
        tool_choice=ToolChoice(**asked["tool_choice"]),
        parallel_tool_calls=asked["parallel_tool_calls"],
        structured=asked["structured"],
        response_format=None if form is None else ResponseFormat(**form),
    )


def _message(message: Message, redact: Redaction) -> dict[str, Any]:
    return {
        "role": message.role,
        "content": redact(message.content),
        "name": message.name,
        "reasoning": redact(message.reasoning),
        "tool_calls": [{"id": c.id, "name": c.name, "arguments": redact(c.arguments)} for c in message.tool_calls],
        "tool_call_id": message.tool_call_id,
        "status": message.status,
    }


def _answer(reply: Reply, redact: Redaction) -> str:
    """Join content and then tool calls, as the model writes them."""
    calls = [{"name": c.name, "arguments": redact(c.arguments)} for c in reply.tool_calls]
    bodies = [json.dumps(call, ensure_ascii=False, default=str) for call in calls]
    bodies += [redact(call.text) for call in reply.invalid_tool_calls]
    blocks = [f"<tool_call>\n{body}\n</tool_call>" for body in bodies]
    return "\n".join(([redact(reply.content)] if reply.content else []) + blocks)
