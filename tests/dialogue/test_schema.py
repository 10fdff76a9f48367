"""What the grammar of a rewritten schema allows, the schema itself allows; what cannot be enforced is reported."""

from __future__ import annotations

import json
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dami_agent.dialogue.json_schema import check, enforceable, validator
from dami_agent.errors import InvalidSchema

from .grammar import Grammar
from .instances import drawn, fits
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
        maxLength=st.sampled_from([0, 3, 9, 100]),
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


def plain(value: Any) -> str:
    """JSON with numbers written out: 3.0 is the same number as 3, and 1e-07 as 0.0000001."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(k, ensure_ascii=False)}: {plain(v)}' for k, v in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(plain, value))}]"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else format(Decimal(repr(value)), "f")
    return json.dumps(value, ensure_ascii=False)


def hold(schema: Any, seed: int, *, strict: bool = True, walks: int = 4, draws: int = 12) -> tuple[int, int]:
    """What a random model writes is valid, and what is valid can be written; counts both, problems aside."""
    try:
        check(schema, "test")
    except InvalidSchema:
        return 0, 0
    rng, judge = Random(seed), validator(schema)
    valid = [value for value in drawn(schema, rng, draws) if fits(value, schema)]
    try:
        narrowed, problems = enforceable(schema, strict=strict)
    except InvalidSchema:
        assert not valid, (schema, valid)
        return 0, 0
    grammar, written = Grammar(narrowed), 0
    for _ in range(walks):
        ids, done = grammar.walk(rng)
        if done:
            value = json.loads(TOKENIZER.decode(ids))
            assert problems or judge.is_valid(value), (schema, narrowed, value)
            written += 1
    for value in valid:
        text = json.dumps(value, ensure_ascii=False)
        assert grammar.accepts(text) or grammar.accepts(plain(value)), (schema, narrowed, value)
    return written, len(valid)


@SLOW
@given(schema=SCHEMAS, ref=st.booleans(), seed=st.integers(0, 2**32), strict=st.booleans())
def test_a_random_model_never_breaks_a_schema_and_can_write_all_it_allows(
    schema: Any, ref: bool, seed: int, strict: bool
) -> None:
    if ref:
        schema = {"$ref": "#/$defs/it", "$defs": {"it": schema}}
    hold(schema, seed, strict=strict)


@pytest.mark.slow
@settings(SLOW, max_examples=2000)
@given(schema=SCHEMAS, ref=st.booleans(), seed=st.integers(0, 2**32), strict=st.booleans())
def test_the_same_for_two_thousand_schemas(schema: Any, ref: bool, seed: int, strict: bool) -> None:
    if ref:
        schema = {"$ref": "#/$defs/it", "$defs": {"it": schema}}
    hold(schema, seed, strict=strict)


INTEGER = {"type": "integer"}
TWO_INTEGERS = {"allOf": [{"type": "integer", "minimum": 5}, {"type": "integer", "maximum": 4}]}
NOTHING = {
    "required beyond maxProperties": {"type": "object", "properties": {}, "required": ["a"], "maxProperties": 0},
    "required, undeclared": {"type": "object", "properties": {}, "required": ["a"], "additionalProperties": False},
    "required and impossible": {"type": "object", "properties": {"a": TWO_INTEGERS}, "required": ["a"]},
    "minProperties over maxProperties": {"type": "object", "minProperties": 1, "maxProperties": 0},
    "minItems over maxItems": {"type": "array", "minItems": 2, "maxItems": 1},
    "impossible items": {"type": "array", "items": TWO_INTEGERS, "minItems": 1},
    "empty enum": {"enum": []},
    "enum of another type": {"type": "string", "enum": [1]},
    "minimum over maximum": {"type": "integer", "minimum": 5, "maximum": 4},
    "no multiple": {"type": "integer", "minimum": 1, "maximum": 6, "multipleOf": 7},
    "minLength over maxLength": {"type": "string", "minLength": 3, "maxLength": 2},
    "two types": {"allOf": [INTEGER, {"type": "string"}]},
    "two bounds": TWO_INTEGERS,
    "two constants": {"allOf": [{"const": 1}, {"const": 2}]},
    "a union of nothing": {"anyOf": [{"enum": []}, False]},
    "false": False,
}
OPEN = {"type": "object", "properties": {}}


@pytest.mark.parametrize("union", ["anyOf", "oneOf"])
@pytest.mark.parametrize("nothing", NOTHING.values(), ids=NOTHING)
def test_a_member_that_nothing_satisfies_is_left_out(nothing: Any, union: str) -> None:
    either = {union: [nothing, {"type": "null"}]}
    nested = {"type": "array", "items": either, "minItems": 1}
    of_objects = {"type": "object", "properties": {"p": {union: [OPEN, nothing]}}, "required": ["p"]}
    for schema, right, wrong in (
        (either, "null", '{} {"a":1} [] 1 4 5 "" "a" true'),
        (nested, "[null] [null,null]", "[] [1] [{}] [[]]"),
        (of_objects, '{"p":{}}', '{} {"p":{"a":1}} {"p":1} {"p":null}'),
        ({"type": "array", "items": nothing}, "[]", '[1] [{}] [{"a":1}] [[]] ["a"]'),
    ):
        grammar = Grammar(enforceable(schema)[0])
        assert [t for t in right.split() if not grammar.accepts(t)] == []
        assert [t for t in wrong.split() if grammar.accepts(t)] == []
        hold(schema, 0)
        hold(schema, 0, strict=False)


@pytest.mark.parametrize("union", ["anyOf", "oneOf"])
@pytest.mark.parametrize("nothing", NOTHING.values(), ids=NOTHING)
def test_a_union_of_members_that_nothing_satisfies_is_refused(nothing: Any, union: str) -> None:
    alone = {union: [nothing, {union: [nothing, {"enum": []}]}]}
    for schema in (
        alone,
        {"type": "object", "properties": {"p": alone}, "required": ["p"]},
        {"type": "array", "items": alone, "minItems": 1},
    ):
        check(schema, "test")
        for strict in (True, False):
            with pytest.raises(InvalidSchema, match="no value can satisfy"):
                enforceable(schema, strict=strict)


HAS_A = {"type": "object", "properties": {"a": INTEGER}, "required": ["a"]}
HAS_B = {"type": "object", "properties": {"b": INTEGER}, "required": ["b"]}
HAS_BOTH = {"type": "object", "properties": {"a": INTEGER, "b": INTEGER}, "required": ["a", "b"]}
CLOSED = {"additionalProperties": False}


@pytest.mark.parametrize(
    ("members", "reported"),
    [
        ([HAS_A, HAS_B], False),
        ([HAS_A, HAS_BOTH], True),
        ([HAS_BOTH, OPEN], True),
        ([{**HAS_A, **CLOSED}, HAS_BOTH], False),
        ([{**HAS_A, **CLOSED}, {**HAS_BOTH, **CLOSED}], False),
        ([HAS_A, {**HAS_BOTH, "properties": {"a": {"type": "string"}, "b": INTEGER}}], False),
    ],
)
def test_one_of_objects_that_overlap_unless_closed_is_reported(members: list[Any], reported: bool) -> None:
    """What is written for one member may be a value of another, as the schema has it, and so of two."""
    within = {"type": "array", "items": {"oneOf": members}}
    inner = [{"type": "object", "properties": {"p": member}, "required": ["p"]} for member in members]
    named: Any = {
        "oneOf": [{"$ref": "#/$defs/0"}, {"$ref": "#/$defs/1"}],
        "$defs": dict(zip("01", members, strict=True)),
    }
    for schema in ({"oneOf": members}, within, *([named] if reported else [])):
        assert any(each.keyword == "oneOf" for each in enforceable(schema)[1]) == reported
        hold(schema, 0)
    assert enforceable({"oneOf": inner})[1] or not reported


def test_a_tag_that_we_require_tells_nothing_of_members_without_it() -> None:
    """The untagged ``{"x": 1}`` satisfies both members as they were written."""
    tagged = {"type": "object", "properties": {"k": {"const": "y"}}}
    untagged = {"type": "object", "properties": {"x": INTEGER}}
    schema = {"oneOf": [tagged, untagged], "discriminator": {"propertyName": "k"}}
    assert not validator(schema).is_valid({"x": 1})
    assert "#/oneOf" in map(str, enforceable(schema)[1])


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


@settings(max_examples=40, deadline=None)
@given(schema=NUMBERS)
def test_numbers_at_their_bounds(schema: dict[str, Any]) -> None:
    try:
        narrowed, problems = enforceable(schema)
    except InvalidSchema:
        assert not any(validator(schema).is_valid(v / 4) for v in range(-170, 170))
        return
    grammar, whole = Grammar(narrowed), schema["type"] == "integer"
    for value in range(-42, 43):
        if not problems:
            assert not grammar.accepts(str(value)) or validator(schema).is_valid(value), value
        if whole:
            assert grammar.accepts(str(value)) or not validator(schema).is_valid(value), value
    for text in ("0.5", "0.25", "12.75", "-2.25", "0.001", "-1.5", "3.0"):
        assert problems or not grammar.accepts(text) or validator(schema).is_valid(json.loads(text)), text


NULL = {"type": "null"}
KIND = [
    {"type": "object", "properties": {"k": {"const": name}, name: {"type": "integer"}}, "required": ["k", name]}
    for name in ("x", "y")
]


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"$ref": "#/$defs/it", "minimum": 5, "$defs": {"it": {"type": "integer", "maximum": 9}}}, "5 9", "4 10"),
        ({"allOf": [{"type": "integer"}, {"minimum": 3}, {"maximum": 4}]}, "3 4", "2 5 true"),
        ({"enum": ["a", 1, None], "type": ["string", "null"]}, '"a" null', "1"),
        ({"type": "integer", "anyOf": [{"minimum": 8}, {"maximum": 2}]}, "9 1", "5"),
        ({"oneOf": KIND}, '{"k":"x","x":1} {"k":"y","y":1}', '{"k":"x","y":1} {"k":"z"}'),
        ({"type": "array", "items": {"type": "null"}, "minItems": 1, "maxItems": 2}, "[null] [null,null]", "[]"),
        (
            {"type": "array", "prefixItems": [{"type": "null"}], "items": {"type": "boolean"}, "minItems": 2},
            "[null,true]",
            "[null]",
        ),
        ({"type": "object", "additionalProperties": {"type": "null"}, "maxProperties": 1}, '{} {"q":null}', '{"a":1}'),
        ({"type": "object", "properties": {}}, "{}", '{"a":1}'),
        ({"properties": {"a": {"type": "null"}, "b": {"type": "null"}}, "minProperties": 1}, '{"a":null} 3', "{}"),
        ({"type": "string", "minLength": 2, "maxLength": 3}, '"ab" "éé🙂" "ab\\""', '"a" "abcd" "abc\\""'),
        ({"type": "string", "pattern": "^[a-z]+$", "maxLength": 2}, '"ab"', '"abc" ""'),
        ({"type": "string", "pattern": "^(x|yy)z?$"}, '"x" "yyz"', '"xx" "z" "y"'),
        ({"type": "string", "format": "date"}, '"2024-02-28"', '"2024-02-30" "24-1-1"'),
        ({"type": "string"}, '"" "a\\"b\\n" "日本"', "1"),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, "0.5 1", "0 1.1 -1 1e0"),
        ({"type": "number", "multipleOf": 0.1}, "0.1 12.3 -5", "0.15"),
        ({"type": "string", "pattern": "^a(b{1,2})?$"}, '"a" "ab" "abb"', '"abbb" "b"'),
        ({"type": "string", "pattern": "^ab+$", "minLength": 3}, '"abb"', '"ab"'),
        (
            {"type": "object", "patternProperties": {"^a": {"type": "null"}}, "additionalProperties": False},
            '{} {"ab":null}',
            '{"b":null} {"a":1}',
        ),
        (True, '{"a":[1,{"b":null}]} "x" -1.5 true', "{ 1e999"),
    ],
)
def test_what_is_let_through(schema: Any, right: str, wrong: str) -> None:
    check(schema, "test")
    narrowed, problems = enforceable(schema)
    assert not problems
    grammar = Grammar(narrowed)
    assert [t for t in right.split() if not grammar.accepts(t)] == []
    assert [t for t in wrong.split() if grammar.accepts(t)] == []


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"not": {"type": "null"}}, "#/not"),
        ({"type": "object", "properties": {"a": {"type": "array", "contains": {}}}}, "#/properties/a/contains"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "#/oneOf"),
        ({"type": "number", "multipleOf": 1e-12}, "#/multipleOf"),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}, "#/exclusiveMinimum"),
        ({"type": "string", "pattern": "(?!a)b"}, "#/pattern"),
        ({"type": "string", "pattern": r"\bx"}, "#/pattern"),
        ({"type": "object", "patternProperties": {"^a": {"type": "null"}, "b": {}}}, "#/patternProperties"),
        ({"type": "object", "if": {}, "then": {}}, "#/if"),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"not": {}}}}, "#/$defs/n/not"),
    ],
)
def test_what_cannot_be_enforced_is_reported_with_its_place(schema: Any, place: str) -> None:
    assert place in map(str, enforceable(schema)[1])


def test_an_alternative_that_cannot_be_enforced_is_allowed_and_reported() -> None:
    """It was left out before; but then no value of it could ever be written."""
    odd = {"type": "string", "pattern": "(?!a)"}
    narrowed, problems = enforceable({"anyOf": [odd, {"type": "integer"}, NULL]})
    assert [str(p) for p in problems] == ["#/anyOf/0/pattern"]
    assert Grammar(narrowed).accepts('"b"')
    assert not Grammar(narrowed).accepts("1.5")


@pytest.mark.parametrize(
    "old",
    [
        {"items": [{"type": "integer"}, {"$ref": "#/items/0"}], "type": "array", "minItems": 2, "maxItems": 2},
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "array",
            "items": [{"type": "integer"}, {"type": "integer"}],
            "additionalItems": False,
            "minItems": 2,
        },
    ],
)
def test_tuples_of_draft_07(old: Any) -> None:
    check(old, "test")
    schema, problems = enforceable(old)
    assert not problems
    texts = ["[1, 2]", '[1, "a"]', "[1]", "[1, 2, 3]"]
    assert [Grammar(schema).accepts(text) for text in texts] == [True, False, False, False]
    assert [validator(old).is_valid(json.loads(text)) for text in texts] == [True, False, False, False]
