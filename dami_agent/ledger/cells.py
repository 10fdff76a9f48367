"""Convert values to and from the ledger's columns, one cell at a time.

SQLite stores anything in any column, and rows are written by several releases and processes, so both directions check
the type: what does not fit on the way in is replaced, what does not fit on the way out makes the row damaged.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Double,
    Integer,
    Select,
    Text,
    cast,
    select,
    type_coerce,
)

from dami_agent.ledger.database import to_json
from dami_agent.ledger.row import CallRow
from dami_agent.ledger.schema import calls

Converter = Callable[[Any], Any]
EARLIEST, LATEST = -62_000_000_000.0, 253_000_000_000.0  # seconds since 1970 of the years 5 and 9987: a datetime's ends
GREATEST = 1e15  # no time, λ or price comes near; sums of such numbers stay finite, and so JSON


class DamagedCell(Exception):
    """A stored value that its column cannot hold; the message names the column and the value."""


def fitted(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain ``values`` with every one of the type that its column holds."""
    kept = {name: _FITTERS[name](value) for name, value in values.items()}
    if not EARLIEST <= kept.get("started_at", 0.0) <= LATEST:
        kept["started_at"] = 0.0
    return kept


def encoded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``values`` ready for a database driver: JSON columns as text.

    Raises:
        TypeError, ValueError, RecursionError: if a value has no JSON form.
    """
    return {name: to_json(v) if name in _JSON and v is not None else v for name, v in values.items()}


def raw_columns() -> Select[Any]:
    """Select every column as it is stored: JSON as text, so that one cell that does not parse hides no other row."""
    return select(*map(_as_stored, calls.columns))


def row_of(values: Mapping[str, Any]) -> CallRow:
    """Build a row from a result of :func:`raw_columns`.

    Raises:
        DamagedCell: if a cell does not hold what its column promises.
    """
    cells = {name: read(values[name]) for name, read in _READERS.items()}
    try:
        return CallRow.read(cells)
    except (TypeError, ValueError, OverflowError, OSError) as e:
        raise DamagedCell(f"does not parse: {type(e).__name__}: {e}") from e


def _as_stored(column: Column[Any]) -> ColumnElement[Any]:
    if isinstance(column.type, JSON):
        return cast(column, Text).label(column.name)
    if isinstance(column.type, Boolean):  # SQLAlchemy would turn any text into True
        return type_coerce(column, Integer).label(column.name)
    return column


# ---- in -------------------------------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _integer(value: Any) -> int:
    return int(value) if isinstance(value, (bool, int)) else 0


def _double(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return number if abs(number) <= GREATEST else 0.0  # not so for NaN


def _optional(fit: Converter, kinds: tuple[type, ...]) -> Converter:
    """Fit a value of one of ``kinds``; anything else is unknown, and so NULL."""

    def fitter(value: Any) -> Any:
        if not isinstance(value, kinds) or (isinstance(value, float) and not abs(value) <= GREATEST):
            return None
        return fit(value)

    return fitter


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {} if value is None else {"value": value}


def _names(value: Any) -> list[str]:
    if not isinstance(value, list):
        return [] if value is None else [_text(value)]
    return [_text(each) for each in value]


def _fitter(column: Column[Any]) -> Converter:
    kind = column.type
    if isinstance(kind, JSON):
        return _object if column.name in _OBJECTS else _names
    if isinstance(kind, Text):
        return _text if not column.nullable else lambda value: None if value is None else _text(value)
    if isinstance(kind, Boolean):
        return lambda value: value if isinstance(value, bool) else None
    if isinstance(kind, (Integer, BigInteger)):
        return _optional(_integer, (int,)) if column.nullable else _integer
    return _optional(_double, (int, float)) if column.nullable else _double


# ---- out ------------------------------------------------------------------------------------------------------------


def _reader(column: Column[Any]) -> Converter:
    """Check a stored value against its column's type, and parse JSON."""
    name, nullable, kind = column.name, bool(column.nullable), column.type
    read: Converter
    if isinstance(kind, JSON):
        read = _json_object if name in _OBJECTS else _json_list
    elif isinstance(kind, Boolean):
        read = _stored_boolean
    elif isinstance(kind, Double):
        read = _stored_double
    else:
        read = _stored_text if isinstance(kind, Text) else _stored_integer

    def checked(value: Any) -> Any:
        if value is None and nullable:
            return None
        try:
            return read(value)
        except (TypeError, ValueError, RecursionError) as e:
            raise DamagedCell(f"{name} is {_shown(value)}: {_shown(str(e))[1:-1]}") from e

    return checked


def _stored_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not of type str")
    if not value.isascii():
        _printable(value)  # the connection hands out bytes that are not UTF-8 as lone surrogates
    return value


def _stored_integer(value: Any) -> int:
    if not isinstance(value, int):
        raise TypeError("not of type int")
    return value


def _stored_double(value: Any) -> float:
    if not isinstance(value, (float, int)):
        raise TypeError("not of type float")
    if abs(number := _finite(value)) > GREATEST:
        raise ValueError("too large to be measured")
    return number


def _stored_boolean(value: Any) -> bool:
    if value not in (0, 1):
        raise TypeError("not of type bool")
    return bool(value)


def _json_object(value: Any) -> dict[str, Any]:
    content = _parsed(value)
    if not isinstance(content, dict):
        raise TypeError("not of type dict")
    return content


def _json_list(value: Any) -> list[str]:
    content = _parsed(value)
    if not isinstance(content, list):
        raise TypeError("not of type list")
    return _names(content)


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        raise TypeError("not of type JSON")
    content = _DECODER.decode(value)
    if not value.isascii() or "\\ud" in value or "\\uD" in value:
        _printable(json.dumps(content, ensure_ascii=False))
    return content


def _printable(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as e:
        raise ValueError("not UTF-8") from e


def _finite(value: float | str) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


def _shown(value: Any) -> str:
    """Return the value as a short Python literal in ASCII."""
    try:
        text = ascii(value)
    except ValueError:  # an integer of more digits than Python prints
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else text[:80] + "…"


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)
_OBJECTS = frozenset({"metadata", "features", "sampling", "limits"})
_JSON = frozenset(column.name for column in calls.columns if isinstance(column.type, JSON))
_FITTERS = {column.name: _fitter(column) for column in calls.columns}
_READERS = {column.name: _reader(column) for column in calls.columns}
