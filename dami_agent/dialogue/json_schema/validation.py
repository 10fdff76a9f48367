"""Check finished values against JSON schemas, in bounded time: both may be strangers' texts.

jsonschema does the work. Ours are the patterns (no engine that backtracks without end), an exact ``multipleOf``,
references (all lead into the schema itself), and two bounds: what one reference finds in one value is looked up the
second time, since references that double (``anyOf`` of the same ``$ref`` twice, thirty levels deep) would be evaluated
2³⁰ times; and steps are counted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Any

import jsonschema
from jsonschema import ValidationError
from jsonschema.exceptions import best_match, relevance
from jsonschema_specifications import REGISTRY as SPECIFICATIONS  # type: ignore[import-untyped]
from referencing import Registry
from referencing.jsonschema import EMPTY_REGISTRY

from dami_agent.dialogue.json_schema.keywords import all_subschemas, modern, resolve
from dami_agent.patterns import PatternError, compile_pattern

__all__ = ["Validator", "answer_error", "faults", "validator"]

_STEPS, _STEPS_PER_VALUE = 4_000, 200
_LONGEST_TEXT = 10_000  # characters that a pattern is searched in

Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


class _TooComplex(Exception):
    """The schema takes too many steps for this value."""


@dataclass(slots=True)
class _Run:
    """One check of one value: the schema, the steps left, and what each reference found in each part of the value."""

    root: Any
    steps: int
    found: dict[tuple[str, int], tuple[Any, ValidationError | None]] = field(default_factory=dict)
    """The first error by reference and ``id`` of the part, which is kept so that no other object gets that ``id``."""


_run: ContextVar[_Run] = ContextVar("run")


class Validator:
    """Checks values against one schema; made by :func:`validator`, safe to share."""

    def __init__(self, schema: Any) -> None:
        schema = modern(schema)
        if any("patternProperties" in node for _, node in all_subschemas(schema)):
            schema = _without_unevaluated(schema)  # jsonschema would match the patterns itself
        self._schema = schema
        registry: Registry[Any] = EMPTY_REGISTRY  # nothing is ever fetched
        self._inner = _Bounded(schema, registry=registry)

    def find(self, value: Any) -> tuple[str, str] | None:
        """Find where and how ``value`` breaks the schema: ``("['a'][0]", "1 is not of type 'string'")``, or None."""
        token = _run.set(_Run(self._schema, _STEPS + _STEPS_PER_VALUE * _size(value)))
        try:
            found = next(iter(self._inner.iter_errors(value)), None)
        except _TooComplex:
            return "", "cannot be checked: the schema takes too many steps"
        except RecursionError:
            return "", "cannot be checked: it is nested too deeply"
        except Exception as error:  # schema and value are strangers' texts
            return "", f"cannot be checked: {type(error).__name__}: {error}"[:300]
        finally:
            _run.reset(token)
        if found is None:
            return None
        return "".join(f"[{part!r}]" for part in found.absolute_path), found.message[:500]

    def error(self, value: Any) -> str:
        """Return in one text how a value breaks the schema, "" where it does not."""
        found = self.find(value)
        return "" if found is None else ": ".join(part for part in found if part)

    def is_valid(self, value: Any) -> bool:
        """Return whether ``value`` satisfies the schema."""
        return not self.error(value)


def validator(schema: Any) -> Validator:
    """Return a validator for a schema that has passed ``check``; it never fetches a reference from anywhere."""
    try:
        return _validator(json.dumps(schema))
    except (TypeError, ValueError):  # a Mapping that is no dict, for one
        return Validator(schema)


@lru_cache(maxsize=256)
def _validator(text: str) -> Validator:
    return Validator(json.loads(text))


def faults(schema: Any) -> list[ValidationError]:
    """List why ``schema``, of bounded nesting and size, is not a schema of draft 2020-12, the most telling first.

    Keywords' values are checked, not patterns and formats. Of each part one fault is found.
    """
    token = _run.set(_Run(_meta_schema(), sys.maxsize))
    try:
        found = list(_Bounded(_meta_schema(), registry=EMPTY_REGISTRY).iter_errors(schema))
        return [best_match([error]) for error in sorted(found, key=relevance, reverse=True)]
    finally:
        _run.reset(token)


@lru_cache(maxsize=1)
def _meta_schema() -> dict[str, Any]:
    """Make the draft's meta-schema of its vocabularies, in one piece: it is checked several times as fast."""
    base = "https://json-schema.org/draft/2020-12/"
    whole = dict(SPECIFICATIONS.contents(f"{base}schema"))
    for vocabulary in whole.pop("allOf"):
        part = SPECIFICATIONS.contents(base + vocabulary["$ref"])
        for keyword in ("properties", "$defs"):
            whole[keyword] = {**whole.get(keyword, {}), **part.get(keyword, {})}
    text = json.dumps({keyword: whole[keyword] for keyword in ("type", "properties", "$defs")})
    return dict(json.loads(text.replace('"$dynamicRef": "#meta"', '"$ref": "#"')))


def answer_error(schema: Any, text: str) -> str:
    """Return how the JSON in ``text`` breaks ``schema`` (None: any object); "" if it does not."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"the answer is not JSON: {error}"
    if schema is None:
        return "" if isinstance(value, dict) else "the answer is no JSON object"
    return validator(schema).error(value)


def _size(value: Any) -> int:
    count, stack = 0, [value]
    while stack:
        node = stack.pop()
        count += 1
        stack.extend(node.values() if isinstance(node, dict) else node if isinstance(node, list) else ())
    return count


def _without_unevaluated(node: Any) -> Any:
    if isinstance(node, dict):
        return {k: _without_unevaluated(v) for k, v in node.items() if k != "unevaluatedProperties"}
    return [_without_unevaluated(v) for v in node] if isinstance(node, list) else node


def _matches(pattern: str, text: str) -> bool:
    """Return whether a pattern is found in a text; where that is unknown in time, the grammar's word has to do."""
    if len(text) > _LONGEST_TEXT:
        return True
    try:
        return compile_pattern(pattern).search(text) is not False
    except PatternError:
        return True


def _pattern(validator: Any, pattern: str, instance: Any, _: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not _matches(pattern, instance):
        yield ValidationError(f"{instance[:200]!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, _: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "object"):
        for pattern, schema in patterns.items():
            for name, value in instance.items():
                if _matches(pattern, name):
                    yield from validator.descend(value, schema, path=name, schema_path=pattern)


def _additional_properties(validator: Any, allowed: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    patterns = schema.get("patternProperties", {})
    for name, value in instance.items():
        if name in schema.get("properties", {}) or any(_matches(pattern, name) for pattern in patterns):
            continue
        if allowed is False:
            yield ValidationError(f"the property {name[:200]!r} is not allowed")
        else:
            yield from validator.descend(value, allowed, path=name)


def _multiple_of(validator: Any, step: Any, instance: Any, _: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "number") and step and instance == instance and abs(instance) != float("inf"):
        exact = Fraction(instance) if isinstance(instance, int) else Fraction(repr(instance))
        if exact % Fraction(repr(step)):
            yield ValidationError(f"{instance} is not a multiple of {step}")


def _ref(validator: Any, ref: str, instance: Any, _: Any) -> Iterator[ValidationError]:
    now = _run.get()
    key = (ref, id(instance))
    if key not in now.found:
        target = resolve(now.root, ref)
        if target is None:
            raise LookupError(f"{ref!r} leads nowhere in this schema")
        now.found[key] = instance, next(iter(validator.descend(instance, target)), None)
    error = now.found[key][1]
    if error is not None:
        yield ValidationError.create_from(error)  # its path grows on the way up


def _counted(keyword: Keyword) -> Keyword:
    def run(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        now = _run.get()
        now.steps -= 1
        if now.steps < 0:
            raise _TooComplex
        yield from keyword(validator, value, instance, schema) or ()

    return run


_OURS: Mapping[str, Keyword] = {
    "$ref": _ref,
    "$dynamicRef": _ref,  # a pointer by now
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "multipleOf": _multiple_of,
}
_KEYWORDS: Mapping[str, Keyword] = {**jsonschema.Draft202012Validator.VALIDATORS, **_OURS}
_Bounded: Any = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
    jsonschema.Draft202012Validator, {name: _counted(keyword) for name, keyword in _KEYWORDS.items()}
)
