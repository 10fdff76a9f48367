"""Tell whether the members of a union can be told apart, so that ``oneOf`` means the same as ``anyOf``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

_MOST_MEMBERS = 64  # every pair is compared


def disjoint(members: Sequence[Any], target: Callable[[Any], Any]) -> bool:
    """Return whether no value satisfies two members: they are of other types, or objects told apart by a constant.

    Args:
        members: of a ``oneOf``.
        target: a schema, or what it refers to.
    """
    schemas = [target(member) for member in members]
    if len(schemas) > _MOST_MEMBERS or not all(isinstance(schema, Mapping) for schema in schemas):
        return False
    return all(_apart(a, b, target) for n, a in enumerate(schemas) for b in schemas[:n])


def _apart(a: Mapping[str, Any], b: Mapping[str, Any], target: Callable[[Any], Any]) -> bool:
    kinds = [_kinds(a), _kinds(b)]
    if all(kinds) and not kinds[0] & kinds[1]:
        return True
    tags = [{k: constants(target(v)) for k, v in s.get("properties", {}).items()} for s in (a, b)]
    common = set(a.get("required", ())) & set(b.get("required", ())) & set(tags[0]) & set(tags[1])
    objects = all(s.get("type") == "object" for s in (a, b))
    return objects and any(tags[0][k] and tags[1][k] and not tags[0][k] & tags[1][k] for k in common)


def _kinds(schema: Mapping[str, Any]) -> set[str]:
    """Return JSON types a schema can accept; empty if unknown. An integer is a number too."""
    kinds = schema.get("type", ())
    found = {kinds} if isinstance(kinds, str) else set(kinds)
    if not found and (values := constants(schema)):
        names = {str: "string", bool: "boolean", type(None): "null", int: "number", float: "number"}
        found = {names.get(type(value), "") for value in values}
        if "" in found:
            return set()
    return {"number" if kind == "integer" else kind for kind in found}


def constants(schema: Any) -> set[Any]:
    """Return the scalar values of ``const`` or ``enum``; empty if there are none or others too."""
    if not isinstance(schema, Mapping):
        return set()
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return set(values) if all(value is None or isinstance(value, (str, int, float)) for value in values) else set()
