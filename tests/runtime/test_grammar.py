"""Constraints under random weights at a high temperature: the answer never leaves its grammar."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dami_agent.errors import InvalidRequest, InvalidSchema, OutputInvalid
from dami_agent.runtime import LocalEngine, grammar
from dami_agent.runtime.grammar import Matcher
from dami_agent.types import Constraint, Generation, Sampling
from tests.runtime.scripted import ScriptedWeights, reply_script
from tests.runtime.support import VOCAB, Lab, ask, prompt_of

WILD = Sampling(temperature=1.5, top_p=1.0, top_k=0)
PROMPT = tuple(range(60, 80))
WEATHER = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Rome", "Zürich", "Oslo"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}


def json_schema(schema: Any, **fields: Any) -> Constraint:
    return Constraint(kind="json_schema", text=json.dumps(schema), **fields)


def tool_tag(*, required: bool) -> Constraint:
    """One bound tool in the Hermes format; free text around the calls."""
    calls = "call" if required else "TEXT? (call TEXT?)*"
    schema = {**WEATHER, "x-guidance": {"item_separator": ", ?", "key_separator": ": ?", "whitespace_flexible": False}}
    text = rf"""%llguidance {{"no_forcing": true}}
start: {calls}
call: <tool_call> "\n{{\"name\": \"weather\", \"arguments\": " %json {json.dumps(schema)} "}}\n" </tool_call>
TEXT: /(?s:.+)/ & ~/(?s:.*)<tool_call>(?s:.*)/
"""
    return Constraint(kind="lark", text=text)


def answer(lab: Lab, generation: Generation) -> str:
    return str(lab.tokenizer.decode([e.token_id for e in generation.events if e.part == "answer"]))


# Everything with a bound, so that a random model comes to an end.
leaves = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.builds(lambda n: {"type": "string", "maxLength": n}, st.integers(0, 5)),
    st.builds(
        lambda a, n: {"type": "integer", "minimum": a, "maximum": a + n}, st.integers(-50, 50), st.integers(0, 99)
    ),
    st.builds(
        lambda v: {"enum": v}, st.lists(st.sampled_from(["red", "grün", 'a"b', 1, None, True]), min_size=1, max_size=3)
    ),
    st.builds(lambda v: {"const": v}, st.sampled_from(["x", 7, False])),
)
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda i, n: {"type": "array", "items": i, "maxItems": n}, inner, st.integers(0, 2)),
        st.dictionaries(st.sampled_from(["a", "b c", "ü", '"q"']), inner, max_size=3).flatmap(
            lambda p: st.builds(
                lambda r: {"type": "object", "properties": p, "required": r, "additionalProperties": False},
                st.lists(st.sampled_from(sorted(p)), unique=True) if p else st.just([]),
            )
        ),
        st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner),
    ),
    max_leaves=4,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schemas, st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 2**32), st.booleans())
def test_a_schema_is_never_violated(
    lab: Lab, mixed: LocalEngine, schema: dict[str, Any], intensity: float, seed: int, in_thought: bool
) -> None:
    prompt = prompt_of(PROMPT, in_thought=in_thought, constraint=json_schema(schema, tool_calls=False))
    out = mixed.generate(prompt, ask(intensity, sampling=replace(WILD, seed=seed), max_reasoning_tokens=6))
    text = answer(lab, out)
    if out.finish_reason == "stop":
        jsonschema.validate(json.loads(text), schema)
    else:
        assert out.prompt_tokens + out.output_tokens == mixed.info.context_length  # nothing else may cut it


@pytest.mark.parametrize("intensity", [0.0, 0.6])
def test_only_the_bound_tool_can_be_called(lab: Lab, mixed: LocalEngine, intensity: float) -> None:
    finished = 0
    for seed in range(5):
        sampling = replace(WILD, seed=seed)
        prompt = prompt_of(PROMPT, constraint=tool_tag(required=True), in_thought=seed % 2 == 0)
        out = mixed.generate(prompt, ask(intensity, sampling=sampling, max_reasoning_tokens=3, max_tokens=300))
        if out.finish_reason == "stop":
            finished += 1
            text = answer(lab, out)
            assert text.startswith("<tool_call>\n{")
            assert text.endswith("}\n</tool_call>")
            call = json.loads(text.removeprefix("<tool_call>").removesuffix("</tool_call>"))
            assert call["name"] == "weather"
            jsonschema.validate(call["arguments"], WEATHER)
    assert finished >= 2


def test_the_control_token_itself_opens_a_structural_tag(lab: Lab) -> None:
    """``<tool_call>`` is one added token: it must count as the trigger, and what follows must be the bound tool."""
    eos = lab.eos_ids[0]
    with lab.engine(weights=ScriptedWeights(reply_script(20, [50, lab.tool_call_id], eos))) as engine:
        out = engine.generate(prompt_of(PROMPT, constraint=tool_tag(required=False)), ask(max_tokens=400))
        free = engine.generate(prompt_of(PROMPT, constraint=tool_tag(required=False)), ask(max_tokens=1))
    assert out.token_ids[:2] == (50, lab.tool_call_id)
    assert answer(lab, out)[1:].startswith('<tool_call>\n{"name": "weather", "arguments": {')
    assert free.token_ids == (50,)  # text before a call is free


def test_a_tool_call_ends_the_thought_only_where_the_answer_may_call(lab: Lab) -> None:
    script = [1, lab.tool_call_id, lab.close_id]
    limits = {"max_tokens": 60}
    with lab.engine(weights=ScriptedWeights(reply_script(20, script, lab.eos_ids[0]))) as engine:
        called = engine.generate(
            prompt_of(PROMPT, in_thought=True, constraint=tool_tag(required=False)), ask(1.0, **limits)
        )
        masked = engine.generate(
            prompt_of(PROMPT, in_thought=True, constraint=replace(tool_tag(required=False), tool_calls=False)),
            ask(1.0, **limits),
        )
        by_schema = engine.generate(
            prompt_of(PROMPT, in_thought=True, constraint=json_schema({"type": "null"})), ask(1.0, **limits)
        )
    assert called.thought_closed_by == "tool_call"
    assert answer(lab, called).startswith('<tool_call>\n{"name": "weather"')
    for out in (masked, by_schema):
        assert out.thought_closed_by == "model"
        assert lab.tool_call_id not in [e.token_id for e in out.events if e.part == "reasoning"]
    assert (answer(lab, by_schema), by_schema.finish_reason) == ("null", "stop")


def test_grammar_meets_stop_string_and_cap(lab: Lab, mixed: LocalEngine) -> None:
    constraint = json_schema({"type": "string", "minLength": 30, "maxLength": 30})
    cut = mixed.generate(prompt_of(PROMPT, constraint=constraint), ask(max_tokens=7))
    assert (cut.finish_reason, cut.output_tokens) == ("length", 7)
    assert answer(lab, cut).startswith('"')
    stopped = mixed.generate(prompt_of(PROMPT, constraint=constraint), ask(max_tokens=100, stop=('"',)))
    assert (stopped.stop_string, stopped.output_tokens) == ('"', 1)


def test_a_gbnf_grammar(lab: Lab, mixed: LocalEngine) -> None:
    constraint = Constraint(kind="ebnf", text='root ::= ("yes" | "no") " " [0-9]{2}')
    for seed in range(5):
        out = mixed.generate(prompt_of(PROMPT, constraint=constraint), ask(0.5, sampling=replace(WILD, seed=seed)))
        word, digits = answer(lab, out).split(" ")
        assert word in ("yes", "no")
        assert len(digits) == 2
        assert digits.isdigit()
        assert out.finish_reason == "stop"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("json_schema", "not json"),
        ("json_schema", '{"type": "strnig"}'),
        ("json_schema", '{"properties": [1]}'),
        ("json_schema", '{"type": "object", "properties": {"a": {"minimum": "x"}}}'),
        ("json_schema", '{"$ref": "#/$defs/missing"}'),
        ("json_schema", '{"$ref": "https://example.com/schema.json"}'),
        ("json_schema", '{"type": "string", "pattern": "(unclosed"}'),
        ("json_schema", '{"type": "integer", "minimum": 5, "maximum": 1}'),
        ("json_schema", "[]"),
        ("lark", ""),
        ("lark", "start: nonsense"),
        ("lark", 'start: %json {"type": 3}'),
        ("lark", "start: <no_such_token>"),
        ("ebnf", "root ::= ("),
        ("ebnf", "no_root ::= 'a'"),
        ("structural_tag", "{}"),
    ],
)
def test_a_malformed_schema_is_refused_and_harms_nobody(lab: Lab, mixed: LocalEngine, kind: Any, text: str) -> None:
    running = mixed.submit(prompt_of(PROMPT), ask(max_tokens=20))
    with pytest.raises(InvalidSchema):
        mixed.submit(prompt_of(PROMPT, constraint=Constraint(kind=kind, text=text)), ask())
    lab.assert_greedy(0.0, PROMPT, running.result(60).token_ids)


def test_constrained_and_free_requests_share_a_batch(lab: Lab, mixed: LocalEngine) -> None:
    constraint = json_schema(WEATHER)
    wild = [ask(0.4, sampling=replace(WILD, seed=seed), max_tokens=60) for seed in range(6)]
    bound = [prompt_of(PROMPT, constraint=constraint if i % 2 else None) for i in range(6)]
    alone = [mixed.generate(p, d) for p, d in zip(bound, wild, strict=True)]
    jobs = [mixed.submit(p, d) for p, d in zip(bound, wild, strict=True)]
    assert [j.result(60).token_ids for j in jobs] == [a.token_ids for a in alone]


def test_schemas_compiled_by_many_threads_at_once(lab: Lab, mixed: LocalEngine) -> None:
    def one(i: int) -> str:
        constraint = json_schema({"enum": [f"choice {i % 4}"]})
        return answer(lab, mixed.generate(prompt_of(PROMPT, constraint=constraint), ask(0.5, sampling=WILD)))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(16))) == [json.dumps(f"choice {i % 4}") for i in range(16)]


def test_a_constrained_reply_is_continued(lab: Lab, mixed: LocalEngine) -> None:
    decision = ask(0.4, sampling=replace(WILD, seed=3), max_tokens=200, max_reasoning_tokens=4)
    prompt = prompt_of(PROMPT, in_thought=True, constraint=json_schema(WEATHER))
    whole = mixed.generate(prompt, decision)
    for cut in (0, 3, 6, whole.output_tokens - 1):
        again = mixed.generate(replace(prompt, reply_ids=whole.token_ids[:cut]), decision)
        assert again.token_ids == whole.token_ids
        assert [e.part for e in again.events] == [e.part for e in whole.events]
    with pytest.raises(InvalidRequest, match="break the constraint"):
        mixed.submit(prompt_of(PROMPT, constraint=json_schema(WEATHER), reply_ids=(5,)), decision)


class Overgenerous(Matcher):
    """A matcher whose mask allows tokens that it then refuses, as a faulty grammar library's does."""

    def mask(self) -> torch.Tensor:
        allowed = super().mask()
        allowed[::2] = True
        return allowed


@pytest.mark.parametrize("temperature", [0.0, 0.8, 1.5])
def test_a_refused_token_is_masked_and_drawn_again(lab: Lab, temperature: float, monkeypatch: Any) -> None:
    """No request fails; greedy decoding writes what it would under a right mask; equal seeds draw equal tokens."""
    prompt = prompt_of(PROMPT, constraint=json_schema({"type": "string", "minLength": 20, "maxLength": 200}))
    decisions = [
        ask(0.5, sampling=Sampling(temperature=temperature, seed=seed, logprobs=1), max_tokens=30) for seed in range(4)
    ]
    with lab.engine("mixed") as engine:
        right = [engine.generate(prompt, d) for d in decisions]
        monkeypatch.setattr(grammar, "Matcher", Overgenerous)
        alone = [engine.generate(prompt, d) for d in decisions]
        jobs = [engine.submit(prompt, d) for d in decisions]
        together = [job.result(60) for job in jobs]
    assert [out.token_ids for out in together] == [out.token_ids for out in alone]
    for out, before in zip(alone, right, strict=True):
        if temperature == 0.0:
            assert out.token_ids == before.token_ids
        judge = grammar.GrammarCompiler(lab.tokenizer, VOCAB, lab.eos_ids).matcher(prompt.constraint)
        assert all(judge.accept(token) for token in out.token_ids)
        scores = torch.log_softmax(lab.logits(0.5, [*PROMPT, *out.token_ids]), dim=-1)[len(PROMPT) - 1 :]
        for event, row in zip(out.events, scores, strict=False):
            assert event.logprob is not None
            assert event.logprob.logprob == pytest.approx(float(row[event.token_id]), abs=1e-3)


def test_a_grammar_that_refuses_every_token_fails_its_own_row_only(
    lab: Lab, mixed: LocalEngine, monkeypatch: Any
) -> None:
    class Stubborn(Overgenerous):
        def allows(self, token: int) -> bool:
            return False

    monkeypatch.setattr(grammar, "Matcher", Stubborn)
    bad = mixed.submit(prompt_of(PROMPT, constraint=json_schema({"type": "string"})), ask(max_tokens=20))
    good = mixed.submit(prompt_of(PROMPT), ask(max_tokens=20))
    with pytest.raises(OutputInvalid, match="refuses every token"):
        bad.result(60)
    lab.assert_greedy(0.0, PROMPT, good.result(60).token_ids)


def test_a_constrained_answer_that_runs_in_a_circle_ends_as_a_free_one_does(lab: Lab) -> None:
    circle = lab.tokenizer.encode("ab", add_special_tokens=False)

    def script(position: int) -> int:
        return circle[position % len(circle)]

    with lab.engine(weights=ScriptedWeights(script)) as engine:
        free = engine.generate(prompt_of(PROMPT), ask())
        held = engine.generate(prompt_of(PROMPT, constraint=json_schema({"type": "object"})), ask())
    assert (free.finish_reason, held.finish_reason) == ("length", "length")
    assert (
        held.output_tokens <= free.output_tokens + 64 < engine.info.context_length - len(PROMPT)
    )  # looked at every 64
    assert answer(lab, held).startswith('{"')
