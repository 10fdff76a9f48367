"""Encode rows as columns: small enough to put 100,000 calls into one page, and quick to read there.

A column is one of four JSON objects, told apart by their keys:

- ``{"all": v}``: every row has the value ``v``.
- ``{"values": [...], "codes": [...]}``: distinct values, and each row's index into them.
- ``{"list": [...]}``: one value per row.
- ``{"fields": {name: column}}``: the values are mappings; a name that a row lacks is null there.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dami_agent.ledger import CallRow
from dami_agent.types.record import ANSWER

MOST_FIELDS = 64  # a mapping with more names than that in all rows together is kept whole
LEFT_OUT = frozenset({"id", "root_run_id"})  # the first is the ledger's own, the second is in ``run``

Column = dict[str, Any]


def table(rows: Sequence[CallRow], saved: Sequence[float | None] | None = None) -> dict[str, Any]:
    """Encode all fields of ``rows`` (oldest first), and some more.

    These are ``run``, ``tool`` (whose result was read), ``names``, ``user``, ``ordinal``; ``saved`` where given, output
    tokens by row.

    Returns:
        ``count``, ``epoch`` (milliseconds UTC since 1970 of the earliest start; ``started_at`` counts from it) and
        ``columns`` by name.
    """
    names = [f.name for f in dataclasses.fields(CallRow) if f.name not in LEFT_OUT]
    starts = [round(row.started_at.timestamp() * 1000) for row in rows]
    epoch = min(starts, default=0)
    values = {name: [getattr(row, name) for row in rows] for name in names} | {
        "started_at": [start - epoch for start in starts],
        "run": [row.run for row in rows],
        "tool": [row.charged_to or ANSWER for row in rows],
        "names": [row.names for row in rows],
        "user": [row.user for row in rows],
        "ordinal": ordinals(rows),
    }
    if saved is not None:
        values["saved"] = list(saved)
    return {"count": len(rows), "epoch": epoch, "columns": {name: encode(column) for name, column in values.items()}}


def ordinals(rows: Sequence[CallRow]) -> list[int]:
    """Count the steps of each run from 1 in the order of starting; attempts at one call share a number."""
    seen: dict[str, dict[str, int]] = {}
    numbers = []
    for row in rows:
        calls = seen.setdefault(row.run, {})
        numbers.append(calls.setdefault(row.call_id, len(calls) + 1))
    return numbers


def encode(values: Sequence[Any]) -> Column:
    """Choose the shortest of the four forms that holds ``values``."""
    kinds = set(map(type, values)) - {type(None)}
    if kinds and all(issubclass(kind, Mapping) for kind in kinds):
        names = list(dict.fromkeys(name for v in values if v is not None for name in v))
        if len(names) <= MOST_FIELDS:
            return {"fields": {str(n): encode([None if v is None else v.get(n) for v in values]) for n in names}}
    numeric = kinds <= {int, float, bool}
    plain: list[Any]
    if numeric:
        plain = [_number(v) for v in values] if float in kinds else list(values)
    elif kinds == {str}:
        plain = list(values)
    else:
        plain = [json.dumps(_plain(v)) for v in values]
    codes = dict(zip(dict.fromkeys(plain), range(len(plain)), strict=False))
    read: Callable[[Any], Any] = (lambda same: same) if numeric or kinds == {str} else json.loads
    if len(codes) <= 1:
        return {"all": read(plain[0]) if plain else None}
    if (numeric and kinds != {bool}) or len(codes) > len(plain) // 2:
        return {"list": [read(v) for v in plain]}
    return {"values": [read(v) for v in codes], "codes": [codes[v] for v in plain]}


def _number(value: float | None) -> float | str | None:
    """Convert a number for JSON, which has no infinity; to six digits, which is finer than anything shown."""
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return str(value)
    return int(value) if value.is_integer() else float(f"{value:.6g}")


def _plain(value: Any) -> Any:
    """Convert any value of a row for JSON."""
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return value
