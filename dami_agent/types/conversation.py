"""Define conversation types: messages, tools, tool calls, replies and response formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dami_agent.types.intensity import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """Represents a tool call the model made: parsed name and JSON arguments.

    Attributes:
        id: unique within the conversation.
        error: why the tool will refuse it: no tool of that name is bound, or the arguments break its schema. Empty for
            a call that can be run. Whoever runs the tools tells the model, as they do when a tool raises.
    """

    id: str
    name: str
    arguments: Mapping[str, Any]
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InvalidToolCall:
    """Holds text after ``<tool_call>`` that cannot be read as a call, or a call that was not allowed.

    Attributes:
        text: all that stood there.
        error: why it is no call.
    """

    id: str
    name: str | None
    text: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Holds a parsed generation. ``content`` is the answer's text without tool calls; nothing generated is lost."""

    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    invalid_tool_calls: tuple[InvalidToolCall, ...] = ()
    finish_reason: Literal["stop", "length", "tool_calls"] = "stop"
    accepted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Holds one message of the conversation. ``reasoning`` is an earlier turn's thought, apart from ``content``."""

    role: Role
    content: str = ""
    name: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    status: Literal["success", "error"] = "success"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """Describes a tool bound to the step.

    Attributes:
        parameters: JSON schema (draft 2020-12) of its arguments object.
        strict: whether arguments can only follow ``parameters``, by a grammar. False: they are some JSON object, which
            is checked when the call is finished.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    strict: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolChoice:
    """Says which tool must be called: ``auto`` may, ``any`` must, ``none`` must not, ``tool`` must call ``name``."""

    mode: Literal["auto", "any", "none", "tool"] = "auto"
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseFormat:
    """Asks for structured output: a JSON schema, or any JSON object when ``schema`` is None (``json_mode``).

    If ``strict``, an object that declares properties and says nothing of others has no others.
    """

    schema: Mapping[str, Any] | None = None
    name: str = "response"
    strict: bool = True
