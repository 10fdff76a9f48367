"""Messages and tools to rendered text, by the checkpoint's own chat template.

What a template cannot do is found by trying it: a system message it would refuse or swallow is put in front of the
next user message; tools it would swallow, or whose calls it writes in a form that the parser cannot read, are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

from dami_agent.dialogue.control import ChatTokenizer, ControlEscaper, ControlGuard
from dami_agent.dialogue.sandbox import SandboxedTemplate
from dami_agent.errors import InvalidRequest
from dami_agent.types import Message, Step, Tool

KeepReasoning = Literal["template", "all", "none"]
_PROBE = "q7zprobe"
_OPENS_THOUGHT = re.compile(r"<think>\s*\Z")


@dataclass(frozen=True, slots=True)
class Rendered:
    """Hold a rendered prompt, and what is known of its end.

    Attributes:
        markers: places of the markers in untrusted control strings.
        in_thought: it opens a thought.
        continues: it ends inside an assistant message that the caller began.
    """

    text: str
    markers: list[int]
    in_thought: bool
    continues: bool = False


class ChatTemplate:
    """One checkpoint's chat template.

    Args:
        tokenizer: for ``apply_chat_template``, so that a prompt equals what transformers makes of the same messages.
        source: the Jinja template.
        guard: protects control tokens.
        keep_reasoning: of earlier turns: ``template`` as the template does (Qwen3 Thinking: only after the last user
            query; Instruct: none), ``all`` or ``none``.
    """

    def __init__(
        self, tokenizer: ChatTokenizer, source: str, guard: ControlGuard, keep_reasoning: KeepReasoning = "template"
    ) -> None:
        self._tokenizer = tokenizer
        self._source = source
        self._guard = guard
        self._keep = keep_reasoning
        self._can = lru_cache(maxsize=None)(self._probe)

    def render(self, step: Step) -> Rendered:
        """Render the prompt for the next assistant message, or for the rest of a last one that the caller began.

        A message that is continued is not thought about: its own thought, if it has one, is over.

        Raises:
            InvalidRequest: no messages, or messages or tools that this template cannot render.
        """
        if not step.messages:
            raise InvalidRequest("there are no messages", hint="pass at least one message")
        self._check_tools(step)
        messages = list(step.messages)
        if any(m.role == "system" for m in messages) and not self._can("system"):
            messages = _fold_system(messages)
        escaper = self._guard.escaper([self._source, *_texts(messages, step.tools)])
        tools = [_tool(tool, escaper) for tool in step.tools] or None
        turns = [_turn(message, escaper, self._keep != "none") for message in messages]
        continues = messages[-1].role == "assistant"
        end = f"{escaper.marker}end{escaper.marker}"
        if continues:
            check_continued(step)
            turns[-1]["content"] += end
        text = (
            self._with_all_reasoning(turns, tools, escaper, continues)
            if self._keep == "all"
            else self._apply(turns, tools, continues)
        )
        if continues:
            text, found, _ = text.rpartition(end)
            if not found:
                raise InvalidRequest(
                    "this checkpoint's chat template does not show the last assistant message as it is",
                    hint="end the messages with a human message",
                )
        in_thought = not continues and _OPENS_THOUGHT.search(text) is not None
        clean, markers = escaper.split(text)
        return Rendered(clean, markers, in_thought, continues)

    @property
    def shows_tools(self) -> bool:
        """Return whether the model is shown tools, and writes its calls in a form that can be read."""
        return "<tool_call>" in self._source and self._can("tools")

    def _check_tools(self, step: Step) -> None:
        if step.tools and not self._can("tools"):
            raise InvalidRequest(
                "this checkpoint's chat template does not show tools to the model",
                hint="use a checkpoint whose template supports tools, or call it without tools",
            )
        used = step.tools or any(m.tool_calls for m in step.messages)
        if used and "<tool_call>" not in self._source:
            raise InvalidRequest(
                "this checkpoint's chat template does not write tool calls as <tool_call>…</tool_call>",
                hint="use a checkpoint of the Qwen or Hermes format, or call it without tools",
            )

    def _apply(self, turns: Sequence[Mapping[str, Any]], tools: Any, continues: bool = False) -> str:
        """Render as transformers' ``apply_chat_template`` does, by :class:`SandboxedTemplate`."""
        special: Mapping[str, Any] = getattr(self._tokenizer, "special_tokens_map", {})
        messages = [_as_transformers(turn) for turn in turns]
        given = {"messages": messages, "tools": tools, "documents": None, "add_generation_prompt": not continues}
        return self._compiled.render({**special, **given})

    @cached_property
    def _compiled(self) -> SandboxedTemplate:
        return SandboxedTemplate(self._source)

    def _probe(self, what: str) -> bool:
        """Return whether the template shows a system message, or tools, to the model."""
        user = {"role": "user", "content": "a"}
        function = {"name": _PROBE, "description": "b", "parameters": {"type": "object", "properties": {}}}
        try:
            if what == "system":
                return _PROBE in self._apply([{"role": "system", "content": _PROBE}, user], None)
            return _PROBE in self._apply([user], [{"type": "function", "function": function}])
        except InvalidRequest:
            return False

    def _with_all_reasoning(
        self, turns: list[dict[str, Any]], tools: Any, escaper: ControlEscaper, continues: bool = False
    ) -> str:
        """Write every earlier thought as the template would, also where the template would drop it."""
        marks = {
            n: f"{escaper.marker}{n}{escaper.marker}" for n, turn in enumerate(turns) if turn.get("reasoning_content")
        }
        marked = [{**t, "reasoning_content": marks[n]} if n in marks else t for n, t in enumerate(turns)]
        shown = self._apply(marked, tools, continues)
        dropped = {n: mark for n, mark in marks.items() if mark not in shown}
        for n, mark in dropped.items():
            turns[n] = {**turns[n], "content": mark + turns[n]["content"].lstrip("\n")}
        thoughts = {n: turns[n].pop("reasoning_content") for n in dropped}
        text = self._apply(turns, tools, continues)
        for n, mark in dropped.items():
            thought = thoughts[n].strip("\n")
            text = text.replace(mark, f"<think>\n{thought}\n</think>\n\n")
        return text


def _as_transformers(turn: Mapping[str, Any]) -> dict[str, Any]:
    """Shape a turn as templates expect it: no key whose value is None, and a thought under its older name too."""
    given = {key: value for key, value in turn.items() if value is not None}
    if "reasoning_content" in given:
        given.setdefault("thinking", given["reasoning_content"])
    return given


def check_continued(step: Step) -> None:
    """Refuse a last assistant message that cannot be continued.

    Raises:
        InvalidRequest: it calls tools, holds a thought only, or must become a call or JSON.
    """
    last = step.messages[-1]
    if last.tool_calls:
        call = last.tool_calls[0]
        raise InvalidRequest(
            f"the last message calls {call.name!r} (id {call.id!r}), and nothing answers it",
            hint="add the tool's result",
        )
    if not last.content.strip():
        raise InvalidRequest(
            "the last message is an assistant's without text, so there is nothing to continue", hint="leave it out"
        )
    if step.response_format is not None or step.tool_choice.mode in ("any", "tool"):
        raise InvalidRequest(
            "the last message is an assistant's: its rest cannot be a structured output or a demanded tool call",
            hint="leave it out; the form of the answer is enforced without it",
        )


def _turn(message: Message, escaper: ControlEscaper, keep_reasoning: bool) -> dict[str, Any]:
    """Convert a message to what transformers' templates read, control strings broken."""
    turn: dict[str, Any] = {"role": message.role, "content": escaper.text(_content(message))}
    if message.name:
        turn["name"] = escaper.text(message.name)
    if message.tool_call_id:
        turn["tool_call_id"] = escaper.text(message.tool_call_id)
    if message.reasoning and keep_reasoning:
        turn["reasoning_content"] = escaper.text(message.reasoning)
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "type": "function",
                "id": escaper.text(call.id),
                "function": {"name": escaper.text(call.name), "arguments": escaper.value(call.arguments)},
            }
            for call in message.tool_calls
        ]
    return turn


def _content(message: Message) -> str:
    """Return the content; a failed tool's result says that it is an error, unless it does already."""
    if message.role == "tool" and message.status == "error":
        text = message.content.lstrip()
        if not text:
            return "Error"
        if not text.lower().startswith("error"):
            return f"Error: {message.content}"
    return message.content


def _tool(tool: Tool, escaper: ControlEscaper) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": escaper.value(function)}


def _fold_system(messages: list[Message]) -> list[Message]:
    """System messages in front of the next user message's text, for a template without a system turn."""
    held: list[str] = []
    folded: list[Message] = []
    for message in messages:
        if message.role == "system":
            held.append(message.content)
        elif message.role == "user" and held:
            folded.append(Message(role="user", name=message.name, content="\n\n".join([*held, message.content])))
            held = []
        else:
            folded.append(message)
    if held:
        folded.append(Message(role="user", content="\n\n".join(held)))
    return folded


def _texts(messages: Sequence[Message], tools: Sequence[Tool]) -> list[str]:
    """Return all text the template is going to see."""
    found: list[str] = []
    collect(found.append, [(m.content, m.name, m.reasoning, m.tool_call_id) for m in messages])
    collect(found.append, [(c.id, c.name, c.arguments) for m in messages for c in m.tool_calls])
    collect(found.append, [(t.name, t.description, t.parameters) for t in tools])
    return found


def collect(add: Callable[[str], None], value: Any) -> None:
    """Collect every string in a JSON-like value, keys included."""
    if isinstance(value, str):
        add(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            add(str(key))
            collect(add, item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            collect(add, item)
