"""JSON schemas as llguidance enforces them.

A schema goes to llguidance as it is. What it does not implement (``not``, ``if``, ``uniqueItems``, look-around, …) is
taken out and listed: the grammar then allows more than the schema, and the finished value is checked. Two things are
said to it in other words: a member of a union that is told apart by a property has that property; and what no value can
satisfy, however deep, is ``false``. In strict mode, a third: an object that declares properties and says nothing of
others has no others, which is narrower than JSON Schema and what models should write.
"""

from __future__ import annotations

import json
import warnings
from functools import lru_cache
from typing import Any

from dami_agent.dialogue.json_schema.fitting import LAYOUT, Fitting
from dami_agent.dialogue.json_schema.keywords import all_subschemas, modern
from dami_agent.dialogue.json_schema.preparation import Preparation, Unenforced
from dami_agent.dialogue.json_schema.productive import without_the_impossible
from dami_agent.errors import InvalidSchema

__all__ = ["SchemaWarning", "Unenforced", "enforceable", "json_rule", "warn_once"]


class SchemaWarning(UserWarning):
    """A schema says more than a grammar can hold a model to; values are checked when they are finished."""


def enforceable(schema: Any, *, strict: bool = True) -> tuple[dict[str, Any], list[Unenforced]]:
    """Rewrite a schema as llguidance takes it, and note where that allows more than the original.

    Where nothing is unenforced, whatever the result allows the original allows too.

    Args:
        schema: has passed ``check``.
        strict: whether an object that declares properties and says nothing of others has no others.

    Raises:
        InvalidSchema: nothing at all can satisfy it.
    """
    text, unenforced = _enforceable(json.dumps(schema), strict)
    return json.loads(text), list(unenforced)


def json_rule(schema: Any, where: str, *, strict: bool = True) -> tuple[str, tuple[str, ...]]:
    """Return ``%json {…}`` for a rule of a Lark grammar, and what it does not enforce; that is warned about once.

    Args:
        schema: has passed ``check``.
        where: whose it is, for messages, for example ``tool 'add'``.
        strict: as for :func:`enforceable`.

    Raises:
        InvalidSchema: nothing at all can satisfy it.
    """
    try:
        enforced, unenforced = _enforceable(json.dumps(schema), strict)
    except InvalidSchema as error:
        raise InvalidSchema(f"{where}: {error.message}", hint=error.hint) from error
    notes = tuple(sorted(f"{where}: {each}" for each in unenforced))
    if notes:
        more = " and more" if len(notes) > 5 else ""
        warn_once(f"no grammar enforces {', '.join(notes[:5])}{more}; values are checked when they are finished")
    return f"%json {json.dumps({**json.loads(enforced), 'x-guidance': LAYOUT})}", notes


@lru_cache(maxsize=512)
def warn_once(text: str) -> None:
    """Warn of a schema once per process: every call of an agent, and every probe of one, renders its tools anew."""
    warnings.warn(text, SchemaWarning, stacklevel=6)


@lru_cache(maxsize=256)
def _enforceable(text: str, strict: bool) -> tuple[str, tuple[Unenforced, ...]]:
    root = modern(json.loads(text))
    preparation = Preparation(root, strict=strict)
    prepared = without_the_impossible(preparation.run())
    if prepared is not False:
        prepared, impossible = Fitting(prepared, preparation.unenforced).run()
    if prepared is False or impossible:
        raise InvalidSchema(
            "no value can satisfy this schema" + (f": {impossible}" if prepared is not False else ""),
            hint="check its bounds, enums and required properties",
        )
    unenforced = [*preparation.unenforced, *(_overlapping(prepared, text) if strict else ())]
    return json.dumps(prepared), tuple(dict.fromkeys(unenforced))


def _overlapping(closed: Any, text: str) -> list[Unenforced]:
    """Return each ``oneOf`` whose members overlap as they were written, and perhaps do not as they were closed.

    A value of two members breaks the schema. Closed, ``{"a": …}`` and ``{"a": …, "b": …}`` have none in common, so the
    grammar lets both be written; open, the second satisfies the first as well.
    """
    undecided = [path for path, node in all_subschemas(closed) if "oneOf" in node]
    if not undecided:
        return []
    try:
        _, unenforced = _enforceable(text, False)
    except InvalidSchema:
        unenforced = (Unenforced("#", "*"),)
    unknown = any(each.keyword == "*" for each in unenforced)
    return [Unenforced(path, "oneOf") for path in undecided if unknown or Unenforced(path, "oneOf") in unenforced]
