"""Read a user's own questions from a JSONL file, with how their answers are graded.

One JSON object a line::

    {"question": "How many minutes are 3.5 hours?", "answer": 210}
    {"messages": [{"role": "system", "content": "Answer in one word."}, {"role": "user", "content": "..."}],
     "answer": "Paris", "grader": "contains"}

``grader`` says when a reply is right: ``number``, its last number is the answer (the default where the answer is one);
``contains``, the answer stands in it as whole words (as any, in scripts such as Japanese that set no blanks), in
whatever case (the default else); ``exact``, it is the answer, blanks around it aside; ``regex``, the answer as a
pattern is found in it; ``json``, it is JSON of the answer's value; ``math``, math-verify finds it equal
(``pip install "dami-agent[math]"``); ``call``, it makes the tool calls of the answer and no others (the default where
``tools`` are given and the answer is an object or a list). ``module:function`` names a function of your own,
``function(text, answer) -> bool``, which must be importable.

``tools`` are bound to the question, as OpenAI's API takes them::

    {"question": "What does a lamp cost?", "tools": [{"type": "function", "function": {"name": "get_price", ...}}],
     "answer": {"name": "get_price", "arguments": {"item": "lamp"}}}
"""

from __future__ import annotations

import importlib
import json
import sys
import threading
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

import regex
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dami_agent.answers import NUMBER, last_number, same_number
from dami_agent.chat_model import request
from dami_agent.errors import UsageError, shown
from dami_agent.policy.declared import was_async
from dami_agent.policy.fields import close_match
from dami_agent.types import Message, Reply, Tool

__all__ = ["OwnQuestion", "read_questions"]

_BUILT_IN = ("number", "contains", "exact", "regex", "json", "math", "call")
_OWN_GRADER = regex.compile(r"[\w.]+:[\w.]+")

_SCRIPTS = ("Han", "Hiragana", "Katakana", "Hangul", "Thai", "Lao", "Khmer", "Myanmar")
_OF_THEM = "".join(rf"\p{{Script={name}}}" for name in _SCRIPTS)
_UNSPACED = regex.compile(f"[{_OF_THEM}]")  # no blank stands beside a word, so where one ends cannot be seen
_IN_WORD = rf"[\w--[{_OF_THEM}]]"

_SECONDS = 1.0  # for one pattern on one reply
_TOLERANCE = 1e-6
_MATH_SECONDS = 5


class _Turn(BaseModel):
    model_config = ConfigDict(extra="forbid")
    role: Literal["system", "user", "assistant"]
    content: str


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid")
    question: str | None = Field(None, min_length=1)
    messages: list[_Turn] | None = Field(None, min_length=1)
    answer: Any
    grader: str | None = None
    tools: list[dict[str, Any]] | None = Field(None, min_length=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnQuestion:
    """Holds one question and its answer.

    Attributes:
        messages: the conversation that is to be answered; the last is the user's.
        answer: as the file has it.
        grader: how a reply is compared with it.
        tools: bound to the question.
        kind: of question, for counts by kind.
    """

    messages: tuple[Message, ...]
    answer: Any
    grader: str
    tools: tuple[Tool, ...] = ()
    kind: str = "question"

    @property
    def prompt(self) -> str:
        """Return what tells it from others: all that is said, and the names of its tools."""
        said = [f"{message.role}: {message.content}" for message in self.messages]
        return "\n".join([*said, *(f"tool: {tool.name}" for tool in self.tools)])

    def right(self, reply: Reply) -> bool:
        """Tell whether a reply is right, its thought left out."""
        return _makes_calls(reply, self.answer) if self.grader == "call" else self.grade(reply.content)

    def grade(self, text: str) -> bool:
        """Tell whether the text of a reply is right.

        Raises:
            UsageError: the user's own function failed, or said neither True nor False.
        """
        if self.grader in _GRADERS:
            return _GRADERS[self.grader](text, self.answer)
        try:
            found = _own_grader(self.grader)(text, self.answer)
            if was_async(found):
                raise TypeError("it is async")
            if found not in (True, False):  # 1.0 and numpy's will do; a text would always be true
                raise TypeError(f"it returned {shown(found)}, neither True nor False")
            return bool(found)
        except Exception as error:
            raise UsageError(
                f"the grader {self.grader} failed on the answer {self.answer!r}: {type(error).__name__}: {error}"
            ) from error


def read_questions(path: Path) -> list[OwnQuestion]:
    """Read a file of questions; blank lines are skipped.

    Raises:
        UsageError: it cannot be read, or a line is no question; says which and why.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}", hint="give a JSONL file in UTF-8") from error
    found = [_question(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise UsageError(f"{path} holds no question", hint='one JSON object a line: {"question": …, "answer": …}')
    if any(question.grader == "math" for question in found):
        _math_verify()  # missing: known before anything is asked
    return found


def _question(line: str, where: str) -> OwnQuestion:
    hint = 'for example {"question": "How many minutes are 3.5 hours?", "answer": 210}'
    try:
        said = _Line.model_validate(json.loads(line))
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(map(str, first["loc"]))
        raise UsageError(f"{where}: {f'{at}: ' if at else ''}{first['msg']}", hint=hint) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {error}", hint=hint) from error
    if (said.question is None) == (said.messages is None):
        raise UsageError(f"{where} needs either question or messages", hint=hint)
    turns = [(turn.role, turn.content) for turn in said.messages or ()] or [("user", said.question or "")]
    if turns[-1][0] != "user":
        raise UsageError(f"{where}: the last message must be the user's", hint=hint)
    numeric = isinstance(said.answer, (int, float, str)) and bool(NUMBER.fullmatch(str(said.answer).strip()))
    calling = said.tools is not None and isinstance(said.answer, (dict, list))
    grader = said.grader or ("call" if calling else "number" if numeric else "contains")
    try:
        tools = request.tools(said.tools)
    except UsageError as error:
        raise UsageError(f"{where}: {error.message}", hint=error.hint) from error
    _check_answer(said.answer, grader, where)
    if grader == "call":
        _check_calls(said.answer, tools, where)
    messages = tuple(Message(role=role, content=content) for role, content in turns)
    return OwnQuestion(messages=messages, answer=said.answer, grader=grader, tools=tools)


def _check_calls(answer: Any, tools: Sequence[Tool], where: str) -> None:
    """Refuse calls of another form, or of tools that are not bound."""
    for call in answer if isinstance(answer, list) else [answer]:
        fits = isinstance(call, dict) and call.keys() == {"name", "arguments"} and isinstance(call["arguments"], dict)
        if not fits:
            hint = 'for example {"name": "get_price", "arguments": {"item": "lamp"}}'
            raise UsageError(f"{where}: {call!r} is no call", hint=hint)
        if call["name"] not in {tool.name for tool in tools}:
            raise UsageError(f"{where}: the tool {call['name']!r} is not among its tools")


def _check_answer(answer: Any, grader: str, where: str) -> None:
    """Refuse a grader that does not exist, and an answer that its grader can make nothing of."""
    if grader not in _BUILT_IN:
        if not _OWN_GRADER.fullmatch(grader):
            raise UsageError(f"{where}: grader: {close_match(grader, list(_BUILT_IN))}", hint="or module:function")
        _own_grader(grader, where)
    elif grader == "number":
        if isinstance(answer, bool) or last_number(str(answer)) is None:
            raise UsageError(f"{where}: the answer {answer!r} is not a number", hint='or set "grader"')
    elif grader not in ("json", "call") and not (isinstance(answer, (str, int, float)) and str(answer).strip()):
        raise UsageError(f"{where}: the answer {answer!r} is not a text", hint='or set "grader": "json"')
    if grader == "math" and not _math_verify()[0](str(answer), parsing_timeout=_math_limit()):
        raise UsageError(f"{where}: math-verify can make nothing of the answer {answer!r}", hint='or set "grader"')
    if grader == "regex":
        try:
            regex.compile(str(answer))
        except regex.error as error:
            raise UsageError(f"{where}: the pattern {answer!r} is not valid: {error}") from error


def _is_number(text: str, answer: Any) -> bool:
    return same_number(text, str(answer), _TOLERANCE)


def _contains(text: str, answer: Any) -> bool:
    said, words = _composed(text), _composed(str(answer)).split()
    before = "" if _UNSPACED.match(words[0][0]) else rf"(?<!{_IN_WORD})"
    after = "" if _UNSPACED.match(words[-1][-1]) else rf"(?!{_IN_WORD})"
    wanted = r"\s+".join(regex.escape(word) for word in words)
    return bool(regex.search(f"{before}{wanted}{after}", said, regex.V1 | regex.IGNORECASE))


def _composed(text: str) -> str:
    """Write accents in one way: an é may be one character or two."""
    return unicodedata.normalize("NFC", text)


def _matches(text: str, answer: Any) -> bool:
    try:
        return bool(regex.search(str(answer), text, timeout=_SECONDS))
    except TimeoutError:
        return False


def _is_json(text: str, answer: Any) -> bool:
    try:
        return _equal(json.loads(text), answer)
    except (ValueError, RecursionError):
        return False


def _equal(one: Any, other: Any) -> bool:
    """Compare JSON values; true is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _is_math(text: str, answer: Any) -> bool:
    (parse, verify), limit = _math_verify(), _math_limit()
    wanted, found = (parse(each, parsing_timeout=limit) for each in (str(answer), text))
    return bool(verify(wanted, found, timeout_seconds=limit))


def _math_limit() -> int | None:
    """Return math-verify's time limit in seconds; its limits are signals, which the main thread alone receives."""
    return _MATH_SECONDS if threading.current_thread() is threading.main_thread() else None


def _makes_calls(reply: Reply, answer: Any) -> bool:
    """Tell whether a reply makes the calls of the answer, in any order, and no others."""
    if reply.invalid_tool_calls:
        return False
    wanted = [*(answer if isinstance(answer, list) else [answer])]
    for call in reply.tool_calls:
        made = {"name": call.name, "arguments": dict(call.arguments)}
        place = next((i for i, each in enumerate(wanted) if _equal(made, each)), None)
        if place is None:
            return False
        del wanted[place]
    return not wanted


@lru_cache
def _own_grader(name: str, where: str = "") -> Callable[[str, Any], Any]:
    """Import a function of the user's own, also from the working folder."""
    module, _, attribute = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # a console script does not look there
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:
        told = f"the grader {name} cannot be imported: {type(error).__name__}: {error}"
        raise UsageError(f"{where}: {told}" if where else told) from error
    if not callable(found):
        raise UsageError(f"{where}: the grader {name} is no function")
    return cast("Callable[[str, Any], Any]", found)


def _math_verify() -> tuple[Callable[..., Any], Callable[..., Any]]:
    try:
        from math_verify import parse, verify
    except ImportError as error:
        raise UsageError("the grader 'math' needs math-verify", hint='pip install "dami-agent[math]"') from error
    return parse, verify


_GRADERS: Mapping[str, Callable[[str, Any], bool]] = {
    "number": _is_number,
    "contains": _contains,
    "exact": lambda text, answer: _composed(text).strip() == _composed(str(answer)).strip(),
    "regex": _matches,
    "json": _is_json,
    "math": _is_math,
}
