"""Read and check settings, tools and formats as a step has them; what was asked at the call beats bind, bind init."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, cast, get_args

from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel

from dami_agent.dialogue.json_schema import check_arguments, sound_part, strict_schema, warn_once
from dami_agent.errors import InvalidIntensity, InvalidRequest, InvalidSchema, shown
from dami_agent.policy import EFFORTS
from dami_agent.types import (
    Intensity,
    IntensityRequest,
    Limits,
    Message,
    ModuleIntensity,
    PrefixMode,
    ResponseFormat,
    Sampling,
    Tool,
    ToolChoice,
)
from dami_agent.types.modules import EXAMPLE

_MOST = 2**62  # what a ledger can hold
_MOST_SECONDS = 1e9

SETTINGS: frozenset[str] = frozenset(
    {
        "reasoning_intensity",
        "reasoning_effort",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "repetition_penalty",
        "seed",
        "max_tokens",
        "max_reasoning_tokens",
        "timeout",
        "prefix",
        "logprobs",
        "top_logprobs",
    }
)
"""May be given at init, through ``bind`` and per call; the later one wins."""

CALL_ONLY: frozenset[str] = frozenset(
    {
        *("tools", "tool_choice", "parallel_tool_calls", "response_format", "strict", "stop", "structured_output"),
        *("model", "model_name"),
    }
)
"""Belong to one call (or to what ``bind_tools`` and ``with_structured_output`` bind)."""

_IGNORED: frozenset[str] = frozenset({"stream", "stream_usage", "run_id", "user", "ls_structured_output_format"})
"""Sent along by LangChain or habits of other models; they change nothing here."""

ALIASES: Mapping[str, str] = {
    "max_completion_tokens": "max_tokens",
    "max_new_tokens": "max_tokens",
    "stop_sequences": "stop",
    "request_timeout": "timeout",
}
"""Names other chat models use for the same thing."""


def normalize_settings(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return settings under their own names.

    Raises:
        InvalidRequest: naming an unknown setting and what may have been meant.
    """
    result: dict[str, Any] = {}
    for given, value in settings.items():
        name = ALIASES.get(given, given)
        if name in _IGNORED:
            continue
        if name not in SETTINGS | CALL_ONLY:
            raise unknown_setting(given, where, SETTINGS | CALL_ONLY)
        result[name] = value
    return with_canonical_intensity(result)


def with_canonical_intensity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with a λ per module, given as text, as the value that equal ones share; all else as it was given.

    Caches go by what settings print as, and the same λ can be written in many ways.
    """
    given = settings.get("reasoning_intensity")
    if not (isinstance(given, str) and "=" in given):
        return dict(settings)
    found = Intensity(given)
    return {**settings, "reasoning_intensity": found if isinstance(found, ModuleIntensity) else float(found)}


def unknown_setting(name: str, where: str, known: Collection[str]) -> InvalidRequest:
    """Return the error for an unknown setting: with the one that may have been meant, else with all."""
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"
    return InvalidRequest(f"unknown setting {name!r} at {where}", hint=hint)


def intensity(value: Any) -> Any:
    """Validate a ``reasoning_intensity``: an :class:`Intensity`, ``"auto"`` or None."""
    if value is None or (isinstance(value, str) and value == "auto"):
        return value
    if isinstance(value, str) and "=" not in value:
        raise InvalidIntensity(
            f"reasoning_intensity must be a number in [0, 1] or 'auto', got {shown(value)}",
            hint=f"names go to reasoning_effort: {', '.join(EFFORTS)}; a λ per module is written {EXAMPLE!r}",
        )
    return Intensity(value)


def effort(value: Any) -> Any:
    """Validate a ``reasoning_effort``: a name, or None."""
    if value is not None and not (isinstance(value, str) and value in EFFORTS):
        raise InvalidIntensity(f"unknown reasoning_effort {shown(value)}", hint=f"use one of {', '.join(EFFORTS)}")
    return value


def intensity_request(levels: Sequence[tuple[str, Mapping[str, Any]]]) -> IntensityRequest:
    """Read what is asked about depth: the last level that says anything wins; in one, number > effort > "auto"."""
    for origin, level in reversed(levels):
        number, name = intensity(level.get("reasoning_intensity")), effort(level.get("reasoning_effort"))
        if isinstance(number, Intensity):
            return IntensityRequest(intensity=number, origin=origin)
        if name is not None:
            return IntensityRequest(effort=name, origin=origin)
        if number is not None:
            return IntensityRequest(intensity="auto", origin=origin)
    return IntensityRequest()


def merge_levels(levels: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Merge the levels' settings: the later level wins where it gives one; None gives none."""
    result: dict[str, Any] = {}
    for _, level in levels:
        result.update({name: value for name, value in level.items() if value is not None})
    return result


def sampling(settings: Mapping[str, Any]) -> Sampling:
    """Read sampling settings; the engine fills in what is missing from the checkpoints' defaults.

    Raises:
        InvalidRequest: what is no number; what the numbers may be is the engine's to say.
    """
    top = _integer("top_logprobs", settings.get("top_logprobs"), 0, _MOST)
    wanted = settings.get("logprobs") not in (None, False) or top is not None
    return Sampling(
        temperature=_real("temperature", settings.get("temperature")),
        top_p=_real("top_p", settings.get("top_p")),
        top_k=_integer("top_k", settings.get("top_k"), -_MOST, _MOST),
        min_p=_real("min_p", settings.get("min_p")),
        repetition_penalty=_real("repetition_penalty", settings.get("repetition_penalty")),
        seed=_integer("seed", settings.get("seed"), -(2**63), 2**64 - 1),
        logprobs=(top or 0) if wanted else None,
    )


def prefix(settings: Mapping[str, Any]) -> PrefixMode | None:
    """Read how prompts are to be read.

    Raises:
        InvalidRequest: it is no such way.
    """
    value = settings.get("prefix")
    if value is not None and not (isinstance(value, str) and value in get_args(PrefixMode)):
        raise InvalidRequest(
            f"prefix must be one of {', '.join(get_args(PrefixMode))}, got {shown(value)}",
            hint="exact reads prompts at the λ of their reply, shared at one λ for all; auto: shared where measured",
        )
    return cast("PrefixMode | None", value)


def limits(settings: Mapping[str, Any], stop: Sequence[str] | str | None, default_max_tokens: int | None) -> Limits:
    """Read and check the limits of a call.

    Raises:
        InvalidRequest: a limit that is no positive number.
    """
    max_tokens = settings.get("max_tokens", default_max_tokens)
    reasoning = settings.get("max_reasoning_tokens")
    timeout = settings.get("timeout")
    for name, value, least in (("max_tokens", max_tokens, 1), ("max_reasoning_tokens", reasoning, 0)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MOST):
            raise InvalidRequest(f"{name} must be a whole number of at least {least}, got {shown(value)}")
    timeout = _real("timeout", timeout)
    if timeout is not None and not 0 < timeout <= _MOST_SECONDS:
        raise InvalidRequest(
            f"timeout must be a positive number of seconds, got {shown(settings.get('timeout'))}",
            hint="leave it out for no timeout",
        )
    return Limits(max_tokens=max_tokens, max_reasoning_tokens=reasoning, stop=_stops(stop), timeout=timeout)


def _stops(stop: Any) -> tuple[str, ...]:
    given = (stop,) if isinstance(stop, str) else () if stop is None else stop
    if not isinstance(given, (list, tuple, set, frozenset)) or any(not isinstance(s, str) or not s for s in given):
        raise InvalidRequest(
            f"a stop sequence must be a non-empty string, got {shown(stop)}",
            hint="stop takes a string or a list of them",
        )
    return tuple(given)


def _real(name: str, value: Any) -> float | None:
    """Check that a setting is a finite number, or None."""
    if value is None:
        return None
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InvalidRequest(f"{name} must be a finite number, got {shown(value)}")
    return number


def _integer(name: str, value: Any, least: int, most: int) -> int | None:
    """Check that a setting is a whole number between the bounds, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Integral) or not least <= int(value) <= most:
        raise InvalidRequest(f"{name} must be a whole number from {least} to {most}, got {shown(value)}")
    return int(value)


def tools(bound: Sequence[Any] | None, strict: bool | None = None) -> tuple[Tool, ...]:
    """Read bound tools, in any form that LangChain knows; a call checks that their names differ.

    One whose schema is malformed takes no other away: it is bound without what is wrong, with a warning. By itself, or
    where it is to be strict, it is refused.

    Args:
        bound: the tools.
        strict: of those that do not say themselves; see ``ChatDAMI.bind_tools``.

    Raises:
        InvalidSchema: naming the tool that has no usable schema, or no enforceable one where it is to be strict.
    """
    result: list[Tool] = []
    for place, item in enumerate(bound or ()):
        try:
            function = convert_to_openai_tool(item)["function"]
            tool = Tool(
                name=_of_type(str, "name", function["name"]),
                description=_of_type(str, "description", function.get("description") or ""),
                parameters=_of_type(
                    Mapping, "parameters", function.get("parameters") or {"type": "object", "properties": {}}
                ),
                strict=function.get("strict", strict) is not False,
            )
        except Exception as error:  # LangChain's and pydantic's, of whatever class
            raise InvalidSchema(f"tool {place} cannot be read as a tool: {shown(error)}") from error
        if function.get("strict", strict):
            tool = dataclasses.replace(tool, parameters=strict_schema(tool.parameters, f"tool {tool.name!r}"))
        if tool not in result:  # the same tool twice is the same tool
            result.append(tool)
    return tuple(result) if len(result) < 2 else tuple(map(_without_faults, result))


def _without_faults(tool: Tool) -> Tool:
    """Return a tool with what of its schema is well formed; a warning says what is not."""
    try:
        check_arguments(tool.parameters, f"tool {tool.name!r}")
    except InvalidSchema as error:
        warn_once(f"{error.message}; the tool is bound without that")
        return dataclasses.replace(tool, parameters=sound_part(tool.parameters))
    return tool


def _of_type(kind: type, name: str, value: Any) -> Any:
    if not isinstance(value, kind):
        raise InvalidSchema(f"its {name} is {shown(value)}")
    return value


def require_unique_names(bound: Sequence[Tool]) -> Sequence[Tool]:
    """Return the tools, if every one can be told from the others by name.

    Raises:
        InvalidSchema: two different tools of one name.
    """
    names = [tool.name for tool in bound]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidSchema(f"two tools are named {twice[0]!r}", hint="give every bound tool a name of its own")
    return bound


def tool_choice(value: Any, bound: Sequence[Tool]) -> ToolChoice:
    """Read a tool choice in LangChain's and OpenAI's spellings.

    Raises:
        InvalidRequest: a choice that names no bound tool, or asks for one where none is bound.
    """
    if isinstance(value, Mapping):
        inner = value.get("function", value)
        value = inner.get("name", value.get("type")) if isinstance(inner, Mapping) else inner
    if not (value is None or isinstance(value, (str, bool))):
        raise InvalidRequest(
            f"tool_choice={shown(value)} is not understood", hint="'auto', 'any', 'none' or the name of a bound tool"
        )
    if value in (None, "auto", False):
        return ToolChoice()
    if value == "none":
        return ToolChoice(mode="none")
    if not bound:
        raise InvalidRequest(f"tool_choice={shown(value)}, but no tools are bound", hint="bind tools with bind_tools")
    if value in ("any", "required", True):
        return ToolChoice(mode="any")
    if value not in {tool.name for tool in bound}:
        raise InvalidRequest(
            f"tool_choice={shown(value)} is not the name of a bound tool",
            hint=f"bound: {', '.join(tool.name for tool in bound)}",
        )
    return ToolChoice(mode="tool", name=str(value))


def response_format(value: Any) -> ResponseFormat | None:
    """Read OpenAI's ``response_format`` (``json_object``, ``json_schema``), a JSON schema or a pydantic class.

    Undeclared properties are allowed where the schema allows them, unless ``strict`` is set, as with OpenAI, or the
    schema comes from a class.

    Raises:
        InvalidSchema: anything else.
    """
    if value is None:
        return None
    if isinstance(value, type) and issubclass(value, BaseModel):
        return ResponseFormat(schema=value.model_json_schema(), name=value.__name__)
    if isinstance(value, Mapping):
        kind = value.get("type")
        if kind == "text":
            return None
        if kind == "json_object":
            return ResponseFormat(schema=value.get("schema"), strict=value.get("strict") is True)
        if kind == "json_schema":
            inner = value.get("json_schema", {})
            if isinstance(inner, Mapping):
                name, strict = str(inner.get("name", "response")), inner.get("strict") is True
                return ResponseFormat(schema=inner.get("schema"), name=name, strict=strict)
        if "properties" in value or "$ref" in value or kind in ("object", "array"):
            return ResponseFormat(schema=value, name=str(value.get("title", "response")), strict=False)
    raise InvalidSchema(
        f"response_format {shown(value)} is not understood",
        hint='use {"type": "json_schema", "json_schema": {"name": ..., "schema": ...}} or a pydantic class',
    )


def with_schema_instructions(messages: Sequence[Message], given: Any) -> tuple[Message, ...]:
    """Add a ``json_schema`` format's schema to the system prompt.

    A grammar alone leaves the model to guess what the keys are for, and it then writes its way against the mask.
    """
    wanted = response_format(given)
    asked_by_schema = not (isinstance(given, Mapping) and given.get("type") == "json_object")
    if wanted is None or wanted.schema is None or not asked_by_schema:
        return tuple(messages)
    note = f"Answer with JSON that follows this schema:\n{json.dumps(wanted.schema, ensure_ascii=False)}"
    if messages and messages[0].role == "system":
        first = dataclasses.replace(messages[0], content=f"{messages[0].content}\n\n{note}")
        return (first, *messages[1:])
    return (Message(role="system", content=note), *messages)
