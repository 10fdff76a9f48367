"""Compute what calls cost from a table that the user writes: a price for each model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dami_agent.errors import LedgerError
from dami_agent.types import CallRecord, Price
from dami_agent.types.price import misfits

ANY_MODEL = "*"
HINT = "a JSON file of prices per million tokens, or per device_second; see docs/ledger.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Holds prices by model as the ledger names it, ``"*"`` for every other. Without an entry the cost is unknown.

    As a JSON file::

        {"currency": "EUR", "models": {"*": {"prompt": 0.1, "cached": 0.01, "output": 0.4},
                                       "dami-builtin": {"device_second": 0.0006}}}
    """

    models: Mapping[str, Price] = field(default_factory=dict)
    currency: str = "USD"

    @classmethod
    def from_file(cls, path: str | Path) -> Prices:
        """Read the JSON form.

        Raises:
            LedgerError: naming the file, the model and the field.
        """
        try:
            data = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
        except (OSError, ValueError) as e:
            raise LedgerError(f"cannot read the prices in {path}: {e}", hint=HINT) from e
        return cls.from_dict(data, source=str(path))

    @classmethod
    def from_dict(cls, data: Any, *, source: str = "dict") -> Prices:
        """Build a price table from the parsed JSON; see :meth:`from_file`."""
        if not isinstance(data, Mapping) or not isinstance(data.get("models"), Mapping):
            raise _wrong(source, "models", "is missing or not an object")
        if unknown := set(data) - {"models", "currency"}:
            raise _wrong(source, min(unknown), "is not a known field; known: models, currency")
        currency = data.get("currency", "USD")
        if not isinstance(currency, str) or not currency:
            raise _wrong(source, "currency", "must be a non-empty string")
        return cls(models={str(n): _price(source, str(n), p) for n, p in data["models"].items()}, currency=currency)

    def cost_of(self, record: CallRecord) -> float | None:
        """Compute the cost of one attempt, failed ones included; None if the model has no price."""
        price = self.models.get(record.model) or self.models.get(ANY_MODEL)
        return None if price is None else price.cost_of(record.usage)


def _price(source: str, model: str, data: Any) -> Price:
    if not isinstance(data, Mapping):
        raise _wrong(source, f"models.{model}", "must be an object")
    for name, wrong in misfits(data):
        raise _wrong(source, f"models.{model}.{name}", wrong)
    return Price(**data)


def _wrong(source: str, where: str, what: str) -> LedgerError:
    return LedgerError(f"prices in {source}: {where} {what}", hint=HINT)
