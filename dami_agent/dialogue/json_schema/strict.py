"""Schemas as OpenAI's strict mode reads them: every declared property is required, and no others are allowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dami_agent.dialogue.json_schema.check import check
from dami_agent.dialogue.json_schema.enforcement import enforceable
from dami_agent.dialogue.json_schema.keywords import map_subschemas, modern
from dami_agent.errors import InvalidSchema

_NEGATING = ("not", "if")  # to demand more there would be to allow more


def strict_schema(schema: Any, where: str) -> dict[str, Any]:
    """Return the schema in its strict form, which a grammar enforces to the last keyword.

    An object that declares no properties stays open: closed, it could only ever be ``{}``.

    Args:
        schema: a JSON schema of an object.
        where: whose it is, for messages, for example ``tool 'add'``.

    Raises:
        InvalidSchema: it is malformed, nothing can satisfy its strict form, or no grammar enforces all of it.
    """
    check(schema, where)
    strict: dict[str, Any] = _strict(modern(schema))
    try:
        _, unenforced = enforceable(strict)
    except InvalidSchema as error:
        raise InvalidSchema(f"{where}, strict: {error.message}", hint=error.hint) from error
    if unenforced:
        raise InvalidSchema(
            f"{where}, strict: no grammar enforces {', '.join(sorted(map(str, unenforced)))}",
            hint="leave strict out: what the grammar cannot enforce is then checked when the call is finished",
        )
    return strict


def _strict(node: Any) -> Any:
    if not isinstance(node, Mapping):
        return node
    out = map_subschemas(node, _strict, skip=_NEGATING)
    if "properties" in out:
        out |= {"required": list(out["properties"]), "additionalProperties": False}
    return out
