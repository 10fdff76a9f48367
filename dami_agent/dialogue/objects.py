"""The part of :mod:`dami_agent.dialogue.narrow` that is about objects."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

from dami_agent.dialogue.merge import merge


class Empty(Exception):
    """No value satisfies this subschema."""


class Narrow(Protocol):
    """What is needed of the rewriting as a whole."""

    def narrow(self, schema: Any, path: str) -> dict[str, Any]:
        """A subschema rewritten; raises ``Empty`` if nothing satisfies it."""
        ...

    def possible(self, schema: Any, path: str) -> dict[str, Any] | None:
        """The same, None if nothing satisfies it."""
        ...

    def problem(self, path: str, keyword: str) -> None:
        """Note a keyword that the grammar will not enforce."""
        ...

    def accepts(self, schema: Any, value: Any) -> bool:
        """Whether ``value`` satisfies a subschema."""
        ...


def narrow_object(narrower: Narrow, schema: dict[str, Any], path: str) -> dict[str, Any]:
    """An object schema with nothing but ``properties`` and ``required``, or nothing but ``additionalProperties``.

    Beside declared properties no others are allowed, which is narrower than JSON Schema and what models should write;
    ``properties: {}`` declares that there are none.

    Raises:
        Empty: no object satisfies it.
    """
    if "dependentSchemas" in schema:
        narrower.problem(path, "dependentSchemas")
    closed = "properties" in schema and "patternProperties" not in schema and not schema.get("minProperties")
    rest = schema.get("additionalProperties", schema.get("unevaluatedProperties", not closed))
    required = list(schema.get("required", ()))
    declared = dict(schema.get("properties", {}))
    patterns = dict(schema.get("patternProperties", {}))
    for name in required:
        matched = any(re.search(p, name) for p in patterns)
        declared.setdefault(name, True if matched or "additionalProperties" not in schema else rest)
    if not declared:
        return _map(narrower, schema, rest, path)
    for name in declared:
        for pattern, extra in patterns.items():
            if re.search(pattern, name):
                whole = merge(declared[name], extra)
                if whole is None:
                    narrower.problem(path, "patternProperties")
                else:
                    declared[name] = whole
    allowed = schema.get("propertyNames", True)
    usable: dict[str, Any] = {}
    for name, value in declared.items():
        inner = narrower.possible(value, f"{path}/properties/{name}") if narrower.accepts(allowed, name) else None
        if inner is not None:
            usable[name] = inner
        elif name in required:
            raise Empty(f"{path}/properties/{name}")
    return _counted(schema, usable, required, path)


def _counted(schema: Mapping[str, Any], usable: dict[str, Any], required: list[str], path: str) -> dict[str, Any]:
    """The object with as many properties as ``minProperties`` and ``maxProperties`` ask for."""
    needs = schema.get("dependentRequired", {})
    while missing := [n for name in required for n in needs.get(name, ()) if n not in required]:
        required = [*required, *dict.fromkeys(missing)]
    for name in [n for n in usable if n not in required]:
        if any(n not in required for n in needs.get(name, ())):
            del usable[name]  # rather never than without what it depends on
    low, high = int(schema.get("minProperties", 0)), schema.get("maxProperties")
    optional = [n for n in usable if n not in required]
    required = [*required, *optional[: max(0, low - len(required))]]
    if high is not None and len(usable) > high:
        usable = {n: s for n, s in usable.items() if n in required}
    if any(n not in usable for n in required) or len(required) < low or (high is not None and len(required) > high):
        raise Empty(path)
    if not usable:
        return {"enum": [{}]}
    return {"type": "object", "properties": usable, "required": required, "additionalProperties": False}


def _map(narrower: Narrow, schema: Mapping[str, Any], rest: Any, path: str) -> dict[str, Any]:
    """An object of undeclared properties, all of one schema."""
    low, high = int(schema.get("minProperties", 0)), schema.get("maxProperties")
    if high is not None and low > high:
        raise Empty(f"{path}/minProperties")
    for keyword in ("patternProperties", "propertyNames"):
        if schema.get(keyword) not in (None, {}, True) and rest is not False:
            narrower.problem(path, keyword)
    try:
        if high == 0:
            raise Empty(path)
        values = narrower.narrow(rest, f"{path}/additionalProperties")
    except Empty:
        if low:
            raise
        return {"enum": [{}]}
    if low > 1:  # the grammar counts a name written twice as two
        narrower.problem(path, "minProperties")
    if schema.get("dependentRequired"):
        narrower.problem(path, "dependentRequired")
    bounds = {"minProperties": low or None, "maxProperties": None if high is None else int(high)}
    return {"type": "object", "additionalProperties": values, **{k: v for k, v in bounds.items() if v is not None}}
