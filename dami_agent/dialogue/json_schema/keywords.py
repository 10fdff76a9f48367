"""Find the subschemas of a JSON Schema, and rewrite older drafts as draft 2020-12."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote

MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
SINGLE = (
    *("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"),
    *("unevaluatedItems", "unevaluatedProperties", "contentSchema"),
)
COMPOSING = ("$ref", "allOf", "anyOf", "oneOf")
"""What stands for other schemas that the same value must satisfy, all or some."""

_OLD_DRAFTS = ("draft-03", "draft-04", "draft-06", "draft-07")


def subschemas(node: Mapping[str, Any], path: str = "#") -> Iterator[tuple[str, Any]]:
    """Yield the direct subschemas of a schema object, each with its JSON pointer."""
    for keyword, value in node.items():
        if keyword in MAPS and isinstance(value, Mapping):
            yield from ((f"{path}/{keyword}/{_escaped(name)}", sub) for name, sub in value.items())
        elif keyword in LISTS and isinstance(value, list):
            yield from ((f"{path}/{keyword}/{n}", sub) for n, sub in enumerate(value))
        elif keyword in SINGLE and isinstance(value, (Mapping, bool)):
            yield f"{path}/{keyword}", value


def all_subschemas(root: Any, path: str = "#") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every schema object in ``root``, itself first, each with its JSON pointer."""
    if isinstance(root, Mapping):
        yield path, root
        for where, sub in subschemas(root, path):
            yield from all_subschemas(sub, where)


def map_subschemas(
    node: Mapping[str, Any], rewrite: Callable[[Any], Any], *, skip: Collection[str] = ()
) -> dict[str, Any]:
    """Return a schema object with its direct subschemas rewritten, but for those under the keywords in ``skip``."""
    out = dict(node)
    for keyword, value in node.items():
        if keyword in skip:
            continue
        if keyword in MAPS and isinstance(value, Mapping):
            out[keyword] = {name: rewrite(sub) for name, sub in value.items()}
        elif keyword in LISTS and isinstance(value, list):
            out[keyword] = [rewrite(sub) for sub in value]
        elif keyword in SINGLE:
            out[keyword] = rewrite(value)
    return out


def resolve(root: Any, ref: str) -> Any:
    """Return the subschema that a JSON pointer (``#/$defs/Name``) names, or None."""
    if not ref.startswith("#") or (len(ref) > 1 and ref[1] != "/"):
        return None
    node = root
    for key in keys_of(ref):
        if isinstance(node, list) and key.isascii() and key.isdigit() and len(key) < 10 and int(key) < len(node):
            node = node[int(key)]
        elif isinstance(node, Mapping) and key in node:
            node = node[key]
        else:
            return None
    return node if isinstance(node, (Mapping, bool)) else None


def keys_of(pointer: str) -> tuple[str, ...]:
    """Return the keys, as texts, that a JSON pointer (``#/$defs/Name``) leads along."""
    parts = pointer[2:].split("/") if len(pointer) > 1 else ()
    return tuple(unquote(part).replace("~1", "/").replace("~0", "~") for part in parts)


def modern(root: Any) -> Any:
    """Rewrite a schema as draft 2020-12, with every reference a JSON pointer; the original is left alone.

    Rewritten are tuples of draft 07 (``items`` as a list), boolean ``exclusiveMinimum`` of draft 04, ``dependencies``,
    keywords beside ``$ref`` under drafts that ignore them, and references by ``$id`` or ``$anchor``. Of several
    subschemas with one anchor the outermost is meant, a dynamic one first: so ``$dynamicRef`` reads them.
    """
    if not isinstance(root, Mapping):
        return root
    names: dict[str, str] = {}
    dynamic: dict[str, str] = {}
    for path, node in sorted(all_subschemas(root), key=lambda each: -each[0].count("/")):  # the outermost last
        for keyword in ("$id", "id"):
            if isinstance(node.get(keyword), str):
                names[node[keyword].rstrip("#")] = path
        for keyword, found in (("$anchor", names), ("$dynamicAnchor", dynamic)):
            if isinstance(node.get(keyword), str):
                found["#" + node[keyword]] = path
        if isinstance(node.get("items"), list):
            names |= {f"{path}/items/{n}": f"{path}/prefixItems/{n}" for n in range(len(node["items"]))}
    names |= dynamic
    names.pop("", None)
    declared = root.get("$schema")
    alone = isinstance(declared, str) and any(draft in declared for draft in _OLD_DRAFTS)
    rewritten = _rewritten(root, names, alone)
    return {k: v for k, v in rewritten.items() if k not in ("$schema", "$id", "id", "$vocabulary")}


def _rewritten(node: Any, names: Mapping[str, str], alone: bool) -> Any:
    if not isinstance(node, Mapping):
        return node
    out: dict[str, Any] = {k: v for k, v in node.items() if k not in ("$anchor", "$dynamicAnchor", "$id")}
    for keyword in ("$ref", "$dynamicRef"):
        if isinstance(out.get(keyword), str):
            out[keyword] = _pointer(out[keyword], names)
    if alone and isinstance(out.get("$ref"), str):
        out = {k: v for k, v in out.items() if k in ("$ref", "$defs", "definitions")}
    if isinstance(out.get("items"), list):
        out["prefixItems"] = out.pop("items")
        if "additionalItems" in out:
            out["items"] = out["additionalItems"]
        if not out["prefixItems"]:
            del out["prefixItems"]
    out.pop("additionalItems", None)
    for open_, closed in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(out.get(open_), bool):
            strict = out.pop(open_)
            if strict and closed in out:
                out[open_] = out.pop(closed)
    if isinstance(out.get("dependencies"), Mapping):
        for name, needs in out.pop("dependencies").items():
            kind = "dependentRequired" if isinstance(needs, list) else "dependentSchemas"
            out[kind] = {**out.get(kind, {}), name: needs}
    return map_subschemas(out, lambda sub: _rewritten(sub, names, alone))


def _pointer(ref: str, names: Mapping[str, str]) -> str:
    """Rewrite a reference by name as a pointer; any other stays as it is."""
    if ref in names:
        return names[ref]
    base, _, fragment = ref.partition("#")
    if base in names:
        path = names[base]
        if not fragment:
            return path
        if fragment.startswith("/"):
            return path + fragment
    return ref


def _escaped(name: str) -> str:
    return quote(str(name).replace("~", "~0").replace("/", "~1"), safe="~$ ")
