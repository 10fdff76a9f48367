"""A dialogue to text segments, marked as learned from or not: the chat templates in plain Python, for speed.

A test holds that the joined segments equal what transformers renders from the pair's `chat_template.jinja`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from builtin_pair.training.templates import POSTAMBLE, PREAMBLE
from dami_agent.tasks.task import ToolSpec

Template = Literal["instruct", "thinking"]
Call = tuple[str, Mapping[str, Any]]
"""A tool's name and the arguments it is called with."""


@dataclass(frozen=True)
class Turn:
    """One message. An assistant turn may call tools; `thought` None means that its thought was dropped.

    `given` is how the thought begins and is not learned from. With a `closing` the thought ends there, closed by the
    engine with these words, which are not learned from either.
    """

    role: Literal["user", "assistant", "tool"]
    content: str = ""
    thought: str | None = None
    calls: tuple[Call, ...] = ()
    learn: bool = True
    given: str = ""
    closing: str = ""


@dataclass(frozen=True)
class TrainingDialogue:
    """What a document is rendered from."""

    turns: Sequence[Turn]
    tools: Sequence[ToolSpec] = ()
    system: str = ""
    template: Template = "instruct"
    family: str = field(default="", compare=False)


def call_text(name: str, arguments: Mapping[str, Any]) -> str:
    """Return a tool call as the templates write it."""
    return f'<tool_call>\n{{"name": "{name}", "arguments": {json.dumps(arguments, ensure_ascii=False)}}}\n</tool_call>'


def tool_line(tool: ToolSpec) -> str:
    """Return a tool as the templates write it: its description comes before its name."""
    function = {"description": tool.description, **tool.to_openai()["function"]}
    return json.dumps({"type": "function", "function": function}, ensure_ascii=False)


def head(tools: Sequence[ToolSpec], system: str) -> str:
    """Return the system turn, if there is one."""
    if tools:
        lines = "".join("\n" + tool_line(tool) for tool in tools)
        opening = f"{system}\n\n" if system else ""
        return f"<|im_start|>system\n{opening}{PREAMBLE}{lines}{POSTAMBLE}<|im_end|>\n"
    return f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""


def segments(dialogue: TrainingDialogue) -> list[tuple[str, bool]]:
    """(text, learned from) pairs. Assistant turns whose thought was dropped under Thinking's template teach nothing."""
    found: list[tuple[str, bool]] = []
    text = head(dialogue.tools, dialogue.system)
    thinking = dialogue.template == "thinking"
    turns = dialogue.turns
    for index, turn in enumerate(turns):
        if turn.role == "user":
            text += f"<|im_start|>user\n{turn.content}<|im_end|>\n"
        elif turn.role == "tool":
            text += "" if index and turns[index - 1].role == "tool" else "<|im_start|>user"
            text += f"\n<tool_response>\n{turn.content}\n</tool_response>"
            text += "" if index + 1 < len(turns) and turns[index + 1].role == "tool" else "<|im_end|>\n"
        else:
            parts = [turn.content] if turn.content else []
            reply = "\n".join([*parts, *(call_text(*call) for call in turn.calls)]) + "<|im_end|>"
            text += "<|im_start|>assistant\n"
            learn = turn.learn and not (thinking and turn.thought is None)
            if thinking and turn.thought is not None:
                text += f"<think>\n{turn.given}{turn.closing}"
                reply = reply if turn.closing else f"{turn.thought}\n</think>\n\n{reply}"
            if learn:
                found += [(text, False), (reply, True)]
                text = "\n"
            else:
                text += reply + "\n"
    return found


def prompt(dialogue: TrainingDialogue) -> str:
    """Return the text a model continues: everything so far and the generation prompt of the template."""
    done = segments(
        TrainingDialogue(
            [*dialogue.turns, Turn("assistant", "x", "", learn=True)],
            dialogue.tools,
            dialogue.system,
            dialogue.template,
        )
    )
    return "".join(text for text, _ in done[:-1])
