"""JSON schemas as xgrammar can enforce them.

A grammar made from a schema must never allow what the schema forbids. xgrammar ignores some keywords silently (``not``,
``uniqueItems``, a second ``allOf``), so :func:`enforceable` rewrites a schema into the part of JSON Schema that is
enforced exactly or more narrowly, and lists the rest. More narrowly means: properties in their declared order and no
undeclared ones beside declared ones; integers without bounds within ±10^15; numbers in plain notation within ±10^15
with at most six decimals; so that no model, however random, runs on for ever inside a number.

Nothing here imports xgrammar; the tests do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast
from urllib.parse import unquote

import jsonschema
from referencing import Registry
from referencing.jsonschema import EMPTY_REGISTRY

from dami_agent.dialogue.narrow import Narrower, Problem
from dami_agent.errors import InvalidSchema

_DATA = ("enum", "const", "default", "examples")
"""Keywords whose values are data, not schemas."""

__all__ = ["Problem", "check", "enforceable", "validator"]


def validator(schema: Mapping[str, Any]) -> jsonschema.Draft202012Validator:
    """A validator that never fetches a reference from anywhere."""
    registry: Registry[Any] = EMPTY_REGISTRY
    return jsonschema.Draft202012Validator(cast(Any, schema), registry=registry)


def check(schema: Any, where: str) -> None:
    """Refuse a malformed schema.

    Args:
        schema: what should be a JSON schema (draft 2020-12).
        where: whose it is, for the message, for example ``tool 'add'``.

    Raises:
        InvalidSchema: it is not a schema, or a ``$ref`` in it leads out of it or nowhere.
    """
    if not isinstance(schema, (Mapping, bool)):
        raise InvalidSchema(f"{where}: the schema is {type(schema).__name__}, not an object", hint="pass a JSON schema")
    try:
        jsonschema.Draft202012Validator.check_schema(cast(Any, schema))
    except jsonschema.SchemaError as error:
        path = "/".join(map(str, error.absolute_path))
        raise InvalidSchema(
            f"{where}: malformed JSON schema at #/{path}: {error.message}", hint="see json-schema.org, draft 2020-12"
        ) from error
    except RecursionError as error:
        raise InvalidSchema(f"{where}: the schema is nested too deeply", hint="use $defs and $ref") from error
    for path, pattern in _patterns(schema, "#"):
        _check_pattern(pattern, f"{where}: {path}")
    for path, ref in _refs(schema, "#"):
        if resolve(schema, ref) is None:
            raise InvalidSchema(
                f"{where}: {path}: $ref {ref!r} leads nowhere in this schema",
                hint="references must be local (#/$defs/Name); nothing is fetched",
            )


def _check_pattern(pattern: str, where: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise InvalidSchema(f"{where}: malformed pattern: {error}", hint="mend the regular expression") from error


def enforceable(schema: Any) -> tuple[dict[str, Any], list[Problem]]:
    """The schema rewritten for xgrammar, and where the rewritten one allows more than the original.

    Without problems, whatever the rewritten schema allows the original allows too. ``schema`` has passed ``check``.

    Raises:
        InvalidSchema: nothing at all can satisfy it.
    """
    narrower = Narrower(schema, resolve)
    return narrower.run(), narrower.problems


def resolve(root: Any, ref: str) -> Any:
    """The subschema that a local reference names, or None."""
    if not ref.startswith("#") or (len(ref) > 1 and ref[1] != "/"):
        return None
    node = root
    for part in ref[2:].split("/") if len(ref) > 1 else ():
        key = unquote(part).replace("~1", "/").replace("~0", "~")
        if isinstance(node, list) and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
        elif isinstance(node, Mapping) and key in node:
            node = node[key]
        else:
            return None
    return node if isinstance(node, (Mapping, bool)) else None


def _refs(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every ``$ref`` in a schema with its place; ``enum``, ``const``, ``default`` and ``examples`` are data."""
    if isinstance(node, Mapping):
        for key in ("$ref", "$dynamicRef"):
            if isinstance(node.get(key), str):
                yield f"{path}/{key}", node[key]
        for key, value in node.items():
            if key not in _DATA:
                yield from _refs(value, f"{path}/{key}")
    elif isinstance(node, list):
        for n, value in enumerate(node):
            yield from _refs(value, f"{path}/{n}")


def _patterns(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every regular expression in a schema with its place."""
    if isinstance(node, Mapping):
        if isinstance(node.get("pattern"), str):
            yield f"{path}/pattern", node["pattern"]
        if isinstance(node.get("patternProperties"), Mapping):
            yield from ((f"{path}/patternProperties", p) for p in node["patternProperties"])
        for key, value in node.items():
            if key not in _DATA:
                yield from _patterns(value, f"{path}/{key}")
    elif isinstance(node, list):
        for n, value in enumerate(node):
            yield from _patterns(value, f"{path}/{n}")
