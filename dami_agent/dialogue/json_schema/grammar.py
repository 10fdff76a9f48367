"""JSON schemas as llguidance enforces them.

A schema goes to llguidance as it is. What it does not implement (``not``, ``if``, ``uniqueItems``, look-around, …) is
taken out and listed: the grammar then allows more than the schema, and the finished value is checked. Three things are
said to it in other words: an object that declares properties and says nothing of others has no others, which is
narrower than JSON Schema and what models should write; a member of a union that is told apart by a property has that
property; and what no value can satisfy, however deep, is ``false``.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from dami_agent.dialogue.json_schema.keywords import LISTS, MAPS, SINGLE, all_subschemas, modern, resolve, subschemas
from dami_agent.dialogue.json_schema.objects import close_object, name_rules, only_composes
from dami_agent.dialogue.json_schema.productive import without_the_impossible
from dami_agent.dialogue.json_schema.unions import constants, disjoint
from dami_agent.errors import InvalidSchema

__all__ = ["Problem", "SchemaWarning", "enforceable", "json_rule"]

LAYOUT = {"item_separator": ", ?", "key_separator": ": ?", "whitespace_flexible": False, "coerce_one_of": True}
"""One space at most after a comma or a colon, none elsewhere: no white space can fill a budget."""

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
_REAL = {"date": _DAY, "date-time": rf"{_DAY}.*[Tt]{_CLOCK}", "time": rf"^{_CLOCK}"}
"""llguidance's dates have a 29th of February every year, a year 0 and leap seconds; what reads dates has not."""
_UNCHECKED_FORMATS = {
    *("idn-email", "idn-hostname", "uri-reference", "iri", "iri-reference", "uri-template", "json-pointer"),
    *("relative-json-pointer", "regex"),
}
"""Formats of the standard that no grammar follows; others are names that mean nothing to JSON Schema."""
_LARGEST_INTEGER, _LARGEST_NUMBER = 2**63 - 1, 10**18
_LARGEST_STEP = 2000  # of ``multipleOf``: the grammar has as many states
_MOST_ITEMS = 10_000
_SUSPECTS = (
    *("format", "minLength", "maxLength", "multipleOf", "minProperties", "maxProperties", "pattern", "minimum"),
    *("maximum", "exclusiveMinimum", "exclusiveMaximum", "allOf", "oneOf", "anyOf", "patternProperties", "enum"),
    *("const", "minItems", "maxItems", "prefixItems", "items", "additionalProperties", "required", "properties"),
    *("$ref", "type"),
)
"""In which order keywords are given up where a subschema as a whole is too much for llguidance."""
_TRIES = 300


class SchemaWarning(UserWarning):
    """A schema says more than a grammar can hold a model to; values are checked when they are finished."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A keyword that the grammar does not enforce, and where it stands (JSON pointer)."""

    path: str
    keyword: str

    def __str__(self) -> str:
        return f"{self.path}/{self.keyword}"


def enforceable(schema: Any) -> tuple[dict[str, Any], list[Problem]]:
    """The schema as llguidance takes it, and where that allows more than the original.

    Without problems, whatever the result allows the original allows too. ``schema`` has passed ``check``.

    Raises:
        InvalidSchema: nothing at all can satisfy it.
    """
    text, problems = _enforceable(json.dumps(schema))
    return json.loads(text), list(problems)


def json_rule(schema: Any, where: str) -> tuple[str, tuple[str, ...]]:
    """``%json {…}`` for a rule of a Lark grammar, and what it does not enforce; that is warned about once.

    Args:
        schema: has passed ``check``.
        where: whose it is, for messages, for example ``tool 'add'``.

    Raises:
        InvalidSchema: nothing at all can satisfy it.
    """
    text = json.dumps(schema)
    try:
        enforced, problems = _enforceable(text)
    except InvalidSchema as error:
        raise InvalidSchema(f"{where}: {error.message}", hint=error.hint) from error
    notes = tuple(sorted(f"{where}: {problem}" for problem in problems))
    if notes:
        _warn_once(notes)
    return f"%json {json.dumps({**json.loads(enforced), 'x-guidance': LAYOUT})}", notes


@lru_cache(maxsize=512)
def _warn_once(notes: tuple[str, ...]) -> None:
    warnings.warn(
        f"no grammar enforces {', '.join(notes[:5])}{' and more' if len(notes) > 5 else ''}; "
        "values are checked when they are finished",
        SchemaWarning,
        stacklevel=6,
    )


@lru_cache(maxsize=256)
def _enforceable(text: str) -> tuple[str, tuple[Problem, ...]]:
    root = modern(json.loads(text))
    preparation = _Preparation(root)
    prepared = without_the_impossible(preparation.run())
    if prepared is not False:
        prepared, impossible = _Fitting(prepared, preparation.problems).run()
    if prepared is False or impossible:
        raise InvalidSchema(
            "no value can satisfy this schema" + (f": {impossible}" if prepared is not False else ""),
            hint="check its bounds, enums and required properties",
        )
    return json.dumps(prepared), tuple(dict.fromkeys(preparation.problems))


class _Preparation:
    """Rewrites one schema; every ``$ref`` then names an entry of ``$defs``."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._names: dict[tuple[str, str, bool], str] = {}
        self._defs: dict[str, Any] = {}
        self.problems: list[Problem] = []

    def run(self) -> dict[str, Any]:
        """The rewritten schema; ``problems`` is complete after this."""
        result = self.node(self._root, "#")
        result = {"not": {}} if result is False else result
        return {**result, "$defs": self._defs} if self._defs else result

    def node(self, schema: Any, path: str, *, alone: bool = True) -> Any:
        """A subschema rewritten; ``alone`` if no other one is about the same value."""
        if isinstance(schema, bool):
            return {} if schema else False
        schema = name_rules(schema)
        for keyword, says_nothing in _NOTHING_SAID.items():
            if keyword in schema and not says_nothing(schema[keyword]):
                self.problem(path, keyword)
        tag = _tag(schema)
        schema = {k: v for k, v in schema.items() if k in _ENFORCED}
        inner = alone and only_composes(schema)
        if isinstance(schema.get("$ref"), str):
            schema["$ref"] = self._ref(schema["$ref"], "", inner)
        schema = self._numbers(self._sizes(self._format(schema, path), path), path)
        schema = close_object(schema) if alone else schema
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
        if "oneOf" in schema and "anyOf" not in schema and disjoint(schema["oneOf"], self._target):
            return {("anyOf" if keyword == "oneOf" else keyword): value for keyword, value in schema.items()}
        return schema

    def _target(self, schema: Any) -> Any:
        """What a rewritten schema refers to, if that is all it does."""
        if isinstance(schema, Mapping) and set(schema) == {"$ref"}:
            return self._defs.get(schema["$ref"].removeprefix("#/$defs/"))
        return schema

    def problem(self, path: str, keyword: str) -> None:
        """Note a keyword that the grammar will not enforce."""
        self.problems.append(Problem(path, keyword))

    def _ref(self, ref: str, tag: str, alone: bool) -> str:
        """The name in ``$defs`` of what a reference names, with the property ``tag`` required where there is one."""
        key = (ref, tag, alone)
        if key not in self._names:
            name = self._names[key] = f"d{len(self._names)}"
            target = resolve(self._root, ref)
            if tag:
                target = {**target, "required": [*target.get("required", ()), tag]}
            self._defs[name] = self.node(target, ref, alone=alone)
        return f"#/$defs/{self._names[key]}"

    def _branch(self, schema: Any, path: str, tag: str, alone: bool) -> Any:
        """A member of a union; with ``tag`` it must say which one it is."""
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
        if format_ in _REAL and "pattern" not in schema:
            return {**schema, "pattern": _REAL[format_]}
        if format_ is None or format_ in _FORMATS:
            return schema
        if format_ in _UNCHECKED_FORMATS:
            self.problem(path, "format")
        return {k: v for k, v in schema.items() if k != "format"}

    def _sizes(self, schema: dict[str, Any], path: str) -> dict[str, Any]:
        """Whole numbers as such (3.0 is one), and none that the grammar would have to count to for ever."""
        for keyword in ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"):
            if keyword in schema:
                schema[keyword] = int(schema[keyword])
                if keyword[3:] != "Length" and schema[keyword] > _MOST_ITEMS:
                    del schema[keyword]
                    self.problem(path, keyword)
                elif schema[keyword] >= 2**31:
                    schema[keyword] = 2**31 - 1
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
                self.problem(path, keyword)
        step = schema.get("multipleOf")
        if step is not None and _coefficient(step) > _LARGEST_STEP:
            del schema["multipleOf"]
            self.problem(path, "multipleOf")
        return schema


def _coefficient(step: float) -> float:
    """The digits of a step as one whole number: 25 for 0.25."""
    digits = repr(step).lower().partition("e")[0].replace(".", "").strip("0")
    return float(step) if isinstance(step, int) or step == int(step) else float(digits or 1)


def _tag(schema: Mapping[str, Any]) -> str:
    """The property by which a union's members are told apart (OpenAPI's ``discriminator``, which pydantic writes)."""
    told = schema.get("discriminator")
    name = told.get("propertyName") if isinstance(told, Mapping) else None
    return name if isinstance(name, str) else ""


class _Fitting:
    """Gives up single keywords where llguidance refuses a subschema as a whole, the fewest and deepest it can."""

    def __init__(self, root: dict[str, Any], problems: list[Problem]) -> None:
        self._root = root
        self._problems = problems
        self._tries = 0

    def run(self) -> tuple[dict[str, Any], str]:
        """A schema that compiles, and why nothing can satisfy it ("" if something can)."""
        error = self._error(self._root)
        while error:
            if "nsatisfiable schema" in error and not self._only_by_format(error):
                return self._root, error.split("nsatisfiable schema: ", 1)[-1].split("\n")[0][:200]
            place = self._broken(self._root, "#")
            if place is None or self._tries > _TRIES:
                self._problems.append(Problem("#", "*"))
                return {"type": "object"} if self._root.get("type") == "object" else {}, ""
            self._mend(*place)
            error = self._error(self._root)
        self._note_one_of()
        return self._root, ""

    def _only_by_format(self, error: str) -> bool:
        """Whether a format is what makes it impossible: JSON Schema does not assert formats, so it gives way."""
        bare = json.loads(json.dumps(self._root))
        formats = [node for _, node in all_subschemas(bare) if isinstance(node.get("format"), str)]
        for node in formats:
            format_ = node.pop("format")  # type: ignore[attr-defined]
            if node.get("pattern") == _REAL.get(format_):
                node.pop("pattern")  # type: ignore[attr-defined]
        if not formats or self._error(bare):
            return False
        self._problems += [Problem(path, "format") for path, node in all_subschemas(self._root) if "format" in node]
        self._root = bare
        return True

    def _error(self, schema: Any) -> str:
        self._tries += 1
        return _compile(schema)[0]

    def _broken(self, node: Any, path: str) -> tuple[dict[str, Any], str] | None:
        """The deepest subschema that does not compile although its own subschemas do."""
        if not isinstance(node, dict) or self._tries > _TRIES:
            return None
        whole = {**node, "$defs": self._root.get("$defs", {})}
        error = self._error(whole)
        if not error or "nsatisfiable schema" in error:
            return None
        for where, child in _children(node, path):
            found = self._broken(child, where)
            if found is not None:
                return found
        return node, path

    def _mend(self, node: dict[str, Any], path: str) -> None:
        """Take out of ``node``, in place, one keyword after the other until it compiles."""
        rest = self._root.get("$defs", {})
        present = [k for k in _SUSPECTS if k in node]
        alone = next((k for k in present if not self._error({**_without(node, k), "$defs": rest})), None)
        for keyword in [alone] if alone else present:
            kept = _without(node, keyword)
            node.clear()
            node.update(kept)
            self._problems.append(Problem(path, keyword))
            if not self._error({**node, "$defs": rest}):
                return

    def _note_one_of(self) -> None:
        """llguidance takes ``oneOf`` for ``anyOf`` where it cannot tell the members apart."""
        if not any("oneOf" in text for text in _compile(self._root)[1]):
            return
        for path, node in all_subschemas(self._root):
            if "oneOf" in node and _compile({**node, "$defs": self._root.get("$defs", {})})[1]:
                self._problems.append(Problem(path, "oneOf"))


def _children(node: Mapping[str, Any], path: str) -> list[tuple[str, dict[str, Any]]]:
    return [(where, sub) for where, sub in subschemas(node, path) if isinstance(sub, dict)]


def _without(node: Mapping[str, Any], keyword: str) -> dict[str, Any]:
    """``node`` without a keyword, and without what means something else when that is gone."""
    gone = {keyword}
    if keyword == "format" and node.get("pattern") in _REAL.values():
        gone.add("pattern")
    if keyword in ("properties", "patternProperties"):
        gone |= {"additionalProperties", "required" if keyword == "properties" else keyword}
    if keyword == "prefixItems":
        gone.add("items")
    return {k: v for k, v in node.items() if k not in gone}


def _compile(schema: Any) -> tuple[str, list[str]]:
    """llguidance's error ("" if there is none) and its warnings."""
    from llguidance import LLMatcher

    text = f"start: %json {json.dumps({**schema, 'x-guidance': LAYOUT})}"
    try:
        failed, messages = LLMatcher.validate_grammar_with_warnings(text)
    except Exception as error:
        return f"{type(error).__name__}: {error}", []
    return (messages[0] if failed else ""), ([] if failed else messages)
