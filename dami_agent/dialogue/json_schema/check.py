"""Refuse what is not a JSON schema. Whatever a stranger wrote, one error of ours comes out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from dami_agent.dialogue.json_schema.keywords import all_subschemas, modern, resolve
from dami_agent.dialogue.json_schema.validation import malformed
from dami_agent.errors import InvalidSchema
from dami_agent.patterns import PatternError, compile_pattern

DEEPEST = 96
"""Levels of nesting of a schema's JSON text; llguidance reads a little over a hundred."""
LARGEST = 100_000
"""Values in a schema."""
_MOST_SAID = 600
"""Characters of an error: keys, patterns and references of a stranger's schema may have any length."""
_MOST_BITS = 4096  # of a whole number: more than a thousand digits are no bound


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
        text = wrong[0] if len(wrong[0]) <= _MOST_SAID else f"{wrong[0][:_MOST_SAID]}…"
        raise InvalidSchema(f"{where}: {text}", hint=wrong[1])


def _not_json(schema: Any) -> tuple[str, str] | None:
    """Return what in ``schema`` no JSON text can say, or no grammar would ever come to the end of."""
    stack: list[tuple[Any, int]] = [(schema, 0)]
    count = 0
    while stack:
        node, depth = stack.pop()
        count += 1
        if depth > DEEPEST:
            return f"the schema is nested more than {DEEPEST} levels deep", "use $defs and $ref"
        if count > LARGEST:
            return f"the schema holds more than {LARGEST} values", "split it, or allow any value in parts of it"
        if isinstance(node, dict):
            odd = next((key for key in node if not isinstance(key, str)), None)
            if odd is not None:
                return f"the schema has the key {odd!r}, which is not a string", "JSON's keys are strings"
            stack.extend((value, depth + 1) for value in node.values())
        elif isinstance(node, (list, tuple)):
            stack.extend((value, depth + 1) for value in node)
        elif isinstance(node, float) and not math.isfinite(node):
            return f"the schema holds the number {node}", "JSON has finite numbers only; leave an open bound out"
        elif isinstance(node, int) and node.bit_length() > _MOST_BITS:
            return f"the schema holds a number of {node.bit_length()} bits", "leave out a bound that bounds nothing"
        elif node is not None and not isinstance(node, (str, int, float)):
            return f"the schema holds a {type(node).__name__}, which is not a JSON value", "pass plain JSON"
    return None


@lru_cache(maxsize=512)
def _checked(text: str) -> tuple[str, str] | None:
    """Return what is wrong with a schema, and what to do about it; None if nothing is."""
    try:
        schema = modern(json.loads(text))
        return _malformed(schema) or next(_bad_patterns(schema), None) or next(_bad_references(schema), None)
    except RecursionError:
        return "the schema is nested too deeply", "use $defs and $ref"
    except Exception as error:
        return f"the schema cannot be read: {type(error).__name__}: {error}"[:300], "see json-schema.org, draft 2020-12"


def _malformed(schema: Any) -> tuple[str, str] | None:
    error = malformed(schema)
    if error is None:
        return None
    path = "/".join(map(str, error.absolute_path))
    return f"malformed JSON schema at #/{path}: {error.message[:300]}", "see json-schema.org, draft 2020-12"


def _bad_patterns(schema: Any) -> Iterator[tuple[str, str]]:
    for path, node in all_subschemas(schema):
        patterns = [("pattern", node["pattern"])] if "pattern" in node else []
        patterns += [("patternProperties", pattern) for pattern in node.get("patternProperties", {})]
        for keyword, pattern in patterns:
            error = _pattern_error(pattern)
            if error:
                yield f"{path}/{keyword}: malformed pattern: {error}", "mend the regular expression"


def _pattern_error(pattern: str) -> str:
    """Why neither the grammar nor the engine that checks values can read a pattern."""
    from llguidance import LLMatcher

    try:
        compile_pattern(pattern)
    except PatternError as error:
        grammar = LLMatcher.grammar_from_json_schema(json.dumps({"type": "string", "pattern": pattern}))
        return str(error)[:300] if LLMatcher.validate_grammar(grammar) else ""
    return ""


def _bad_references(schema: Any) -> Iterator[tuple[str, str]]:
    for path, node in all_subschemas(schema):
        for keyword in ("$ref", "$dynamicRef"):
            ref = node.get(keyword)
            if ref is not None and resolve(schema, ref) is None:
                yield (
                    f"{path}/{keyword}: $ref {ref!r} leads nowhere in this schema",
                    "references must be local (#/$defs/Name); nothing is fetched",
                )
