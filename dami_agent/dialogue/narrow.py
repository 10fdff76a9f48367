"""Rewrites a JSON schema into the part of JSON Schema that xgrammar enforces; see :mod:`dami_agent.dialogue.schema`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema
from referencing.jsonschema import EMPTY_REGISTRY

from dami_agent.dialogue.merge import merge
from dami_agent.dialogue.objects import Empty, narrow_object
from dami_agent.errors import InvalidSchema

NUMBER_BOUND = 10**15
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
_UNSUPPORTED_REGEX = re.compile(r"\(\?(?!:)|\\[1-9bBAZpPkuxc]|[*+?}][+?]|(?<!\\)\^|(?<!\\)\$")
_FORMATS = {"date", "time", "date-time", "email", "uuid", "ipv4", "ipv6", "hostname"}


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
        if "$ref" in schema:
            return self._ref(schema["$ref"])
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return self._branches(schema, keyword, path)
        types = schema.get("type") or [t for t, family in _FAMILY.items() if any(k in schema for k in family)]
        types = [types] if isinstance(types, str) else list(types)
        if not types:
            return self._any()
        return _any_of([self._possible_type({**schema, "type": t}, path) for t in types], path)

    def _values(self, schema: Mapping[str, Any], path: str) -> dict[str, Any]:
        """``enum`` and ``const``: the listed values that the whole subschema accepts, so nothing else need be kept."""
        listed = schema["enum"] if "enum" in schema else [schema["const"]]
        values = [v for v in listed if self.accepts(schema, v)]
        if not values:
            raise Empty(f"{path}/enum")
        return {"enum": values}

    def _without_composition(self, schema: dict[str, Any], path: str) -> dict[str, Any]:
        """``allOf`` and what stands beside ``$ref`` merged in; ``not`` and ``if`` reported and dropped."""
        for keyword in ("not", "if", "$dynamicRef"):
            if keyword in schema:
                self.problem(path, keyword)
        schema = {k: v for k, v in schema.items() if k not in ("not", "if", "then", "else", "$dynamicRef")}
        for _ in range(32):  # references to references; a longer chain is a circle
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
        return _any_of([self.possible(branch, f"{path}/{keyword}/{n}") for n, branch in enumerate(merged)], path)

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
            return self._string(schema, path)
        if kind in ("integer", "number"):
            return self._number(schema, path)
        if kind == "array":
            return self._array(schema, path)
        return narrow_object(self, schema, path) if kind == "object" else {"type": kind}

    def _string(self, schema: dict[str, Any], path: str) -> dict[str, Any]:
        low, high = int(schema.get("minLength", 0)), schema.get("maxLength")
        if high is not None and low > high:
            raise Empty(f"{path}/minLength")
        pattern = schema.get("pattern")
        if pattern is not None:
            inner = pattern.removeprefix("^")
            inner = inner[:-1] if inner.endswith("$") and not inner.endswith("\\$") else inner
            alternatives = "|" in inner and inner != pattern
            if _UNSUPPORTED_REGEX.search(inner) or alternatives:
                self.problem(path, "pattern")
            else:
                for keyword in ("minLength", "maxLength"):
                    if schema.get(keyword):
                        self.problem(path, keyword)
                return {"type": "string", "pattern": f"^{inner}$"}
        if low or high is not None:
            # as a pattern: xgrammar's own length bounds let raw control characters through
            return {"type": "string", "pattern": f"^[^\\x00-\\x1f]{{{low},{'' if high is None else int(high)}}}$"}
        if schema.get("format") in _FORMATS:
            return {"type": "string", "format": schema["format"]}
        return {"type": "string"}

    def _number(self, schema: dict[str, Any], path: str) -> dict[str, Any]:
        whole = schema["type"] == "integer"
        step = schema.get("multipleOf")
        if step == 1:
            whole, step = True, None
        low, low_open = _bound(schema, "minimum", "exclusiveMinimum", max)
        high, high_open = _bound(schema, "maximum", "exclusiveMaximum", min)
        if whole:
            return self._integer(low, low_open, high, high_open, step, path)
        if step is not None:
            self.problem(path, "multipleOf")
        if low is None:
            low, low_open = (-NUMBER_BOUND if high is None or high > -NUMBER_BOUND else high * 10), False
        if high is None:
            high, high_open = (NUMBER_BOUND if low < NUMBER_BOUND else low * 10), False
        if low > high or (low == high and (low_open or high_open)):
            raise Empty(path)
        if low == high:
            return {"enum": [low]}
        return {
            "type": "number",
            "exclusiveMinimum" if low_open else "minimum": low,
            "exclusiveMaximum" if high_open else "maximum": high,
        }

    def _integer(
        self, low: float | None, low_open: bool, high: float | None, high_open: bool, step: float | None, path: str
    ) -> dict[str, Any]:
        first = None if low is None else math.floor(low) + 1 if low_open else math.ceil(low)
        last = None if high is None else math.ceil(high) - 1 if high_open else math.floor(high)
        if first is None:
            first = -NUMBER_BOUND if last is None or last > -NUMBER_BOUND else last * 10
        if last is None:
            last = NUMBER_BOUND if first < NUMBER_BOUND else first * 10
        if first > last:
            raise Empty(path)
        if step is None:
            return {"type": "integer", "minimum": first, "maximum": last}
        if last - first <= 1000:
            values = [v for v in range(first, last + 1) if v % step == 0]
            if not values:
                raise Empty(path)
            return {"enum": values}
        if low is None and high is None and float(step).is_integer() and 2 <= step <= 50:
            return {"type": "integer", "multipleOf": int(step)}
        self.problem(path, "multipleOf")
        return {"type": "integer", "minimum": first, "maximum": last}

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
            prefix += [(rest, f"{path}/items")] * (low - len(prefix))
            return {"type": "array", "prefixItems": [self.narrow(s, p) for s, p in prefix], "items": False}
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


def _bound(
    schema: Mapping[str, Any], closed: str, open_: str, pick: Callable[[float, float], float]
) -> tuple[float | None, bool]:
    """The tighter of an inclusive and an exclusive bound, and whether it is exclusive."""
    a, b = schema.get(closed), schema.get(open_)
    if a is None or b is None:
        return (a, False) if b is None else (b, True)
    return (b, True) if pick(a, b) == b else (a, False)


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


def _any_of(schemas: list[dict[str, Any] | None], path: str) -> dict[str, Any]:
    """The alternatives that some value can satisfy."""
    possible = [schema for schema in schemas if schema is not None]
    if not possible:
        raise Empty(path)
    return possible[0] if len(possible) == 1 else {"anyOf": possible}
