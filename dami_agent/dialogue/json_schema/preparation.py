"""Rewrite a schema in the keywords that llguidance implements, and note what that leaves out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dami_agent.dialogue.json_schema.keywords import LISTS, MAPS, SINGLE, resolve
from dami_agent.dialogue.json_schema.objects import close_object, name_rules, only_composes
from dami_agent.dialogue.json_schema.unions import constants, disjoint

__all__ = ["REAL", "Preparation", "Unenforced"]

_ENFORCED = frozenset(
    (
        *("$ref", "type", "enum", "const", "anyOf", "oneOf", "allOf", "properties", "required", "additionalProperties"),
        *("patternProperties", "minProperties", "maxProperties", "items", "prefixItems", "minItems", "maxItems"),
        *("minLength", "maxLength", "pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
        "multipleOf",
    )
)
_NOTHING_SAID: Mapping[str, Callable[[Any], bool]] = {
    "not": lambda value: value is False,
    "if": lambda value: False,
    "uniqueItems": lambda value: value is False,
    "contains": lambda value: False,
    "propertyNames": lambda value: value in ({}, True),
    "dependentRequired": lambda value: not any(value.values()),
    "dependentSchemas": lambda value: not value,
    "unevaluatedItems": lambda value: value in ({}, True),
    "unevaluatedProperties": lambda value: value in ({}, True),
    "$dynamicRef": lambda value: False,
}
"""What llguidance does not implement, and when it says nothing anyway."""
_FORMATS = {
    *("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"),
}
_YEAR = r"(?:[1-9]\d{3}|0[1-9]\d\d|00[1-9]\d|000[1-9])"
_LEAP = r"(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DAY = rf"^(?:{_YEAR}-(?:0[13-9]|1[0-2])-|{_YEAR}-02-(?:[01]\d|2[0-8])|{_LEAP}-02-29)"
_CLOCK = r"\d\d:\d\d:[0-5]"
REAL = {"date": _DAY, "date-time": rf"{_DAY}.*[Tt]{_CLOCK}", "time": rf"^{_CLOCK}"}
"""llguidance's dates have a 29th of February every year, a year 0 and leap seconds; what reads dates has not."""
_UNCHECKED_FORMATS = {
    *("idn-email", "idn-hostname", "uri-reference", "iri", "iri-reference", "uri-template", "json-pointer"),
    *("relative-json-pointer", "regex"),
}
"""Formats of the standard that no grammar follows; others are names that mean nothing to JSON Schema."""
_LARGEST_INTEGER, _LARGEST_NUMBER = 2**63 - 1, 10**18
_LARGEST_STEP = 2000  # of ``multipleOf``: the grammar has as many states
_MOST_ITEMS = 10_000


@dataclass(frozen=True, slots=True)
class Unenforced:
    """A keyword that the grammar does not enforce, and where it stands (JSON pointer)."""

    path: str
    keyword: str

    def __str__(self) -> str:
        return f"{self.path}/{self.keyword}"


class Preparation:
    """Rewrites one schema; every ``$ref`` then names an entry of ``$defs``."""

    def __init__(self, root: Any, *, strict: bool) -> None:
        self._root = root
        self._strict = strict
        self._names: dict[tuple[str, str, bool], str] = {}
        self._defs: dict[str, Any] = {}
        self.unenforced: list[Unenforced] = []

    def run(self) -> dict[str, Any]:
        """Return the rewritten schema; ``unenforced`` is complete after this."""
        result = self.node(self._root, "#")
        result = {"not": {}} if result is False else result
        return {**result, "$defs": self._defs} if self._defs else result

    def node(self, schema: Any, path: str, *, alone: bool = True) -> Any:
        """Rewrite a subschema; ``alone`` if no other one is about the same value."""
        if isinstance(schema, bool):
            return {} if schema else False
        schema = name_rules(schema)
        for keyword, says_nothing in _NOTHING_SAID.items():
            if keyword in schema and not says_nothing(schema[keyword]):
                self.note(path, keyword)
        tag = _tag(schema)
        schema = {k: v for k, v in schema.items() if k in _ENFORCED}
        inner = alone and only_composes(schema)
        if isinstance(schema.get("$ref"), str):
            schema["$ref"] = self._ref(schema["$ref"], "", inner)
        schema = self._numbers(self._sizes(self._format(schema, path), path), path)
        schema = close_object(schema, strict=self._strict) if alone else schema
        for keyword, value in schema.items():
            if keyword in MAPS:
                schema[keyword] = {name: self.node(sub, f"{path}/{keyword}/{name}") for name, sub in value.items()}
            elif keyword == "prefixItems":
                schema[keyword] = [self.node(sub, f"{path}/{keyword}/{n}") for n, sub in enumerate(value)]
            elif keyword in LISTS:
                only = inner and (keyword != "allOf" or len(value) == 1)
                tagged = tag if keyword != "allOf" else ""
                schema[keyword] = [
                    self._branch(sub, f"{path}/{keyword}/{n}", tagged, only) for n, sub in enumerate(value)
                ]
            elif keyword in SINGLE:
                schema[keyword] = self.node(value, f"{path}/{keyword}")
        if "oneOf" in schema and "anyOf" not in schema and disjoint(schema["oneOf"], self._target, tag):
            return {("anyOf" if keyword == "oneOf" else keyword): value for keyword, value in schema.items()}
        return schema

    def _target(self, schema: Any) -> Any:
        """Return what a rewritten schema refers to, if that is all it does."""
        if isinstance(schema, Mapping) and set(schema) == {"$ref"}:
            return self._defs.get(schema["$ref"].removeprefix("#/$defs/"))
        return schema

    def note(self, path: str, keyword: str) -> None:
        """Note a keyword that the grammar will not enforce."""
        self.unenforced.append(Unenforced(path, keyword))

    def _ref(self, ref: str, tag: str, alone: bool) -> str:
        """Return the ``$defs`` name of a reference's target, with the property ``tag`` required if there is one."""
        key = (ref, tag, alone)
        if key not in self._names:
            name = self._names[key] = f"d{len(self._names)}"
            target = resolve(self._root, ref)
            if tag:
                target = {**target, "required": [*target.get("required", ()), tag]}
            self._defs[name] = self.node(target, ref, alone=alone)
        return f"#/$defs/{self._names[key]}"

    def _branch(self, schema: Any, path: str, tag: str, alone: bool) -> Any:
        """Rewrite a member of a union; with ``tag`` it must say which one it is."""
        if tag and isinstance(schema, Mapping):
            target = resolve(self._root, schema["$ref"]) if set(schema) == {"$ref"} else schema
            told = target.get("properties", {}).get(tag) if isinstance(target, Mapping) else None
            if constants(told) and tag not in target.get("required", ()):
                if target is not schema:
                    return {"$ref": self._ref(schema["$ref"], tag, alone)}
                schema = {**schema, "required": [*schema.get("required", ()), tag]}
        return self.node(schema, path, alone=alone)

    def _format(self, schema: dict[str, Any], path: str) -> dict[str, Any]:
        format_ = schema.get("format")
        if format_ in REAL and "pattern" not in schema:
            return {**schema, "pattern": REAL[format_]}
        if format_ is None or format_ in _FORMATS:
            return schema
        if format_ in _UNCHECKED_FORMATS:
            self.note(path, "format")
        return {k: v for k, v in schema.items() if k != "format"}

    def _sizes(self, schema: dict[str, Any], path: str) -> dict[str, Any]:
        """Whole numbers as such (3.0 is one), and none that the grammar would have to count to for ever."""
        for keyword in ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"):
            if keyword in schema:
                schema[keyword] = int(schema[keyword])
                if keyword[3:] != "Length" and schema[keyword] > _MOST_ITEMS:
                    del schema[keyword]
                    self.note(path, keyword)
                elif schema[keyword] >= 2**31:
                    schema[keyword] = 2**31 - 1
                elif (
                    keyword == "minProperties"
                    and schema[keyword] > 1
                    and schema.get("additionalProperties") is not False
                ):
                    self.note(path, keyword)  # a name that is written twice counts twice in the grammar
        return schema

    def _numbers(self, schema: dict[str, Any], path: str) -> dict[str, Any]:
        """Bounds that llguidance can count with: it reads them as 64-bit floats, and integers then as 64 bits."""
        kinds = schema.get("type", ())
        whole = "integer" in ([kinds] if isinstance(kinds, str) else kinds)
        largest = _LARGEST_INTEGER if whole else _LARGEST_NUMBER
        for keyword in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            bound = schema.get(keyword)
            if bound is None:
                continue
            exact = abs(bound) <= 2**53 or bound == _LARGEST_INTEGER
            if abs(bound) > largest or not exact:
                del schema[keyword]
                self.note(path, keyword)
        highest = min(schema.get("maximum", 1), schema.get("exclusiveMaximum", 1))
        if schema.get("exclusiveMinimum") == 0 and highest < 1:
            self.note(path, "exclusiveMinimum")  # the grammar lets 0 through there
        step = schema.get("multipleOf")
        if step is not None and _coefficient(step) > _LARGEST_STEP:
            del schema["multipleOf"]
            self.note(path, "multipleOf")
        return schema


def _coefficient(step: float) -> float:
    """Return the digits of a step as one whole number: 25 for 0.25."""
    digits = repr(step).lower().partition("e")[0].replace(".", "").strip("0")
    return float(step) if isinstance(step, int) or step == int(step) else float(digits or 1)


def _tag(schema: Mapping[str, Any]) -> str:
    """Return the property that tells a union's members apart (OpenAPI's ``discriminator``, which pydantic writes)."""
    told = schema.get("discriminator")
    name = told.get("propertyName") if isinstance(told, Mapping) else None
    return name if isinstance(name, str) else ""
