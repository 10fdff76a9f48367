"""Values that may satisfy a schema, drawn by looking at it; a validator says which of them do.

A value that is drawn for one member of a union, breaks it and satisfies another is not one to expect of a grammar: it
may have properties, or an order of them, that the other member does not declare and models should not write.
"""

from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

from dami_agent.dialogue.json_schema import validator

FORMATS = FormatChecker(["date", "email", "ipv4"])
TEXTS = ["", "a", "b", "x", "yy", "xz", "ab", "abc", "aXc", "a1", "12", "123", "ab@cd", 'q"x', "é\n", "2024-02-28"]
TEXTS += ["me@example.org", "127.0.0.1", "aaaa", "long enough to pass", "日本語", "back\\slash"]
NUMBERS = [0, 1, -1, 2, 3, 5, 7, 8, 9, 14, -7, 0.5, -1.25, 3.0, 0.001, 12.75, -2.25, 30, -40, 10**12, 1e-7, 6.02e18]


class Broken(Exception):
    """The value drawn for a member of a union breaks it."""


def fits(value: Any, schema: Any) -> bool:
    """Whether a value satisfies a schema, formats too."""
    return validator(schema).is_valid(value) and Draft202012Validator(schema, format_checker=FORMATS).is_valid(value)


def drawn(schema: Any, rng: Random, count: int) -> list[Any]:
    """As many values as ``count``, but for those that break the member of a union they were drawn for."""
    found = []
    for _ in range(count):
        with suppress(Broken):
            found.append(draw(schema, schema, rng))
    return found


def draw(schema: Any, root: Any, rng: Random, depth: int = 4) -> Any:
    """A value with the shape of ``schema``, its keys in the order of their declaration; valid or not.

    Raises:
        Broken: it was drawn for a member of a union and breaks that.
    """
    if isinstance(schema, bool) or depth < 0:
        return anything(rng, 1)
    if "$ref" in schema:
        return draw(_target(schema["$ref"], root), root, rng, depth - 1)
    for keyword in ("const", "enum"):
        if keyword in schema and schema[keyword] != [] and rng.random() < 0.9:
            return schema[keyword] if keyword == "const" else rng.choice(schema[keyword])
    parts = [p for k in ("anyOf", "oneOf", "allOf") for p in schema.get(k, ())]
    if parts and (rng.random() < 0.7 or not set(schema) & {"type", "properties"}):
        part = rng.choice(parts)
        if "allOf" in schema:
            return draw(part, root, rng, depth - 1)
        beside = {k: v for k, v in schema.items() if k not in ("anyOf", "oneOf")}
        value = draw({**beside, **part} if isinstance(part, dict) else part, root, rng, depth - 1)
        if not fits(value, {**part, "$defs": root.get("$defs", {})} if isinstance(part, dict) else part):
            raise Broken
        return value
    kinds = schema.get("type", _likely(schema))
    kind = kinds if isinstance(kinds, str) else rng.choice(list(kinds) or ["null"])
    if kind == "object":
        return _object(schema, root, rng, depth)
    if kind == "array":
        return _array(schema, root, rng, depth)
    if kind == "string":
        return rng.choice(TEXTS)
    if kind in ("integer", "number"):
        near = [
            schema[k]
            for k in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
            if k in schema
        ]
        pool = [*NUMBERS, *near, *(n + 1 for n in near), *(n - 1 for n in near)]
        value = rng.choice(pool)
        return int(rng.choice([n for n in pool if abs(n) < 10**20])) if kind == "integer" else value
    return rng.choice([True, False]) if kind == "boolean" else None


def anything(rng: Random, depth: int) -> Any:
    kind = rng.randrange(6 if depth else 4)
    if kind == 0:
        return rng.choice(NUMBERS)
    if kind == 1:
        return rng.choice(TEXTS)
    if kind < 4:
        return rng.choice([None, True, False])
    if kind == 4:
        return [anything(rng, depth - 1) for _ in range(rng.randrange(3))]
    return {rng.choice(TEXTS): anything(rng, depth - 1) for _ in range(rng.randrange(3))}


def _object(schema: Any, root: Any, rng: Random, depth: int) -> dict[str, Any]:
    declared, required = schema.get("properties", {}), schema.get("required", ())
    value = {n: draw(s, root, rng, depth - 1) for n, s in declared.items() if n in required or rng.random() < 0.6}
    value |= {
        n: draw(schema.get("additionalProperties", True), root, rng, depth - 1) for n in required if n not in declared
    }
    patterns = schema.get("patternProperties", {})
    fewest, most = schema.get("minProperties", 0), schema.get("maxProperties", 9)
    for name in ("a1", "zz", "ab"):
        others = schema.get("additionalProperties", not {"properties", "patternProperties"} & set(schema))
        wanted = len(value) < fewest or (len(value) < most and rng.random() < 0.3)
        if name not in value and name not in declared and wanted:
            fitting = [s for p, s in patterns.items() if p.strip("^$.") in name]
            if fitting or others is not False:
                value[name] = draw(fitting[0] if fitting else others, root, rng, depth - 1)
    return value


def _array(schema: Any, root: Any, rng: Random, depth: int) -> list[Any]:
    prefix = schema.get("prefixItems", [])
    length = min(rng.randrange(4) + min(3, schema.get("minItems", 0)), schema.get("maxItems", 9))
    places = [prefix[n] if n < len(prefix) else schema.get("items", True) for n in range(length)]
    return [draw(s, root, rng, depth - 1) for s in places]


def _likely(schema: Any) -> list[str]:
    found = ["string"] if {"pattern", "minLength", "maxLength", "format"} & set(schema) else []
    found += (
        ["number"] if {"minimum", "maximum", "multipleOf", "exclusiveMinimum", "exclusiveMaximum"} & set(schema) else []
    )
    found += ["array"] if {"items", "prefixItems", "minItems"} & set(schema) else []
    found += ["object"] if {"properties", "required", "additionalProperties"} & set(schema) else []
    return found or ["null", "boolean", "number", "string"]


def _target(ref: str, root: Any) -> Any:
    node = root
    for part in ref.removeprefix("#").strip("/").split("/"):
        node = node[part] if part else node
    return node
