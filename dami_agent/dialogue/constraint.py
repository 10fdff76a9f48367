"""Write the grammar of a step's answer in llguidance's dialect of Lark; the runtime compiles and applies it.

Tool calls look exactly as Qwen writes them: ``<tool_call>\\n{"name": "X", "arguments": {…}}\\n</tool_call>``, several
of them a newline apart. An answer that is nothing but calls or JSON may open with up to two newlines, since a model
that has just closed its thought wants to write them. Where the vocabulary has ``<tool_call>`` as one token, calls begin
with that token and free text cannot spell it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from dami_agent.dialogue.json_schema import check, check_arguments, json_rule, warn_once
from dami_agent.dialogue.parser import CLOSE, OPEN
from dami_agent.errors import InvalidRequest, InvalidSchema
from dami_agent.types import Constraint, ResponseFormat, Step, Tool

_HEAD = '%llguidance {"no_forcing": true}'  # any spelling of a text that the vocabulary has
_NEWLINES = r"NEWLINES: /\n{1,2}/"


def build(step: Step, tokens: Mapping[str, int] | None = None) -> Constraint | None:
    """Build the constraint that the answer of ``step`` must follow; None if anything goes.

    What no grammar enforces is warned about once and noted in the constraint; finished values are checked.

    Args:
        step: its tools, tool choice and response format count.
        tokens: ids of the vocabulary's control tokens, by their text.

    Raises:
        InvalidRequest: tools and ``tool_choice`` that do not go together.
        InvalidSchema: a tool's or the response's schema is malformed, or nothing can satisfy it.
    """
    check_tools(step)
    mode = step.tool_choice.mode
    writer = _Writer(tokens or {})
    if mode != "none":
        writer.add_calls([t for t in step.tools if mode != "tool" or t.name == step.tool_choice.name])
    once = mode == "tool" or not step.parallel_tool_calls
    if mode in ("any", "tool"):
        if not writer.calls:
            raise InvalidSchema(f"no arguments can satisfy {'; '.join(writer.impossible)}", hint="mend the schema")
        return writer.constraint(f"NEWLINES? {_calls(once)}", _NEWLINES)
    if step.response_format is not None:
        answer = f"answer: {writer.response(step.response_format)}"
        body = f"({_calls(once)} | answer)" if writer.calls else "answer"
        return writer.constraint(f"NEWLINES? {body}", _NEWLINES, answer, complete=True)
    if writer.calls:
        return writer.constraint(*writer.text_and_calls(once))
    if step.tools:
        return writer.constraint("text", *writer.text())
    return None


def _calls(once: bool) -> str:
    return "call" if once else 'call ("\\n" call)*'


class _Writer:
    """Writes the rules of one grammar."""

    def __init__(self, tokens: Mapping[str, int]) -> None:
        self._open, self._close = (f"<[{tokens[m]}]>" if m in tokens else "" for m in (OPEN, CLOSE))
        self._notes: list[str] = []
        self.calls: list[str] = []
        self.impossible: list[str] = []

    def add_calls(self, tools: list[Tool]) -> None:
        """Add a rule for each tool; one whose arguments nothing can satisfy is left out and warned about."""
        for tool in tools:
            try:
                wanted = {**tool.parameters, "type": "object"} if tool.strict else {"type": "object"}
                rule, notes = json_rule(wanted, f"tool {tool.name!r}")
            except InvalidSchema as error:
                self.impossible.append(error.message)
                if len(tools) > 1:
                    warn_once(f"{error.message}; it cannot be called")
                continue
            begin = json.dumps(tool.name, ensure_ascii=False) + ', "arguments": '
            self._notes += notes
            self.calls.append(f"{_quoted(begin)} {rule}")

    def response(self, response: ResponseFormat) -> str:
        """Return the body of a rule for structured output."""
        schema = {"type": "object"} if response.schema is None else response.schema
        rule, notes = json_rule(schema, f"response format {response.name!r}", strict=response.strict)
        self._notes += notes
        return rule

    def text_and_calls(self, once: bool) -> tuple[str, ...]:
        """Free text in which calls may stand; the first ends the answer if ``once``."""
        if self._open:
            return ("text call?" if once else "text (call text)*", *self.text())
        # Without a token of its own, the marker is found in the text as soon as it is complete.
        head = (f"begun: head body\nhead[lazy]: ANY {_quoted(OPEN)}", "ANY: /(?s:.*)/")
        return ("(begun | text)" if once else "begun* text", *head, *self.text())

    def text(self) -> tuple[str, ...]:
        """Return any text that does not hold the marker of a call; the end marker by itself means nothing."""
        stray = f" ({self._close} TEXT?)*" if self._close else ""
        return (f"text: TEXT?{stray}", f"TEXT: /(?s:.+)/ & ~/(?s:.*){OPEN}(?s:.*)/")

    def constraint(self, start: str, *rules: str, complete: bool = False) -> Constraint:
        """Return the grammar as a whole."""
        lines = [_HEAD, f"start: {start}", *rules]
        if self.calls:
            end = f'"}}\\n" {self._close}' if self._close else _quoted(f"}}\n{CLOSE}")
            tools = [f"tool{n}" for n in range(len(self.calls))]
            begin = _quoted('\n{"name": ')
            lines += [f"call: {self._open or _quoted(OPEN)} body", f"body: {begin} ({' | '.join(tools)}) {end}"]
            lines += [f"{name}: {rule}" for name, rule in zip(tools, self.calls, strict=True)]
        return Constraint(
            kind="lark",
            text="\n".join(lines) + "\n",
            tool_calls=bool(self.calls),
            complete=complete,
            notes=tuple(self._notes),
        )


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


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
        check_arguments(tool.parameters, f"tool {tool.name!r}")
    if step.response_format is not None and step.response_format.schema is not None:
        check(step.response_format.schema, f"response format {step.response_format.name!r}")
