"""What the grammar of a rewritten schema allows, the schema itself allows; what cannot be enforced is reported."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dami_agent.dialogue.schema import check, enforceable, validator
from dami_agent.errors import InvalidSchema

from .grammar import Grammar
from .support import TOKENIZER

SLOW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
NAMES = st.sampled_from(["a", "b", "kind", 'q"x', "ünï"])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-30, 30),
    st.sampled_from([0.5, -1.25, 3.0]),
    st.sampled_from(["", "a", 'x"', "é\n"]),
)
BOUNDS = st.one_of(st.integers(-40, 40), st.sampled_from([0.5, -2.25, 0.001, 12.75]))


def some(**keywords: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keywords)


NUMBERS = st.builds(
    lambda t, k: {"type": t, **k},
    st.sampled_from(["integer", "number"]),
    some(
        minimum=BOUNDS,
        maximum=BOUNDS,
        exclusiveMinimum=BOUNDS,
        exclusiveMaximum=BOUNDS,
        multipleOf=st.sampled_from([1, 2, 7, 0.5]),
    ),
)
WHOLE = [
    "^[a-z]+$",
    r"\d{2,3}",
    "a|b",
    "^(x|yy)z?$",
    "^a.c",
    "(?=a)",
    r"^\w+@\w+$",
    "[^a]",
    r"\bx",
    "[ -~]+",
    r"^[^\n]*$",
]
STRINGS = st.builds(
    lambda k: {"type": "string", **k},
    some(
        minLength=st.integers(0, 4),
        maxLength=st.sampled_from([0, 3, 9, 200]),
        pattern=st.sampled_from(WHOLE),
        format=st.sampled_from(["date", "email", "ipv4", "strange"]),
    ),
)
LEAVES = st.one_of(
    NUMBERS,
    STRINGS,
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {}, True, {"type": ["string", "null"]}]),
    st.builds(lambda v: {"enum": v}, st.lists(SCALARS, min_size=1, max_size=4)),
    st.builds(lambda v: {"const": v}, SCALARS),
    some(minimum=BOUNDS, minLength=st.integers(0, 3)),
)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    arrays = some(
        items=inner,
        prefixItems=st.lists(inner, min_size=1, max_size=2),
        minItems=st.integers(0, 3),
        maxItems=st.integers(0, 3),
        uniqueItems=st.booleans(),
    )
    objects = some(
        properties=st.dictionaries(NAMES, inner, max_size=3),
        required=st.lists(NAMES, unique=True, max_size=2),
        additionalProperties=st.one_of(st.booleans(), inner),
        patternProperties=st.dictionaries(st.sampled_from(["^a", "."]), inner, max_size=1),
        propertyNames=st.just({"maxLength": 3}),
        minProperties=st.integers(0, 2),
        maxProperties=st.integers(0, 3),
        dependentRequired=st.just({"a": ["b"]}),
    )
    return st.one_of(
        st.builds(lambda k: {"type": "array", **k}, arrays),
        st.builds(lambda k: {"type": "object", **k}, objects),
        st.builds(
            lambda k, b: {k: b}, st.sampled_from(["anyOf", "oneOf", "allOf"]), st.lists(inner, min_size=1, max_size=3)
        ),
        st.builds(lambda b, k: {"anyOf": b, **k}, st.lists(inner, min_size=1, max_size=2), some(minimum=BOUNDS)),
        st.builds(lambda a, b: {"allOf": [a], "if": a, "then": b}, inner, inner),
        st.builds(lambda a: {"not": a}, inner),
    )


SCHEMAS = st.recursive(LEAVES, nested, max_leaves=5)


@SLOW
@given(schema=SCHEMAS, ref=st.booleans(), seed=st.integers(0, 2**32))
def test_a_random_model_never_breaks_a_schema_without_problems(schema: Any, ref: bool, seed: int) -> None:
    if ref:
        schema = {"$ref": "#/$defs/it", "$defs": {"it": schema}}
    check(schema, "test")
    try:
        narrowed, problems = enforceable(schema)
    except InvalidSchema:
        return
    grammar, rng = Grammar(narrowed), Random(seed)
    for _ in range(4):
        ids, done = grammar.walk(rng)
        if done and not problems:
            value = json.loads(TOKENIZER.decode(ids))
            assert validator(schema if isinstance(schema, dict) else {}).is_valid(value), (schema, narrowed, value)


ATOMS = st.sampled_from(
    [
        "a",
        "b",
        "c",
        "[ab]",
        "[^a]",
        r"\d",
        ".",
        r"\.",
        "[ -~]",
        r"[^\]b-]",
        r"\w",
        r"\s",
        r"[\w\-]",
        '"',
        r"\\",
        "é",
        "-",
    ]
)
REPEATS = st.sampled_from(["", "?", "*", "+", "{2}", "{1,2}", "{0,3}", "{2,}"])
PATTERNS = st.recursive(
    st.tuples(ATOMS, REPEATS).map("".join),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner, REPEATS).map(lambda t: f"({t[0]}|{t[1]}){t[2]}"),
        st.tuples(inner, REPEATS).map(lambda t: f"({t[0]}){t[1]}"),
    ),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None)
@given(pattern=PATTERNS, anchored=st.booleans(), seed=st.integers(0, 2**32))
def test_a_pattern_is_followed_or_reported(pattern: str, anchored: bool, seed: int) -> None:
    schema = {"type": "string", "pattern": f"^{pattern}$" if anchored else pattern}
    narrowed, problems = enforceable(schema)
    if problems:
        return
    grammar, rng = Grammar(narrowed), Random(seed)
    for _ in range(4):
        ids, done = grammar.walk(rng, 60)
        if done:
            assert validator(schema).is_valid(json.loads(TOKENIZER.decode(ids))), TOKENIZER.decode(ids)
    for text in ("a", "ab", "abc", "aa", "b1", "a.", "ccc", "1", ""):
        if not validator(schema).is_valid(text):
            assert not grammar.accepts(json.dumps(text)), text
