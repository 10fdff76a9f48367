"""Bind tools to a chat model, plain or configurable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool

from dami_agent.chat_model import request
from dami_agent.chat_model.langchain_errors import langchain_errors
from dami_agent.dialogue.json_schema import strict_schema
from dami_agent.errors import one_error

__all__ = ["bind_tools_of"]


@langchain_errors()
@one_error("the tools")
def bind_tools_of(
    model: Runnable[Any, Any],
    tools: Sequence[Any],
    tool_choice: Any,
    parallel_tool_calls: bool | None,
    kwargs: dict[str, Any],
) -> Runnable[LanguageModelInput, AIMessage]:
    """Check tools now, and bind what the call needs to a plain or a configurable model.

    Args:
        model: what to bind to.
        tools: in any form that LangChain converts.
        tool_choice: as LangChain's ``bind_tools`` takes it.
        parallel_tool_calls: False for at most one call per reply; None leaves it to the call.
        kwargs: further call arguments; ``strict`` applies to every tool that does not say itself.

    Raises:
        InvalidRequest, InvalidSchema: a tool or choice that cannot be used.
    """
    strict = kwargs.pop("strict", None)
    request.tool_choice(tool_choice, request.tools(tools, strict))
    given = [convert_to_openai_tool(tool) for tool in tools]
    if strict is not None:  # LangChain's own strict form closes free objects too, and requires nothing
        given = [{**tool, "function": _with_strict(tool["function"], strict)} for tool in given]
    bound: dict[str, Any] = {"tools": given, **kwargs}
    if tool_choice is not None:
        bound["tool_choice"] = tool_choice
    if parallel_tool_calls is not None:
        bound["parallel_tool_calls"] = parallel_tool_calls
    return model.bind(**bound)


def _with_strict(function: dict[str, Any], strict: bool) -> dict[str, Any]:
    """Return an OpenAI function that states itself how far it is enforced."""
    said = {"strict": strict, **function}
    if said["strict"]:
        parameters = function.get("parameters") or {"type": "object", "properties": {}}
        said["parameters"] = strict_schema(parameters, f"tool {function['name']!r}")
    return said
