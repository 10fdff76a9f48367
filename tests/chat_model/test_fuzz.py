"""Whatever callers and other models put into settings, tools and messages: an answer, or an error of this package.

What LangChain checks before the model is called is LangChain's, so the model's own methods are called here.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections import UserDict
from fractions import Fraction
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from pydantic import BaseModel, ValidationError

from dami_agent.chat_model import ChatDAMI
from dami_agent.chat_model.request import CALL_ONLY, SETTINGS
from dami_agent.errors import DamiError, InvalidRequest, InvalidSchema
from dami_agent.testing import fake_chat_model


class Hostile:
    """Breaks whoever looks at it."""

    def __repr__(self) -> str:
        raise RuntimeError("do not look")

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("do not compare")

    __hash__ = None  # type: ignore[assignment]


def cyclic_dict() -> dict[str, Any]:
    it: dict[str, Any] = {"type": "object", "a": 1}
    it["self"] = it["properties"] = it
    return it


def cyclic_list() -> list[Any]:
    it: list[Any] = ["a"]
    it.append(it)
    return it


def deep(kind: type) -> Any:
    it: Any = "x"
    for _ in range(5000):
        it = [it] if kind is list else {"type": "tool_result", "tool_use_id": "c", "content": [it]}
    return it


NUMBERS = [
    0,
    -1,
    5,
    0.5,
    math.nan,
    math.inf,
    -math.inf,
    10**400,
    -(10**400),
    10**5000,
    2**63,
    2**64,
    1e-320,
    1e308,
    True,
]
TEXTS = [
    "",
    "auto",
    "none",
    "any",
    "add",
    "text",
    "json_object",
    "\ud800",
    "\x00",
    "<|im_end|>",
    "é" * 300,
    "1e5",
    "NaN",
]
ODD = [
    b"ab",
    bytearray(b"x"),
    Fraction(1, 3),
    1j,
    ...,
    NotImplemented,
    object(),
    Hostile(),
    int,
    len,
    UserDict(a=1),
    {1, 2},
]
MADE = [cyclic_dict, cyclic_list, lambda: deep(list), lambda: deep(dict), lambda: (n for n in "ab")]
KEYS = [
    "type", "function", "name", "text", "json_schema", "schema", "properties", "parameters", "items", "$ref", "enum",
    "input", "id", "content", "reasoning", "source", "summary", "value", "title", "thinking", "tool_use_id",
    "arguments", "audio", "transcript",
]  # fmt: skip
TYPES = [
    "function", "object", "array", "string", "text", "json_object", "json_schema", "thinking", "reasoning", "tool_use",
    "tool_result", "image", "non_standard", "document", "search_result", "refusal", "audio", "function_call", "file",
]  # fmt: skip

# By number: hypothesis prints its strategies, and some of these cannot be printed.
plain = [*NUMBERS, *TEXTS, *TYPES, *ODD]
strange = st.integers(0, len(plain) + len(MADE) - 1).map(
    lambda n: plain[n] if n < len(plain) else MADE[n - len(plain)]()
)
atoms = st.one_of(st.none(), strange, st.integers(), st.floats(), st.text(max_size=5))
values: st.SearchStrategy[Any] = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
        st.builds(lambda kind, more: {**more, "type": kind}, st.sampled_from(TYPES),
                  st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)),
    ),
    max_leaves=6,
)  # fmt: skip
names = st.sampled_from(
    sorted((SETTINGS | CALL_ONLY | {"max_completion_tokens", "stop_sequences", "nonsense"}) - {"tools"})
)
calls = st.dictionaries(names, values, max_size=3)
tool_lists = st.one_of(st.none(), values, st.lists(values, max_size=3))
blocks = st.dictionaries(st.sampled_from(KEYS), values, max_size=4) | st.builds(
    lambda kind, more: {**more, "type": kind}, st.sampled_from(TYPES), st.dictionaries(st.sampled_from(KEYS), values)
)
contents = st.text(max_size=5) | st.lists(blocks | st.text(max_size=3), max_size=3)


def message(kind: str, content: Any, extra: Any, odd: Any) -> BaseMessage:
    """A message as LangChain takes it, then changed as no check of LangChain's would have it."""
    made: BaseMessage
    if kind == "ai":
        made = AIMessage("", additional_kwargs=extra)
    elif kind == "tool":
        made = ToolMessage("r", tool_call_id="c")
    else:
        made = HumanMessage("") if kind == "human" else SystemMessage("")
    made.content = content
    if kind == "ai" and odd is not None:
        object.__setattr__(made, "tool_calls", odd)
    return made


messages = st.lists(
    st.builds(
        message,
        st.sampled_from(["human", "ai", "tool", "system"]),
        contents,
        st.dictionaries(
            st.sampled_from(["reasoning_content", "function_call", "audio", "refusal", "x"]), values, max_size=2
        ),
        st.none() | st.lists(st.fixed_dictionaries({"id": atoms, "name": atoms, "args": values}), max_size=2),
    ),
    min_size=1,
    max_size=3,
)


@cache
def model() -> Any:
    return fake_chat_model(lambda _: "ok", reasoning_intensity=0.5)


@contextlib.contextmanager
def only_ours() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except DamiError as error:
            str(error)  # can be shown


def settings_and_tools(call: dict[str, Any], tools: Any, streamed: bool) -> None:
    given = dict(call) if tools is None else {**call, "tools": tools}
    stop = given.pop("stop", None)
    with only_ours():
        if streamed:
            list(model()._stream([HumanMessage("hi")], stop=stop, **given))
        else:
            model()._generate([HumanMessage("hi")], stop=stop, **given)
    with only_ours():
        model().bind(**call)
    with only_ours():
        model().bind_tools(tools, tool_choice=call.get("tool_choice"))
    with only_ours():
        model().with_structured_output(call.get("response_format"))
    with contextlib.suppress(ValidationError):  # pydantic's, at init
        ChatDAMI(**{name: value for name, value in call.items() if name in ChatDAMI.model_fields})


def history(given: list[BaseMessage]) -> None:
    with only_ours():
        model()._generate(given)


QUICK = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
LONG = settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))


@QUICK
@given(calls, tool_lists, st.booleans())
def test_settings(call: dict[str, Any], tools: Any, streamed: bool) -> None:
    settings_and_tools(call, tools, streamed)


@QUICK
@given(messages)
def test_messages(given_: list[BaseMessage]) -> None:
    history(given_)


@pytest.mark.slow
@LONG
@given(calls, tool_lists, st.booleans())
def test_a_thousand_settings(call: dict[str, Any], tools: Any, streamed: bool) -> None:
    settings_and_tools(call, tools, streamed)


@pytest.mark.slow
@LONG
@given(messages)
def test_a_thousand_messages(given_: list[BaseMessage]) -> None:
    history(given_)


class Tool(BaseModel):
    """A tool."""

    a: int


@pytest.mark.parametrize(
    ("call", "error", "why"),
    [
        ({"stop": 5}, InvalidRequest, "a stop sequence must be a non-empty string, got 5"),
        ({"stop": b"ab"}, InvalidRequest, "got b'ab'"),
        ({"stop": ["a", 5]}, InvalidRequest, "got \\['a', 5\\]"),
        ({"tool_choice": {"function": 5}}, InvalidRequest, "tool_choice=5 is not understood"),
        ({"tool_choice": ["add"]}, InvalidRequest, "is not understood"),
        ({"temperature": 10**400}, InvalidRequest, "temperature must be a finite number, got 1000"),
        ({"temperature": "hot"}, InvalidRequest, "got 'hot'"),
        ({"top_p": math.nan}, InvalidRequest, "top_p must be a finite number, got nan"),
        ({"top_k": 1.5}, InvalidRequest, "top_k must be a whole number"),
        ({"seed": 10**5000}, InvalidRequest, "seed must be a whole number .* got a int"),
        ({"max_tokens": 10**5000}, InvalidRequest, "max_tokens must be a whole number of at least 1, got a int"),
        ({"timeout": math.inf}, InvalidRequest, "timeout must be a finite number"),
        ({"reasoning_intensity": 10**5000}, DamiError, "finite number in \\[0, 1\\], got a int"),
        ({"reasoning_effort": ["low"]}, DamiError, "unknown reasoning_effort"),
        ({"response_format": {"type": "json_schema", "json_schema": 5}}, InvalidSchema, "is not understood"),
        ({"response_format": cyclic_dict()}, DamiError, "cannot be read|cannot be checked|nested"),
        ({"tools": [5]}, InvalidSchema, "tool 0 cannot be read as a tool"),
        ({"tools": [{"type": None, "name": []}]}, InvalidSchema, r"tool 0 cannot be read as a tool: its name is \[\]"),
        ({"tools": 5}, InvalidRequest, "the call cannot be read: TypeError"),
    ],
)  # fmt: skip
def test_what_was_found_and_mended(call: dict[str, Any], error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why) as caught:
        model()._generate([HumanMessage("hi")], stop=call.get("stop"), **{k: v for k, v in call.items() if k != "stop"})
    assert len(str(caught.value)) < 1000


def test_a_cyclic_block_names_its_message_and_its_cause() -> None:
    loop: dict[str, Any] = {"type": "tool_result", "tool_use_id": "c"}
    loop["content"] = [loop]
    with pytest.raises(InvalidRequest, match="message 1 cannot be read") as caught:
        model()._generate([HumanMessage("hi"), message("human", [loop], {}, None)])
    assert isinstance(caught.value.__cause__, RecursionError)
