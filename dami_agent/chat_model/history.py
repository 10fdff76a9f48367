"""LangChain messages of any model as the package's own, each tool result beside the call it belongs to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from dami_agent.chat_model.blocks import blocks_of, text_of, thought_of
from dami_agent.errors import DamiError, InvalidRequest
from dami_agent.types import Message, ToolCall

_TEXT_ROLES = {"system": "system", "user": "user", "assistant": "assistant", "developer": "system", "human": "user"}
_CALLS = frozenset({"tool_use", "tool_call", "function_call", "custom_tool_call"})
_RESULTS = frozenset({"tool_result"})

Placed = tuple[int, Message]
"""A message, and the place in the caller's list that it comes from."""


def to_messages(messages: Sequence[BaseMessage]) -> tuple[Message, ...]:
    """Convert LangChain's messages to ours.

    Results of tools are matched to their calls by id and put into the order of the calls. A last assistant message
    without any text is left out: continuing it is writing a new one.

    Raises:
        InvalidRequest: no messages; a person's block that is not text; an unknown role; a tool result whose call is
            missing, or a call whose result is.
    """
    if not messages:
        raise InvalidRequest("there are no messages", hint="pass at least one human message")
    placed = [(place, own) for place, message in enumerate(messages) for own in _whole(message, place)]
    paired = _paired(placed, _unreadable_ids(messages))
    if paired and paired[-1].role == "assistant" and not (paired[-1].content.strip() or paired[-1].reasoning):
        paired.pop()
    if not paired:
        raise InvalidRequest("there is nothing to answer", hint="pass at least one human message")
    return tuple(paired)


def _whole(message: BaseMessage, place: int) -> list[Message]:
    """Read one message; blocks come from anywhere, so whatever they break, the message is to blame."""
    try:
        return list(_read(message, place))
    except DamiError:
        raise
    except Exception as error:
        raise InvalidRequest(f"message {place} cannot be read: {error or type(error).__name__}") from error


def _read(message: BaseMessage, place: int) -> Iterator[Message]:
    if isinstance(message, AIMessage):
        yield Message(
            role="assistant",
            content=text_of(message.content, place) or _spoken(message),
            name=message.name,
            reasoning=_reasoning(message),
            tool_calls=tuple(_calls(message, place)),
        )
    elif isinstance(message, ToolMessage):
        yield Message(
            role="tool",
            content=text_of(message.content, place),
            name=message.name,
            tool_call_id=message.tool_call_id,
            status=message.status,
        )
    elif isinstance(message, FunctionMessage):
        yield Message(role="tool", content=text_of(message.content, place), name=message.name)
    elif isinstance(message, SystemMessage):
        yield Message(role="system", content=text_of(message.content, place, asked=True), name=message.name)
    elif isinstance(message, HumanMessage):
        yield from _asked(message, place)
    elif isinstance(message, ChatMessage) and message.role in _TEXT_ROLES:
        role = _TEXT_ROLES[message.role]
        text = text_of(message.content, place, asked=role != "assistant")
        yield Message(role=role, content=text, name=message.name)  # type: ignore[arg-type]
    else:
        raise InvalidRequest(
            f"message {place} has an unsupported type {type(message).__name__}",
            hint="use SystemMessage, HumanMessage, AIMessage or ToolMessage",
        )


def _asked(message: HumanMessage, place: int) -> Iterator[Message]:
    """Read a person's message; results of tools in it (Anthropic's API) come before it, as tools' messages."""
    results = [block for block in blocks_of(message.content, _RESULTS) if isinstance(block.get("tool_use_id"), str)]
    for block in results:
        status: Any = "error" if block.get("is_error") else "success"
        text = text_of(block.get("content") or "", place)
        yield Message(role="tool", content=text, tool_call_id=block["tool_use_id"], status=status)
    content = message.content
    if results and isinstance(content, list):
        content = [block for block in content if not any(block is result for result in results)]
    if content or not results:
        yield Message(role="user", content=text_of(content, place, asked=True), name=message.name)


def _reasoning(message: AIMessage) -> str | None:
    """Return an earlier turn's thought, wherever LangChain keeps it."""
    kept = message.additional_kwargs.get("reasoning_content")
    return (kept if isinstance(kept, str) else thought_of(message.content)) or None


def _spoken(message: AIMessage) -> str:
    """Return what a model said aloud (OpenAI's audio output), or why it refused (OpenAI's chat completions)."""
    audio, refusal = message.additional_kwargs.get("audio"), message.additional_kwargs.get("refusal")
    transcript = audio.get("transcript") if isinstance(audio, Mapping) else None
    return next((text for text in (transcript, refusal) if isinstance(text, str)), "")


# ---- calls and their results ---------------------------------------------------------------------------------------


def _calls(message: AIMessage, place: int) -> Iterator[ToolCall]:
    """Yield the message's calls, and those that only its blocks tell of."""
    taken = {call["id"] for call in (*message.tool_calls, *message.invalid_tool_calls)}
    for number, call in enumerate(message.tool_calls):
        yield ToolCall(id=call["id"] or f"call_{place}_{number}", name=call["name"], arguments=call["args"])
    for block in blocks_of(message.content, _CALLS):
        id_, name = block.get("call_id") or block.get("id"), block.get("name")
        if isinstance(id_, str) and isinstance(name, str) and id_ not in taken:
            given: Any = next((block[key] for key in ("input", "arguments", "args") if block.get(key) is not None), {})
            yield ToolCall(id=id_, name=name, arguments=_arguments(given))
    legacy = message.additional_kwargs.get("function_call")
    if isinstance(legacy, Mapping) and isinstance(legacy.get("name"), str) and not message.tool_calls:
        yield ToolCall(id=f"call_{place}", name=legacy["name"], arguments=_arguments(legacy.get("arguments")))


def _arguments(given: Any) -> Mapping[str, Any]:
    if isinstance(given, str):
        try:
            given = json.loads(given or "{}", strict=False)
        except ValueError:
            return {"input": given}  # OpenAI's custom tools take text
    return given if isinstance(given, Mapping) else {"input": given}


def _unreadable_ids(messages: Iterable[BaseMessage]) -> set[str]:
    """Return the ids of calls that could not be read; a caller may have answered them all the same."""
    found = (call["id"] for m in messages if isinstance(m, AIMessage) for call in m.invalid_tool_calls)
    return {id_ for id_ in found if id_}


def _paired(messages: Sequence[Placed], unreadable: set[str]) -> list[Message]:
    """Return the messages with each tool result behind its call, in the order of the calls."""
    result: list[Message] = []
    waiting = _Waiting(0, ())
    for place, message in messages:
        if message.role != "tool":
            result += waiting.results()
            result.append(message)
            waiting = _Waiting(place, message.tool_calls)
        elif not waiting.take(message):
            if message.tool_call_id not in unreadable:
                raise _unmatched(place, message, waiting)
            result.append(message)
    return [*result, *waiting.results()]


class _Waiting:
    """The calls of one assistant message, and those of their results that have come."""

    def __init__(self, place: int, calls: Sequence[ToolCall]) -> None:
        self._place = place
        self.calls = calls
        self._found: dict[int, Message] = {}

    def take(self, result: Message) -> bool:
        """Return whether ``result`` belongs to one of the calls: by its id, or by its name if it has no id."""
        for number, call in enumerate(self.calls):
            same = call.id == result.tool_call_id if result.tool_call_id else result.name in (None, call.name)
            if same and number not in self._found:
                self._found[number] = result
                return True
        return False

    def results(self) -> list[Message]:
        """Return all results, in the order of the calls."""
        for number, call in enumerate(self.calls):
            if number not in self._found:
                raise InvalidRequest(
                    f"message {self._place} calls {call.name!r} (id {call.id!r}), but no tool message right after it "
                    "has the result",
                    hint=f"add ToolMessage(..., tool_call_id={call.id!r}), or leave the call out",
                )
        return [self._found[number] for number in range(len(self.calls))]


def _unmatched(place: int, message: Message, waiting: _Waiting) -> InvalidRequest:
    twice = any(call.id == message.tool_call_id for call in waiting.calls)
    what = "answers a call that has its result already" if twice else "answers no call of the message before it"
    return InvalidRequest(
        f"message {place} ({message.name or 'a tool'}'s result, tool_call_id {message.tool_call_id!r}) {what}",
        hint="keep the AIMessage with that call; trim_messages(..., start_on='human') cuts no pair apart",
    )
