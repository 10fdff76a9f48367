"""The grammar of a step's answer, in xgrammar's structural-tag JSON; the runtime compiles and applies it.

Tool calls look exactly as Qwen writes them: ``<tool_call>\\n{"name": "X", "arguments": {…}}\\n</tool_call>``, several
of them a newline apart. An answer that is nothing but calls or JSON may open with up to two newlines, since a model
that has just closed its thought wants to write them.
"""

from __future__ import annotations

import json
from typing import Any

from dami_agent.dialogue.parser import CLOSE, OPEN
from dami_agent.dialogue.schema import check, enforceable
from dami_agent.errors import InvalidRequest, InvalidSchema
from dami_agent.types import Constraint, ResponseFormat, Step, Tool

_NEWLINES = {"type": "regex", "pattern": "\\n{0,2}"}


def build(step: Step) -> Constraint | None:
    """What the answer of ``step`` must look like; None if anything goes.

    Raises:
        InvalidRequest: tools and ``tool_choice`` that do not go together.
        InvalidSchema: a tool's or the response's schema is malformed; or it holds a keyword that cannot be enforced
            where that was promised (structured output, and a call that ``tool_choice`` demands of a ``strict`` tool).
    """
    check_tools(step)
    mode = step.tool_choice.mode
    promised = mode in ("any", "tool")
    tools = [t for t in step.tools if mode != "tool" or t.name == step.tool_choice.name]
    calls = [_call(tool, promised) for tool in tools] if mode != "none" else []
    once = mode == "tool" or not step.parallel_tool_calls
    if promised:
        return _constraint(_sequence(_calls(calls, once)))
    if step.response_format is not None:
        answer = _response(step.response_format)
        if calls:
            return _constraint(_sequence({"type": "or", "elements": [_calls(calls, once), answer]}), complete=True)
        return _constraint(_sequence(answer), tool_calls=False, complete=True)
    if calls:
        text = {"type": "triggered_tags", "triggers": [OPEN], "tags": calls, "stop_after_first": once}
        return _constraint(text)
    if step.tools:
        return _constraint({"type": "any_text", "excludes": [OPEN]}, tool_calls=False)
    return None


def check_tools(step: Step) -> None:
    """Refuse tools and a ``tool_choice`` that make no sense together, and malformed schemas."""
    names = [tool.name for tool in step.tools]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise InvalidRequest(f"two tools have the same name: {', '.join(twice)}", hint="rename one of them")
    if "" in names:
        raise InvalidRequest("a tool has no name", hint="give every tool a name")
    choice = step.tool_choice
    if choice.mode == "tool" and choice.name not in names:
        raise InvalidRequest(
            f"tool_choice names {choice.name!r}, bound are {names}", hint="bind that tool or name another"
        )
    if choice.mode == "any" and not names:
        raise InvalidRequest("tool_choice='any', but no tools are bound", hint="bind tools or leave tool_choice out")
    for tool in step.tools:
        check(tool.parameters, f"tool {tool.name!r}")
        kind = tool.parameters.get("type", "object")
        if "object" not in ([kind] if isinstance(kind, str) else kind):
            raise InvalidSchema(
                f"tool {tool.name!r}: #/type: arguments are an object, the schema says {kind!r}",
                hint="use type: object",
            )
    if step.response_format is not None and step.response_format.schema is not None:
        check(step.response_format.schema, f"response format {step.response_format.name!r}")


def _call(tool: Tool, promised: bool) -> dict[str, Any]:
    where = f"tool {tool.name!r}"
    parameters = _grammar_schema({**tool.parameters, "type": "object"}, where, refuse=promised and tool.strict)
    begin = f'{OPEN}\n{{"name": {json.dumps(tool.name, ensure_ascii=False)}, "arguments": '
    return {"type": "tag", "begin": begin, "content": parameters, "end": f"}}\n{CLOSE}"}


def _response(response: ResponseFormat) -> dict[str, Any]:
    schema = {"type": "object"} if response.schema is None else response.schema
    return _grammar_schema(schema, f"response format {response.name!r}", refuse=True)


def _grammar_schema(schema: Any, where: str, *, refuse: bool) -> dict[str, Any]:
    try:
        narrowed, problems = enforceable(schema)
    except InvalidSchema as error:
        raise InvalidSchema(f"{where}: {error.message}", hint=error.hint) from error
    if problems and refuse:
        raise InvalidSchema(
            f"{where}: no grammar enforces {', '.join(sorted(map(str, problems)))}",
            hint="drop the keyword and check the value yourself; or, for a tool, strict=False: calls are then checked "
            "after they are written, and bad ones come as invalid_tool_calls",
        )
    return {"type": "json_schema", "json_schema": narrowed, "max_whitespace_cnt": 1}


def _calls(calls: list[dict[str, Any]], once: bool) -> dict[str, Any]:
    return {
        "type": "tags_with_separator",
        "tags": calls,
        "separator": "\n",
        "at_least_one": True,
        "stop_after_first": once,
    }


def _sequence(answer: dict[str, Any]) -> dict[str, Any]:
    return {"type": "sequence", "elements": [_NEWLINES, answer]}


def _constraint(format_: dict[str, Any], *, tool_calls: bool = True, complete: bool = False) -> Constraint:
    text = json.dumps({"type": "structural_tag", "format": format_}, ensure_ascii=False)
    return Constraint(kind="structural_tag", text=text, tool_calls=tool_calls, complete=complete)
