"""Refuse what is not a JSON schema, or leave its faults out. Whatever a stranger wrote, one error of ours comes out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

from dami_agent.dialogue.json_schema.keywords import all_subschemas, keys_of, modern, resolve
from dami_agent.dialogue.json_schema.validation import faults
from dami_agent.errors import InvalidSchema
from dami_agent.patterns import PatternError, compile_pattern

DEEPEST = 96
"""Levels of nesting of a schema's JSON text; llguidance reads a little over a hundred."""
LARGEST = 100_000
"""Values in a schema."""
_MOST_SAID = 600
"""Characters of an error: keys, patterns and references of a stranger's schema may have any length."""
_SEE = "see json-schema.org, draft 2020-12"
_PASSES = 12
_MOST_BITS = 4096  # of a whole number: more than a thousand digits are no bound

_Place: TypeAlias = tuple[str | int, ...]


def check(schema: Any, where: str) -> None:
    """Refuse a malformed schema.

    Args:
        schema: what should be a JSON schema (draft 2020-12, or an older draft's spelling of it).
        where: whose it is, for the message, for example ``tool 'add'``.

    Raises:
        InvalidSchema: it is not a schema, or a ``$ref`` in it leads out of it or nowhere.
    """
    if not isinstance(schema, (Mapping, bool)):
        raise InvalidSchema(f"{where}: the schema is {type(schema).__name__}, not an object", hint="pass a JSON schema")
    wrong = _not_json(schema) or _checked(json.dumps(schema))
    if wrong:
        text = wrong.text if len(wrong.text) <= _MOST_SAID else f"{wrong.text[:_MOST_SAID]}…"
        raise InvalidSchema(f"{where}: {text}", hint=wrong.hint)


def check_arguments(schema: Any, where: str) -> None:
    """Refuse a malformed schema of a tool's arguments, or one of anything but an object; as :func:`check`."""
    check(schema, where)
    kind = schema.get("type", "object") if isinstance(schema, Mapping) else "object"
    if "object" not in ([kind] if isinstance(kind, str) else kind):
        raise InvalidSchema(
            f"{where}: #/type: arguments are an object, the schema says {kind!r}", hint="use type: object"
        )


def sound_part(schema: Any) -> dict[str, Any]:
    """Return what of a schema of a tool's arguments is well formed: a schema of an object, at worst of any.

    Every keyword that :func:`check` would name is left out, so that the others hold on.

    Args:
        schema: whatever a stranger passed as one.
    """
    anything = {"type": "object"}
    if not isinstance(schema, Mapping) or _not_json(schema):
        return anything
    try:
        found = modern(json.loads(json.dumps(schema)))
        for _ in range(_PASSES):  # one finds a single fault within each part, and no reference to a part left out
            places = _places(found)
            if not places:
                return {**found, **anything}
            for place in places:
                _remove(found, place)
    except Exception:  # a stranger's schema that not even its faults can be found in
        return anything
    return anything


def _places(schema: Any) -> list[_Place]:
    """Return the keys that lead to each fault, of a list's items the last first; none lead to the whole schema."""
    found = list(_malformed(schema)) or [*_bad_patterns(schema), *_bad_references(schema)]
    places = {fault.place for fault in found}
    return sorted(places, key=lambda place: [(isinstance(key, str), key) for key in place], reverse=True)


def _remove(root: Any, place: _Place) -> None:
    """Remove what the keys lead to; raises where they lead nowhere, or there are none."""
    *way, last = place
    node = root
    for key in way:
        node = node[int(key) if isinstance(node, list) else key]
    if isinstance(node, list):
        del node[int(last)]
    else:
        node.pop(last, None)


class _Fault(NamedTuple):
    """Hold what is wrong with a schema, what to do about it, and the keys that lead to it, if it has a place."""

    text: str
    hint: str
    place: _Place = ()


def _not_json(schema: Any) -> _Fault | None:
    """Return what in ``schema`` no JSON text can say, or no grammar would ever come to the end of."""
    stack: list[tuple[Any, int]] = [(schema, 0)]
    count = 0
    while stack:
        node, depth = stack.pop()
        count += 1
        if depth > DEEPEST:
            return _Fault(f"the schema is nested more than {DEEPEST} levels deep", "use $defs and $ref")
        if count > LARGEST:
            return _Fault(f"the schema holds more than {LARGEST} values", "split it, or allow any value in parts of it")
        if isinstance(node, dict):
            odd = next((key for key in node if not isinstance(key, str)), None)
            if odd is not None:
                return _Fault(f"the schema has the key {odd!r}, which is not a string", "JSON's keys are strings")
            stack.extend((value, depth + 1) for value in node.values())
        elif isinstance(node, (list, tuple)):
            stack.extend((value, depth + 1) for value in node)
        elif isinstance(node, float) and not math.isfinite(node):
            return _Fault(
                f"the schema holds the number {node}", "JSON has finite numbers only; leave an open bound out"
            )
        elif isinstance(node, int) and node.bit_length() > _MOST_BITS:
            return _Fault(
                f"the schema holds a number of {node.bit_length()} bits", "leave out a bound that bounds nothing"
            )
        elif node is not None and not isinstance(node, (str, int, float)):
            return _Fault(f"the schema holds a {type(node).__name__}, which is not a JSON value", "pass plain JSON")
    return None


@lru_cache(maxsize=512)
def _checked(text: str) -> _Fault | None:
    """Return what is wrong with a schema; None if nothing is."""
    try:
        schema = modern(json.loads(text))
        return next(chain(_malformed(schema), _bad_patterns(schema), _bad_references(schema)), None)
    except RecursionError:
        return _Fault("the schema is nested too deeply", "use $defs and $ref")
    except Exception as error:
        return _Fault(f"the schema cannot be read: {type(error).__name__}: {error}"[:300], _SEE)


def _malformed(schema: Any) -> Iterator[_Fault]:
    for error in faults(schema):
        place = tuple(error.absolute_path)
        yield _Fault(f"malformed JSON schema at #/{'/'.join(map(str, place))}: {error.message[:300]}", _SEE, place)


def _bad_patterns(schema: Any) -> Iterator[_Fault]:
    for path, node in all_subschemas(schema):
        patterns: list[tuple[str, str, tuple[str, ...]]] = []
        if "pattern" in node:
            patterns.append(("pattern", node["pattern"], ()))
        patterns += [("patternProperties", pattern, (pattern,)) for pattern in node.get("patternProperties", {})]
        for keyword, pattern, inside in patterns:
            error = _pattern_error(pattern)
            if error:
                place = (*keys_of(path), keyword, *inside)
                yield _Fault(f"{path}/{keyword}: malformed pattern: {error}", "mend the regular expression", place)


def _pattern_error(pattern: str) -> str:
    """Why neither the grammar nor the engine that checks values can read a pattern."""
    from llguidance import LLMatcher

    try:
        compile_pattern(pattern)
    except PatternError as error:
        grammar = LLMatcher.grammar_from_json_schema(json.dumps({"type": "string", "pattern": pattern}))
        return str(error)[:300] if LLMatcher.validate_grammar(grammar) else ""
    return ""


def _bad_references(schema: Any) -> Iterator[_Fault]:
    for path, node in all_subschemas(schema):
        for keyword in ("$ref", "$dynamicRef"):
            ref = node.get(keyword)
            if ref is not None and resolve(schema, ref) is None:
                yield _Fault(
                    f"{path}/{keyword}: $ref {ref!r} leads nowhere in this schema",
                    "references must be local (#/$defs/Name); nothing is fetched",
                    (*keys_of(path), keyword),
                )
