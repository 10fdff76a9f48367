"""Keywords about an object's properties, said in those that llguidance implements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dami_agent.dialogue.json_schema.keywords import COMPOSING

_MOST_ALTERNATIVES = 16
_ABOUT_OBJECTS = (
    *("properties", "patternProperties", "additionalProperties", "required", "minProperties", "maxProperties"),
)


def only_composes(schema: Mapping[str, Any]) -> bool:
    """Return whether a schema leaves what it says of objects to one ``$ref`` or one composition of others."""
    composed = [keyword for keyword in COMPOSING if keyword in schema]
    return len(composed) == 1 and not any(keyword in schema for keyword in _ABOUT_OBJECTS)


def close_object(schema: dict[str, Any], *, strict: bool) -> dict[str, Any]:
    """Close an object that declares properties and says nothing of others; if ``strict``, it has no others.

    What a closed object says of the number of its properties is said in other words.
    """
    if not strict:
        open_ = "properties" not in schema or "patternProperties" in schema
        return schema if open_ or schema.get("additionalProperties") is not False else _counted(schema)
    if "properties" not in schema and "patternProperties" not in schema:
        return schema
    declared = schema.get("properties", {})
    composed = any(keyword in schema for keyword in COMPOSING)
    if "patternProperties" in schema:
        matched = not composed and "required" not in schema and "additionalProperties" not in schema
        return {**schema, "additionalProperties": False} if matched else schema
    if "additionalProperties" not in schema and not composed and schema.get("minProperties", 0) <= len(declared):
        known = all(name in declared for name in schema.get("required", ()))
        schema = {**schema, "additionalProperties": False} if known else schema
    return _counted(schema) if schema.get("additionalProperties") is False else schema


def _counted(schema: dict[str, Any]) -> dict[str, Any]:
    """Leave ``minProperties`` and ``maxProperties`` of a closed object out where its properties say as much."""
    declared, required = schema["properties"], set(schema.get("required", ()))
    if schema.get("maxProperties", len(declared)) >= len(declared):
        schema = {k: v for k, v in schema.items() if k != "maxProperties"}
    low = schema.get("minProperties", 0)
    if low <= len(required):
        return {k: v for k, v in schema.items() if k != "minProperties"}
    optional = [name for name in declared if name not in required]
    if low == len(required) + 1 and "anyOf" not in schema and len(optional) <= _MOST_ALTERNATIVES:
        one_more: list[dict[str, Any]] = [{"required": [name]} for name in optional]
        return {**{k: v for k, v in schema.items() if k != "minProperties"}, "anyOf": one_more}
    return schema


def name_rules(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Rewrite ``propertyNames`` and ``unevaluatedProperties`` where other keywords mean the same."""
    out = dict(schema)
    names = out.get("propertyNames")
    plain = not any(k in out for k in ("properties", "patternProperties", *COMPOSING))
    if isinstance(names, Mapping) and plain:
        values, kinds = out.get("additionalProperties", True), {k for k in names if k not in ("type", "title")}
        if kinds == {"pattern"}:
            del out["propertyNames"]
            out |= {"patternProperties": {names["pattern"]: values}, "additionalProperties": False}
        elif kinds == {"enum"} and all(isinstance(name, str) for name in names["enum"]):
            del out["propertyNames"]
            out |= {"properties": dict.fromkeys(names["enum"], values), "additionalProperties": False}
    composed = (*COMPOSING, "if", "dependentSchemas", "$dynamicRef")
    if "unevaluatedProperties" in out and not any(keyword in out for keyword in composed):
        value = out.pop("unevaluatedProperties")
        out.setdefault("additionalProperties", value)
    if "unevaluatedItems" in out and not any(keyword in out for keyword in (*composed, "contains")):
        value = out.pop("unevaluatedItems")
        out.setdefault("items", value)
    return out
