"""Read the body of one tool call; nothing is dropped.

What can be read is a call, even if the tool will refuse it (no tool of that name, arguments that break the schema):
whoever runs the tools then tells the model what is wrong. What cannot be read, or was not allowed, is an invalid call.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NoReturn

from dami_agent.dialogue.json_schema import Validator, validator
from dami_agent.types import InvalidToolCall, Step, ToolCall


def inside_string(text: str) -> bool:
    """Return whether JSON ``text`` breaks off inside a string literal."""
    inside = escaped = False
    for char in text:
        if escaped:
            escaped = False
        elif inside and char == "\\":
            escaped = True
        elif char == '"':
            inside = not inside
    return inside


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _mend(value: Any) -> Any:
    """Halves of surrogate pairs, which JSON can spell but no text can hold, become U+FFFD."""
    if isinstance(value, str):
        return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in value)
    if isinstance(value, dict):
        return {_mend(k): _mend(v) for k, v in value.items()}
    return [_mend(v) for v in value] if isinstance(value, list) else value


class CallReader:
    """Reads and checks the calls of one step."""

    def __init__(self, step: Step) -> None:
        self._tools = {tool.name: tool for tool in step.tools}
        self._choice = step.tool_choice
        self._parallel = step.parallel_tool_calls

    @cached_property
    def _validators(self) -> Mapping[str, Validator]:
        return {name: validator(tool.parameters) for name, tool in self._tools.items()}

    def read(self, body: str, *, id_: str, first: bool, closed: bool) -> ToolCall | InvalidToolCall:
        """Read the tool call that stands in ``body``.

        Args:
            body: text between ``<tool_call>`` and ``</tool_call>``.
            id_: for the call.
            first: whether it is the reply's first call.
            closed: False if the reply broke off before ``</tool_call>``.
        """
        name: str | None = None
        try:
            value = self._load(body)
            if isinstance(value, dict) and isinstance(value.get("name"), str):
                name = value["name"]
            arguments = self._arguments(value)
            if not first and not self._parallel:
                raise _Bad("a second call, but parallel tool calls are off")
            refused = self._refused(name or "", value, arguments)
        except _Bad as error:
            reason = str(error) if closed else f"{error}; it was cut off before </tool_call>"
            return InvalidToolCall(id=id_, name=name, text=body, error=reason)
        return ToolCall(id=id_, name=name or "", arguments=arguments, error=refused)

    def _load(self, body: str) -> Any:
        try:
            value = json.loads(body, parse_constant=_refuse_constant, strict=False)
            return _mend(value) if "\\u" in body else value
        except (ValueError, RecursionError) as error:
            raise _Bad(f"not valid JSON: {error}") from error

    def _arguments(self, value: Any) -> dict[str, Any]:
        """Read the arguments of an allowed call; left out, they are none."""
        if not isinstance(value, dict):
            raise _Bad('not an object {"name": …, "arguments": …}')
        name, arguments = value.get("name"), value.get("arguments")
        if not isinstance(name, str):
            raise _Bad('"name" is missing or no string')
        if not self._tools:
            raise _Bad(f"no tool named {name!r}: no tools are bound")
        if self._choice.mode == "none" or (self._choice.mode == "tool" and name != self._choice.name):
            raise _Bad(f"tool_choice does not allow a call of {name!r}")
        if arguments is None:
            return {}
        if not isinstance(arguments, dict):
            raise _Bad('"arguments" is not an object')
        return arguments

    def _refused(self, name: str, value: Mapping[str, Any], arguments: dict[str, Any]) -> str:
        """Why the tool will refuse the call; "" if it will not."""
        if name not in self._tools:
            return f"no tool named {name!r}; there is {', '.join(sorted(self._tools))}"
        where, message = self._validators[name].find(arguments) or ("", "")
        if not message:
            return ""
        if value.get("arguments") is None:
            return f'"arguments" is missing: {message}'
        return f"arguments{where} break the schema of {name!r}: {message}"


class _Bad(ValueError):
    """A tool call's body cannot be read; the message says why."""
