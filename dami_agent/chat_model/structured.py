"""Turn answers into objects for ``with_structured_output``; a grammar has made them fit the schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import TypeBaseModel, is_basemodel_subclass
from pydantic import BaseModel, ValidationError

from dami_agent.chat_model.langchain_errors import langchain_errors
from dami_agent.chat_model.structured_stream import StructuredOutputParser, partial_arguments, partial_json
from dami_agent.dialogue.json_schema import strict_schema, validator
from dami_agent.errors import InvalidRequest, InvalidSchema, OutputError, OutputInvalid, OutputTruncated
from dami_agent.types import Reply

Method = Literal["json_schema", "function_calling", "json_mode"]
_LEFT_TO_THE_PAIR: tuple[Method, Method] = ("function_calling", "json_schema")


@dataclass(frozen=True)
class Structured:
    """The object that a call asks for; bound beside what the engine needs, for the policy to see and check.

    LangChain takes its own ``ls_structured_output_format`` out of a call before the model gets it. Without a method it
    is a forced tool call, or ``json_schema`` where :func:`for_pair` finds that the pair's templates show no tools.
    """

    schema: Any
    method: Method | None
    strict: bool = False

    @classmethod
    def of(cls, call: Mapping[str, Any]) -> Structured | None:
        """Return what a call asks for: by ``with_structured_output``, else by a ``response_format`` of its own."""
        given = call.get("response_format")
        if "structured_output" in call or given is None or (isinstance(given, Mapping) and given.get("type") == "text"):
            return call.get("structured_output")
        return cls(given if _is_pydantic(given) else None, "json_schema")

    def check(self, reply: Reply) -> str:
        """Return what is wrong with a reply, "" if it is the object or, where tools are bound too, calls one."""
        if self.method != "function_calling" and reply.tool_calls:
            return ""
        calls = [dict(call.arguments) for call in reply.tool_calls]
        try:
            _reader(self.schema, self.method or "function_calling")(reply.finish_reason, reply.content, calls)
        except OutputError as error:
            return error.message
        return ""


def for_pair(call: dict[str, Any], *, shows_tools: Callable[[], bool]) -> dict[str, Any]:
    """Choose the method of a call's structured output, if that was left to the pair.

    Args:
        call: the arguments of a call, as :func:`structured_output` has bound them.
        shows_tools: whether the pair's templates show tools to the model; asked only where it matters.
    """
    wanted = call.get("structured_output")
    if not isinstance(wanted, Structured) or wanted.method is not None:
        return call
    if shows_tools():
        return {**call, "structured_output": replace(wanted, method="function_calling")}
    others = {n: value for n, value in call.items() if n not in ("tools", "tool_choice", "parallel_tool_calls")}
    return {
        **others,
        "structured_output": replace(wanted, method="json_schema"),
        "response_format": _binding(replace(wanted, method="json_schema"))["response_format"],
    }


def structured_output(
    model: Runnable[Any, Any], schema: Any, *, method: Method | None, include_raw: bool, strict: bool | None = None
) -> Runnable[Any, Any]:
    """Return ``model`` bound to ``schema`` and followed by its parser; see ``ChatDAMI.with_structured_output``.

    Args:
        model: a chat model, or one wrapped in settings.
        schema: pydantic class, TypedDict, JSON schema or, for ``json_mode``, None.
        method: how the model is asked for the object; None leaves it to the pair.
        include_raw: return raw message, object and error, and raise nothing.
        strict: require every declared property and allow no others.
    """
    if method not in (None, "json_schema", "function_calling", "json_mode"):
        raise InvalidRequest(
            f"unknown structured output method {method!r}", hint="json_schema, function_calling or json_mode"
        )
    if schema is None and method != "json_mode":
        raise InvalidSchema(f"method {method!r} needs a schema")
    # strict=False would let a call break its schema, which is never what structured output is for
    wanted = Structured(schema, method, strict=bool(strict))
    llm = model.bind(**_binding(wanted), structured_output=wanted)
    parse = _parser(schema, method)
    # One step after the model, not a RunnableMap around it: settings given at the call then still reach the model.
    after: Callable[[AIMessage], Any] = _keeping_raw(parse) if include_raw else parse
    return llm | StructuredOutputParser(after, _partial_reader(schema, method), include_raw)


def _keeping_raw(parse: Callable[[AIMessage], Any]) -> Callable[[AIMessage], dict[str, Any]]:
    def both(message: AIMessage) -> dict[str, Any]:
        try:
            return {"raw": message, "parsed": parse(message), "parsing_error": None}
        except OutputError as error:
            return {"raw": message, "parsed": None, "parsing_error": error}

    return both


def _binding(wanted: Structured) -> dict[str, Any]:
    schema, method = wanted.schema, wanted.method or "function_calling"
    traced = {"ls_structured_output_format": {"kwargs": {"method": method}, "schema": schema}} if schema else {}
    if method == "function_calling":
        try:
            tool = convert_to_openai_tool(schema, strict=wanted.strict or None)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidSchema(f"cannot make a tool of {schema!r}: {error}") from error
        if wanted.strict:
            strict_schema(tool["function"].get("parameters", {}), f"tool {tool['function']['name']!r}")
        return {"tools": [tool], "tool_choice": tool["function"]["name"], "parallel_tool_calls": False, **traced}
    if schema is None:
        return {"response_format": {"type": "json_object"}}
    json_schema = _json_schema(schema)
    if wanted.strict:
        json_schema = strict_schema(json_schema, f"response format {json_schema.get('title', 'response')!r}")
    if method == "json_mode":  # held to the schema too: the prompt asks for those keys, the grammar sees to it
        return {"response_format": {"type": "json_object", "schema": json_schema, "strict": True}, **traced}
    named = {"name": json_schema.get("title", "response"), "schema": json_schema, "strict": True}
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


def _parser(schema: Any, method: Method | None) -> Callable[[AIMessage], Any]:
    readers = {each: _reader(schema, each) for each in ([method] if method else _LEFT_TO_THE_PAIR)}

    @langchain_errors()
    def parse(message: AIMessage) -> Any:
        finish_reason = message.response_metadata.get("finish_reason", "")
        called = message.tool_calls or not message.text.strip()
        read = readers[method or _LEFT_TO_THE_PAIR[0 if called else 1]]
        return read(finish_reason, message.text, [call["args"] for call in message.tool_calls])

    return parse


def _partial_reader(schema: Any, method: Method | None) -> Callable[[str, str], Any]:
    """Return what reads an object from text and call so far; it gives None where there is none to show yet."""
    validate = _validator(schema) if _is_pydantic(schema) else None

    def read(text: str, call: str) -> Any:
        value = (
            partial_arguments(call) if method == "function_calling" or (call and method is None) else partial_json(text)
        )
        if validate is None or value is None:
            return value
        try:
            return validate(value)
        except OutputError:
            return None

    return read


def _reader(schema: Any, method: Method | None) -> Callable[[str, str, Sequence[Any]], Any]:
    """Return what reads the object from finish reason, text and the calls' arguments; it raises ``OutputError``."""
    validate = _validator(schema) if _is_pydantic(schema) else _schema_validator(schema, method)

    def read(finish_reason: str, text: str, calls: Sequence[Any]) -> Any:
        if finish_reason == "length":
            raise OutputTruncated(
                "a token cap came before the structured output was complete",
                text=text,
                hint="raise max_tokens, or cap the thought with max_reasoning_tokens",
            )
        if method == "function_calling":
            if not calls:
                raise OutputInvalid("the model called no tool", text=text)
            return validate(calls[0])
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            raise OutputInvalid(f"the output is not JSON: {error}", text=text) from error
        return validate(value)

    return read


def _validator(schema: TypeBaseModel) -> Callable[[Any], Any]:
    def validate(value: Any) -> Any:
        try:
            return schema.model_validate(value) if issubclass(schema, BaseModel) else schema.parse_obj(value)
        except (ValidationError, ValueError) as error:
            raise OutputInvalid(f"the output does not validate: {error}", text=json.dumps(value)) from error

    return validate


def _schema_validator(schema: Any, method: Method | None) -> Callable[[Any], Any]:
    """Check a value against a TypedDict or a JSON schema; a readable call may break its schema."""
    if schema is None:
        return lambda value: value
    called = method == "function_calling"
    wanted = convert_to_openai_tool(schema)["function"]["parameters"] if called else _json_schema(schema)

    def validate(value: Any) -> Any:
        try:
            wrong = validator(wanted).error(value)
        except Exception as unable:  # a hostile schema or value: what cannot be checked is not handed out
            raise OutputInvalid(f"the output cannot be checked: {unable}", text=json.dumps(value)) from unable
        if wrong:
            raise OutputInvalid(f"the output does not validate: {wrong}", text=json.dumps(value))
        return value

    return validate
