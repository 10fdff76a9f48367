"""Rewrites a JSON schema into the part of JSON Schema that xgrammar enforces; see :mod:`dami_agent.dialogue.schema`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema
from referencing.jsonschema import EMPTY_REGISTRY

from dami_agent.dialogue.merge import merge
from dami_agent.dialogue.numbers import NUMBER_BOUND, narrow_number
from dami_agent.dialogue.objects import Empty, narrow_object
from dami_agent.dialogue.strings import narrow_string
from dami_agent.errors import InvalidSchema

_FAMILY = {
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains", "unevaluatedItems"),
    "object": (
        *("properties", "required", "additionalProperties", "patternProperties", "propertyNames", "minProperties"),
        *("maxProperties", "dependentRequired", "dependentSchemas", "unevaluatedProperties"),
    ),
}
_GENERAL = ("type", "enum", "const", "anyOf", "oneOf", "allOf", "not", "if", "then", "else", "$ref", "$dynamicRef")
_KNOWN = {*_GENERAL, *(k for family in _FAMILY.values() for k in family)}


@dataclass(frozen=True, slots=True)
class Problem:
    """A keyword that the grammar does not enforce, and where it stands (JSON pointer)."""

    path: str
    keyword: str

    def __str__(self) -> str:
        return f"{self.path}/{self.keyword}"


class Narrower:
    """One rewriting; ``problems`` is complete after ``run``."""

    def __init__(self, root: Any, resolve: Callable[[Any, str], Any]) -> None:
        self._root = root
        self._resolve = resolve
        self._names: dict[str, str] = {}
        self._defs: dict[str, Any] = {}
        self.problems: list[Problem] = []
        self._validator = jsonschema.Draft202012Validator(root, registry=EMPTY_REGISTRY)

    def run(self) -> dict[str, Any]:
        """The rewritten schema. Raises ``InvalidSchema`` if nothing satisfies it."""
        try:
            result = self.narrow(self._root, "#")
        except Empty as empty:
            raise InvalidSchema(
                f"no value can satisfy this schema: {empty}", hint="check its bounds and enums"
            ) from empty
        return {**result, "$defs": self._defs} if self._defs else result

    def narrow(self, schema: Any, path: str) -> dict[str, Any]:
        """A subschema rewritten; raises ``Empty`` if nothing satisfies it."""
        if schema is False:
            raise Empty(path)
        schema = {} if schema is True else {k: v for k, v in schema.items() if k in _KNOWN}
        if "enum" in schema or "const" in schema:
            return self._values(schema, path)
        schema = self._without_composition(schema, path)
        if "enum" in schema or "const" in schema:
            return self._values(schema, path)
        if "$ref" in schema:
            return self._ref(schema["$ref"])
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return self._branches(schema, keyword, path)
        types = schema.get("type") or [t for t, family in _FAMILY.items() if any(k in schema for k in family)]
        types = [types] if isinstance(types, str) else list(types)
        if not types:
            return self._any()
        return self._any_of([{**schema, "type": t} for t in types], path, self._possible_type)

    def _values(self, schema: Mapping[str, Any], path: str) -> dict[str, Any]:
        """``enum`` and ``const``: the listed values that the whole subschema accepts, so nothing else need be kept."""
        listed = schema["enum"] if "enum" in schema else [schema["const"]]
        values = [v for v in listed if self.accepts(schema, v)]
        if not values:
            raise Empty(f"{path}/enum")
        return {"enum": values}

    def _without_composition(self, schema: dict[str, Any], path: str) -> dict[str, Any]:
        """``allOf`` and what stands beside ``$ref`` merged in; ``not`` and ``if`` reported and dropped."""
        for _ in range(32):  # references to references; a longer chain is a circle
            for keyword in ("not", "if", "$dynamicRef"):
                if keyword in schema:
                    self.problem(path, keyword)
            schema = {k: v for k, v in schema.items() if k not in ("not", "if", "then", "else", "$dynamicRef")}
            parts = list(schema.pop("allOf", ()))
            if "$ref" in schema and (len(schema) > 1 or parts):
                parts.append({"$ref": schema.pop("$ref")})
            if not parts:
                return schema
            if not schema and len(parts) == 1 and isinstance(parts[0], Mapping):
                schema = {k: v for k, v in parts[0].items() if k in _KNOWN}
                continue
            for part in parts:
                target = (
                    self._resolve(self._root, part["$ref"])
                    if isinstance(part, Mapping) and set(part) == {"$ref"}
                    else part
                )
                target = target if isinstance(target, bool) else {k: v for k, v in target.items() if k in _KNOWN}
                merged = merge(schema, target)
                if merged is None:
                    self.problem(path, "allOf")
                elif merged is False:
                    raise Empty(f"{path}/allOf")
                else:
                    schema = merged if isinstance(merged, dict) else {}
        raise InvalidSchema(f"{path}: references that lead in a circle", hint="a $ref must reach a schema")

    def _ref(self, ref: str) -> dict[str, Any]:
        if ref not in self._names:
            name = self._names[ref] = f"d{len(self._names)}"
            try:
                self._defs[name] = self.narrow(self._resolve(self._root, ref), ref)
            except Empty:
                del self._names[ref]
                raise
            if "$ref" in self._defs[name] and self._defs[name]["$ref"] == f"#/$defs/{name}":
                raise Empty(f"{ref} is nothing but itself")
        return {"$ref": f"#/$defs/{self._names[ref]}"}

    def _branches(self, schema: dict[str, Any], keyword: str, path: str) -> dict[str, Any]:
        branches = schema.pop(keyword)
        if keyword == "oneOf" and not self._disjoint(branches):
            self.problem(path, "oneOf")
        merged = []
        for n, branch in enumerate(branches):
            whole = merge(schema, self._target(branch)) if schema else branch
            if whole is None:
                self.problem(f"{path}/{keyword}", str(n))
            merged.append(branch if whole is None else whole)
        return self._any_of(merged, f"{path}/{keyword}", self.possible)

    def _target(self, schema: Any) -> Any:
        if isinstance(schema, Mapping) and "$ref" in schema:
            rest = {k: v for k, v in schema.items() if k in _KNOWN and k != "$ref"}
            return schema if rest else self._resolve(self._root, schema["$ref"])
        return schema

    def possible(self, schema: Any, path: str) -> dict[str, Any] | None:
        """A subschema rewritten, or None if nothing satisfies it."""
        try:
            return self.narrow(schema, path)
        except Empty:
            return None

    def _possible_type(self, schema: dict[str, Any], path: str) -> dict[str, Any] | None:
        try:
            return self._typed(schema, path)
        except Empty:
            return None

    def _any_of(
        self, schemas: list[Any], path: str, narrow: Callable[[Any, str], dict[str, Any] | None]
    ) -> dict[str, Any]:
        """Those alternatives that some value satisfies; of these, the enforceable ones if there are any beside null."""
        found: list[tuple[dict[str, Any], list[Problem]]] = []
        for n, schema in enumerate(schemas):
            before, self.problems = self.problems, []
            narrowed = narrow(schema, path if narrow == self._possible_type else f"{path}/{n}")
            own, self.problems = self.problems, before
            if narrowed is not None:
                found.append((narrowed, own))
        if not found:
            raise Empty(path)
        sound = [(s, own) for s, own in found if not own]
        if any(s not in ({"type": "null"}, {"enum": [None]}) for s, _ in sound):
            found = sound
        self.problems += [problem for _, own in found for problem in own]
        return found[0][0] if len(found) == 1 else {"anyOf": [s for s, _ in found]}

    def _disjoint(self, branches: list[Any]) -> bool:
        """Whether no value can satisfy two of the branches: other types, or objects told apart by a constant."""
        targets = [self._target(b) for b in branches]
        if not all(isinstance(t, Mapping) for t in targets):
            return False
        return all(self._apart(a, b) for n, a in enumerate(targets) for b in targets[:n])

    def _apart(self, a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
        kinds = [_kinds(a), _kinds(b)]
        if all(kinds) and not kinds[0] & kinds[1]:
            return True
        tags = [{k: _constants(self._target(v)) for k, v in s.get("properties", {}).items()} for s in (a, b)]
        common = set(a.get("required", ())) & set(b.get("required", ())) & set(tags[0]) & set(tags[1])
        objects = all(s.get("type") == "object" for s in (a, b))
        return objects and any(tags[0][k] and tags[1][k] and not tags[0][k] & tags[1][k] for k in common)

    def _typed(self, schema: dict[str, Any], path: str) -> dict[str, Any]:
        kind = schema["type"]
        if kind == "string":
            return narrow_string(schema, path, self.problem)
        if kind in ("integer", "number"):
            return narrow_number(schema, path, self.problem)
        if kind == "array":
            return self._array(schema, path)
        return narrow_object(self, schema, path) if kind == "object" else {"type": kind}

    def _array(self, schema: dict[str, Any], path: str) -> dict[str, Any]:
        low, high = int(schema.get("minItems", 0)), schema.get("maxItems")
        high = None if high is None else int(high)
        if high is not None and low > high:
            raise Empty(f"{path}/minItems")
        for keyword in ("contains", "uniqueItems"):
            if schema.get(keyword) not in (None, False) and (keyword == "contains" or high is None or high > 1):
                self.problem(path, keyword)
        rest = schema.get("items", schema.get("unevaluatedItems", True))
        prefix = [(s, f"{path}/prefixItems/{n}") for n, s in enumerate(schema.get("prefixItems", ()))][:high]
        if prefix:
            return self._tuple([*prefix, *[(rest, f"{path}/items")] * (low - len(prefix))], low, path)
        try:
            if high == 0:
                raise Empty(path)
            items = self.narrow(rest, f"{path}/items")
        except Empty:
            if low:
                raise
            return {"enum": [[]]}
        bounds = {"minItems": low or None, "maxItems": high}
        return {"type": "array", "items": items, **{k: v for k, v in bounds.items() if v is not None}}

    def _tuple(self, places: list[tuple[Any, str]], low: int, path: str) -> dict[str, Any]:
        """An array of at most these items, each with its own schema, and at least ``low`` of them."""
        items = []
        for schema, place in places:
            item = self.possible(schema, place)
            if item is None:
                break
            items.append(item)
        if len(items) < low:
            raise Empty(path)
        if not items:
            return {"enum": [[]]}
        return {"type": "array", "prefixItems": items, "items": False, "minItems": low}

    def _any(self) -> dict[str, Any]:
        """Any JSON value, with bounded numbers."""
        if "any" not in self._defs:
            this = {"$ref": "#/$defs/any"}
            kinds: list[dict[str, Any]] = [{"type": t} for t in ("string", "boolean", "null")]
            number = {"type": "number", "minimum": -NUMBER_BOUND, "maximum": NUMBER_BOUND}
            nested = [{"type": "array", "items": this}, {"type": "object", "additionalProperties": this}]
            self._defs["any"] = {"anyOf": [*kinds, number, *nested]}
        return {"$ref": "#/$defs/any"}

    def accepts(self, schema: Any, value: Any) -> bool:
        """Whether ``value`` satisfies a subschema."""
        return self._validator.evolve(schema=schema).is_valid(value)

    def problem(self, path: str, keyword: str) -> None:
        """Note a keyword that the grammar will not enforce."""
        self.problems.append(Problem(path, keyword))


def _kinds(schema: Mapping[str, Any]) -> set[str]:
    """JSON types a schema can accept; empty if unknown. An integer is a number too."""
    kinds = schema.get("type", ())
    found = {kinds} if isinstance(kinds, str) else set(kinds)
    if not found and (values := _constants(schema)):
        names = {str: "string", bool: "boolean", type(None): "null", int: "number", float: "number"}
        found = {names.get(type(v), "") for v in values}
        if "" in found:
            return set()
    return {"number" if k == "integer" else k for k in found}


def _constants(schema: Any) -> set[Any]:
    """The scalar values of ``const`` or ``enum``; empty if there are none or others too."""
    if not isinstance(schema, Mapping):
        return set()
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return set(values) if all(v is None or isinstance(v, (str, int, float)) for v in values) else set()
