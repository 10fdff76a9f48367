"""Tell whether the members of a union can be told apart, so that ``oneOf`` means the same as ``anyOf``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

_MOST_MEMBERS = 64  # every pair is compared


def disjoint(members: Sequence[Any], target: Callable[[Any], Any], tag: str = "") -> bool:
    """Return whether no value satisfies two members: they are of other types, or objects told apart by a property.

    A member may have been closed, or made to have ``tag``, by us. Values are checked against the schema as it was
    written, so what we demand of a member is relied on for its own values and not for those of the others.

    Args:
        members: of a ``oneOf``, rewritten.
        target: a schema, or what it refers to.
        tag: the property that we require of members, if any.
    """
    schemas = [target(member) for member in members]
    if len(schemas) > _MOST_MEMBERS or not all(isinstance(schema, Mapping) for schema in schemas):
        return False
    return all(_apart(a, b, target, tag) for n, a in enumerate(schemas) for m, b in enumerate(schemas) if n != m)


def _apart(a: Mapping[str, Any], b: Mapping[str, Any], target: Callable[[Any], Any], tag: str) -> bool:
    """Return whether no value of ``a`` as it stands satisfies ``b`` as it was written."""
    if _of_other_kinds(a, b):
        return True
    if not all(schema.get("type") == "object" for schema in (a, b)):
        return False
    declared, wanted = a.get("properties", {}), set(b.get("required", ()))
    closed = a.get("additionalProperties") is False and "patternProperties" not in a
    if closed and wanted - {tag} - set(declared):
        return True
    common = wanted & set(a.get("required", ())) & set(declared) & set(b.get("properties", {}))
    return any(_told_apart(target(declared[name]), target(b["properties"][name])) for name in common)


def _told_apart(a: Any, b: Any) -> bool:
    if not isinstance(a, Mapping) or not isinstance(b, Mapping):
        return False
    values = constants(a), constants(b)
    return (bool(values[0] and values[1]) and not values[0] & values[1]) or _of_other_kinds(a, b)


def _of_other_kinds(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    kinds = _kinds(a), _kinds(b)
    return bool(kinds[0] and kinds[1]) and not kinds[0] & kinds[1]


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
