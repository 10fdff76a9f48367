"""``with_structured_output``: a grammar makes the answer fit the schema; this turns it into the object asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import TypeBaseModel, is_basemodel_subclass
from pydantic import BaseModel, ValidationError

from dami_agent.errors import InvalidRequest, InvalidSchema, OutputError, OutputInvalid, OutputTruncated

Method = Literal["json_schema", "function_calling", "json_mode"]


def structured_output(
    model: Runnable[Any, Any], schema: Any, *, method: Method, include_raw: bool
) -> Runnable[Any, Any]:
    """``model`` bound to ``schema`` and followed by its parser; see ``ChatDAMI.with_structured_output``."""
    if method not in ("json_schema", "function_calling", "json_mode"):
        raise InvalidRequest(
            f"unknown structured output method {method!r}", hint="json_schema, function_calling or json_mode"
        )
    if schema is None and method != "json_mode":
        raise InvalidSchema(f"method {method!r} needs a schema")
    llm = model.bind(**_binding(schema, method))
    parse = _parser(schema, method)
    # One step after the model, not a RunnableMap around it: settings given at the call then still reach the model.
    after: Callable[[AIMessage], Any] = _keeping_raw(parse) if include_raw else parse
    return llm | RunnableLambda(after, name="StructuredOutputParser")


def _keeping_raw(parse: Callable[[AIMessage], Any]) -> Callable[[AIMessage], dict[str, Any]]:
    def both(message: AIMessage) -> dict[str, Any]:
        try:
            return {"raw": message, "parsed": parse(message), "parsing_error": None}
        except OutputError as error:
            return {"raw": message, "parsed": None, "parsing_error": error}

    return both


def _binding(schema: Any, method: Method) -> dict[str, Any]:
    traced = {"ls_structured_output_format": {"kwargs": {"method": method}, "schema": schema}} if schema else {}
    if method == "function_calling":
        tool = convert_to_openai_tool(schema)
        return {"tools": [tool], "tool_choice": tool["function"]["name"], "parallel_tool_calls": False, **traced}
    if schema is None:
        return {"response_format": {"type": "json_object"}}
    json_schema = _json_schema(schema)
    if method == "json_mode":  # held to the schema too: the prompt asks for those keys, the grammar sees to it
        return {"response_format": {"type": "json_object", "schema": json_schema}, **traced}
    named = {"name": json_schema.get("title", "response"), "schema": json_schema}
    return {"response_format": {"type": "json_schema", "json_schema": named}, **traced}


def _json_schema(schema: Any) -> dict[str, Any]:
    if _is_pydantic(schema) and issubclass(schema, BaseModel):
        return dict(schema.model_json_schema())
    try:
        return dict(convert_to_json_schema(schema))
    except (TypeError, ValueError) as error:
        raise InvalidSchema(f"cannot make a JSON schema of {schema!r}: {error}") from error


def _is_pydantic(schema: Any) -> bool:
    return isinstance(schema, type) and is_basemodel_subclass(schema)


def _parser(schema: Any, method: Method) -> Callable[[AIMessage], Any]:
    validate: Callable[[Any], Any] = _validator(schema) if _is_pydantic(schema) else lambda value: value

    def parse(message: AIMessage) -> Any:
        text = message.text
        if message.response_metadata.get("finish_reason") == "length":
            raise OutputTruncated(
                "a token cap came before the structured output was complete",
                text=text,
                hint="raise max_tokens, or cap the thought with max_reasoning_tokens",
            )
        if method == "function_calling":
            if not message.tool_calls:
                raise OutputInvalid("the model called no tool", text=text)
            return validate(message.tool_calls[0]["args"])
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            raise OutputInvalid(f"the output is not JSON: {error}", text=text) from error
        return validate(value)

    return parse


def _validator(schema: TypeBaseModel) -> Callable[[Any], Any]:
    def validate(value: Any) -> Any:
        try:
            return schema.model_validate(value) if issubclass(schema, BaseModel) else schema.parse_obj(value)
        except (ValidationError, ValueError) as error:
            raise OutputInvalid(f"the output does not validate: {error}", text=json.dumps(value)) from error

    return validate
