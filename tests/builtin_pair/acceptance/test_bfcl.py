"""Strangers' tools: every schema of a public benchmark is accepted, every reference call can be written and read back.

What the pair makes of them is measured by ``python -m builtin_pair bfcl``; here the product alone is judged, at 100 %.
"""

from __future__ import annotations

import ast
import copy
import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import jsonschema
import pytest
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

import dami_agent.checkpoints
from builtin_pair import cli
from builtin_pair.acceptance import bfcl
from dami_agent import ChatDAMI
from dami_agent.chat_model import request
from dami_agent.dialogue import Dialogue
from dami_agent.errors import UsageError
from dami_agent.evaluation.stats import half_width
from dami_agent.runtime.grammar import GrammarCompiler, Matcher
from dami_agent.types import (
    Generation,
    Intensity,
    Message,
    Prompt,
    Reply,
    Sampling,
    Step,
    TokenEvent,
    ToolCall,
)

FOLDER = Path(dami_agent.checkpoints.__file__).parent / "builtin"
TOKENIZER = PreTrainedTokenizerFast.from_pretrained(FOLDER / "instruct")
TEMPLATES = {name: (FOLDER / name / "chat_template.jinja").read_text() for name in ("instruct", "thinking")}
DIALOGUE = Dialogue(TOKENIZER, templates=TEMPLATES)  # type: ignore[arg-type]
END = TOKENIZER.convert_tokens_to_ids("<|im_end|>")
COMPILER = GrammarCompiler(TOKENIZER, len(TOKENIZER), [END])
BREAK_THEIR_OWN_SCHEMA = {"parallel_multiple": 2}
"""Reference calls that the benchmark's own schemas refuse: an expression for an array, words for integers."""

try:
    bfcl.package()
    missing = False
except UsageError:
    missing = True
needs_bfcl = pytest.mark.skipif(missing, reason="bfcl-eval is not installed")


@cache
def all_items(category: str) -> list[bfcl.Item]:
    return bfcl.items(category)


def every_item() -> Iterator[bfcl.Item]:
    for category in bfcl.CATEGORIES:
        yield from all_items(category)


_LEFT_OUT = object()


def accepted_value(alternatives: Sequence[Any], schema: Mapping[str, Any] | None) -> Any:
    """The first accepted value that the parameter's schema allows; left out where none is and it may be.

    Objects among the alternatives hold alternatives themselves.
    """
    given = [value for each in alternatives if each != "" and (value := plain(each, schema)) is not _LEFT_OUT]
    allowed = [each for each in given if schema is not None and jsonschema.Draft202012Validator(schema).is_valid(each)]
    return allowed[0] if allowed else _LEFT_OUT if "" in alternatives else given[0]


def plain(value: Any, schema: Mapping[str, Any] | None) -> Any:
    if isinstance(value, dict):
        inner = (schema or {}).get("properties", {})
        made = {key: accepted_value(each, inner.get(key, {})) for key, each in value.items()}
        return {key: each for key, each in made.items() if each is not _LEFT_OUT}
    if isinstance(value, list):
        return [plain(each, (schema or {}).get("items", {})) for each in value]
    return value


def in_order(value: Any, schema: Mapping[str, Any]) -> Any:
    """The same value with the keys of objects in the schema's order, in which calls are written."""
    if isinstance(value, dict):
        declared = schema.get("properties", {})
        keys = sorted(value, key=[*declared, *value].index)
        return {key: in_order(value[key], declared.get(key, {})) for key in keys}
    return [in_order(each, schema.get("items", {})) for each in value] if isinstance(value, list) else value


def references(item: bfcl.Item) -> list[tuple[str, dict[str, Any]]]:
    """The calls that the benchmark accepts, by the tools' names."""
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in item.tools}
    found = []
    for answer in item.answers:
        for name, parameters in answer.items():
            schema = schemas[bfcl.tool_name(name)]
            values = {key: accepted_value(each, schema["properties"].get(key)) for key, each in parameters.items()}
            call = {key: each for key, each in values.items() if each is not _LEFT_OUT}
            found.append((bfcl.tool_name(name), in_order(call, schema)))
    return found


def breaks_schema(item: bfcl.Item, name: str, arguments: Mapping[str, Any]) -> bool:
    """Whether arguments break the function's schema, in the eyes of jsonschema alone."""
    schema = next(t["function"]["parameters"] for t in item.tools if t["function"]["name"] == name)
    return not jsonschema.Draft202012Validator(schema).is_valid(arguments)


def step_of(item: bfcl.Item, *more: Message, strict: bool | None = None) -> Step:
    """The step that ChatDAMI makes of an item's bound tools."""
    bound: Any = ChatDAMI().bind_tools(item.tools, strict=strict)
    messages = [Message(role=each["role"], content=each["content"]) for each in item.messages]  # type: ignore[arg-type]
    return Step(messages=(*messages, *more), tools=request.tools(bound.kwargs["tools"]))


def laid_out(item: bfcl.Item, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> list[int]:
    """The tokens in which the chat template writes an assistant's calls, up to the end of its message."""
    made = tuple(ToolCall(id=f"c{n}", name=name, arguments=given) for n, (name, given) in enumerate(calls))
    answered = [Message(role="tool", content="ok", tool_call_id=each.id) for each in made]
    step = step_of(item, Message(role="assistant", tool_calls=made), *answered)
    whole = list(DIALOGUE.render(step, "instruct").token_ids)
    start = len(DIALOGUE.render(step_of(item), "instruct").token_ids)
    return whole[start : whole.index(END, start)]


def matcher_of(prompt: Prompt) -> Matcher:
    assert prompt.constraint is not None
    return COMPILER.matcher(prompt.constraint)


def accepts(prompt: Prompt, ids: Sequence[int]) -> bool:
    """Whether the grammar lets an answer through, token by token, and lets it end."""
    matcher = matcher_of(prompt)
    return all(matcher.accept(token) for token in ids) and matcher.allows(END)


def parsed(ids: Sequence[int], prompt: Prompt, step: Step) -> Reply:
    events = tuple(TokenEvent(token_id=each, part="answer") for each in ids)
    generation = Generation(events=events, finish_reason="stop", intensity=Intensity(0), sampling=Sampling())
    return DIALOGUE.parse(generation, prompt, step)


@needs_bfcl
def test_there_are_a_thousand_items_and_their_tools_have_names_that_others_allow() -> None:
    assert {each: len(all_items(each)) for each in bfcl.CATEGORIES} == {
        "simple_python": 400,
        "multiple": 200,
        "parallel": 200,
        "parallel_multiple": 200,
    }
    for item in every_item():
        names = [tool["function"]["name"] for tool in item.tools]
        assert len(set(names)) == len(names)
        assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in names), names
        assert [item.named(name) for name in names] == [each["name"] for each in item.functions]


@needs_bfcl
def test_types_become_what_the_benchmark_makes_of_them() -> None:
    path = bfcl.package() / "model_handler" / "utils.py"  # to import it takes parsers of Java and JavaScript
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [
        each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name == "_cast_to_openai_type"
    ]
    from bfcl_eval.constants.type_mappings import GORILLA_TO_OPENAPI  # type: ignore[import-not-found]

    space: dict[str, Any] = {"GORILLA_TO_OPENAPI": GORILLA_TO_OPENAPI}
    exec(compile(tree, str(path), "exec"), space)
    for item in every_item():
        for function, tool in zip(item.functions, item.tools, strict=True):
            theirs = space["_cast_to_openai_type"](
                copy.deepcopy(function["parameters"]["properties"]), GORILLA_TO_OPENAPI
            )
            assert tool["function"]["parameters"]["properties"] == theirs, item.id


@needs_bfcl
@pytest.mark.slow
@pytest.mark.parametrize("category", bfcl.CATEGORIES)
def test_every_schema_is_accepted_and_every_reference_call_is_written_and_read_back(category: str) -> None:
    broken = 0
    for item in all_items(category):
        step, calls = step_of(item), references(item)
        prompt = DIALOGUE.render(step, "instruct")
        ids = laid_out(item, calls)
        reply = parsed(ids, prompt, step)
        assert [(each.name, each.arguments) for each in reply.tool_calls] == calls, item.id
        assert not reply.content, item.id
        assert not reply.invalid_tool_calls, item.id
        odd = [breaks_schema(item, *call) for call in calls]
        assert [bool(each.error) for each in reply.tool_calls] == odd, item.id
        assert accepts(prompt, ids) is not any(odd), (item.id, TOKENIZER.decode(ids))
        if any(odd):  # without the schema they can be written too
            assert accepts(DIALOGUE.render(step_of(item, strict=False), "instruct"), ids), item.id
        broken += sum(odd)
    assert broken == BREAK_THEIR_OWN_SCHEMA.get(category, 0)


@needs_bfcl
def test_broken_calls_are_refused() -> None:
    rng = Random(0)
    for item in [each for each in every_item() if each.id.endswith("37")]:
        name, arguments = references(item)[0]
        tool = next(t["function"]["parameters"] for t in item.tools if t["function"]["name"] == name)
        key = rng.choice(sorted(tool["required"]))
        broken = [
            (name, {**arguments, key: {"nothing": None}}),
            (name, {each: value for each, value in arguments.items() if each != key}),
            (f"{name}_not", arguments),
        ]
        prompt, step = DIALOGUE.render(step_of(item), "instruct"), step_of(item)
        for call in broken:
            ids = laid_out(item, [call])
            assert not accepts(prompt, ids), (item.id, call)
            reply = parsed(ids, prompt, step)
            assert [(each.name, each.arguments) for each in reply.tool_calls] == [call]
            assert reply.tool_calls[0].error
            assert bfcl.fault(item, [(item.named(call[0]), call[1])]), (item.id, call)
        undeclared = laid_out(item, [(name, {**arguments, "undeclared_thing": 1})])
        assert not accepts(prompt, undeclared), item.id
        assert not accepts(prompt, laid_out(item, [(name, arguments)])[:-2]), item.id


@needs_bfcl
def test_the_reference_calls_are_right_in_the_eyes_of_the_benchmark() -> None:
    wrong = {}
    for item in every_item():
        calls = [(item.named(name), given) for name, given in references(item)]
        if found := bfcl.fault(item, calls):
            wrong[item.id] = found
        assert bfcl.fault(item, [("nothing", {})] * len(calls)), item.id
        assert bfcl.fault(item, calls[1:]), item.id
    assert wrong == {}


@needs_bfcl
def test_items_are_spread_over_all_categories() -> None:
    chosen = bfcl.spread(302)
    assert [sum(each.category == name for each in chosen) for name in bfcl.CATEGORIES] == [76, 76, 75, 75]
    assert len({each.id for each in chosen}) == 302
    assert len(bfcl.spread(10_000)) == 1000


@needs_bfcl
def test_one_item_is_asked_and_the_outcomes_are_summed_up() -> None:
    item = all_items("simple_python")[0]
    asked = bfcl.run(item, 0.0, model={"max_tokens": 400})
    assert asked.error == "OutputTruncated" or (not asked.error and 0 < asked.tokens <= 400)
    failed = bfcl.Outcome(item=item, fault="error", error="InvalidRequest")
    (name, arguments), *_ = references(item)
    right = bfcl.Outcome(item=item, fault="", calls=((item.named(name), arguments),), tokens=40)
    swapped = bfcl.Outcome(item=item, fault="value_error:others", calls=((item.named(name), {}),), tokens=20)
    found = bfcl.report([right, swapped, failed])
    wanted = {"items": 3, "valid": 0.3333, "name": 0.6667, "tokens": 30.0, "errors": {"InvalidRequest": 1}}
    assert {key: found[key] for key in wanted} == wanted
    assert found["valid_ci"] == pytest.approx(half_width(1, 3), abs=1e-4)
    assert found["by_category"] == {
        "simple_python": {k: v for k, v in found.items() if k not in ("by_category", "faults")}
    }
    assert found["faults"] == {"value_error:others": 1, "error": 1}


def test_without_the_benchmark_the_command_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    done = CliRunner().invoke(cli.app, ["bfcl", "--items", "4"])
    assert done.exit_code == 1
    assert "bfcl-eval is not installed" in done.output
    assert "pip install --no-deps bfcl-eval" in done.output
