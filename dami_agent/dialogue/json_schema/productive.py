"""Find the subschemas that no finite value can satisfy, and say ``false`` there.

A grammar that enters ``{"$ref": "#"}``, or a tree whose every node must have a child, never comes out again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dami_agent.dialogue.json_schema.keywords import map_subschemas

_NAMED = "#/$defs/"


def without_the_impossible(root: Any) -> Any:
    """Replace what no finite value satisfies by ``False`` in a schema whose references all name ``$defs`` entries."""
    defs: Mapping[str, Any] = root.get("$defs", {})
    possible: set[str] = set()
    while True:  # the least fixed point: what is possible given what is possible so far
        more = {name for name, schema in defs.items() if name not in possible and _possible(schema, possible)}
        if not more:
            break
        possible |= more
    if len(possible) == len(defs) and root.get("not") != {}:
        return root
    if not _possible(root, possible):
        return False
    pruned = {k: v for k, v in _pruned(root, possible).items() if k != "$defs"}
    return {**pruned, "$defs": {name: _pruned(defs[name], possible) for name in defs if name in possible}}


def _possible(schema: Any, known: set[str]) -> bool:
    if isinstance(schema, bool):
        return schema
    if schema.get("not") == {}:
        return False
    if "$ref" in schema and schema["$ref"].removeprefix(_NAMED) not in known:
        return False
    if not all(_possible(sub, known) for sub in schema.get("allOf", ())):
        return False
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema and not any(_possible(sub, known) for sub in schema[keyword]):
            return False
    kinds = schema.get("type")
    if kinds == "object" or kinds == ["object"]:
        declared = schema.get("properties", {})
        return all(_possible(declared.get(name, True), known) for name in schema.get("required", ()))
    if kinds == "array" or kinds == ["array"]:
        places = [*schema.get("prefixItems", ())][: schema.get("minItems", 0)]
        rest = schema.get("items", True) if schema.get("minItems", 0) > len(places) else True
        return all(_possible(sub, known) for sub in (*places, rest))
    return True


def _pruned(schema: Any, known: set[str]) -> Any:
    if isinstance(schema, bool) or not _possible(schema, known):
        return schema is True
    return map_subschemas(schema, lambda sub: _pruned(sub, known), skip=("$defs",))
