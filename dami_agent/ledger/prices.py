"""What calls cost in money, by a table the user writes: per token, per second of the device, or both."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from dami_agent.errors import LedgerError
from dami_agent.types import CallRecord

ANY_MODEL = "*"
PER = 1_000_000  # tokens a price is for


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What one model costs; what is left out costs nothing.

    Attributes:
        prompt: per million tokens read: of the prompt, and those an estimator scored.
        cached: per million prompt tokens that were in the cache; None: as ``prompt``.
        output: per million tokens decoded: thought, answer and a probe thrown away.
        device_second: per second of estimating, switching weights, prefill and decoding. Calls decoded in one batch
            each count their own seconds: divide by the calls you usually run at a time.
    """

    prompt: float = 0.0
    cached: float | None = None
    output: float = 0.0
    device_second: float = 0.0

    def of(self, record: CallRecord) -> float:
        """Of one attempt, failed ones included."""
        generation = record.generation
        estimate = record.decision.estimate if record.decision else None
        read = generation.prompt_tokens if generation else 0
        cached = min(record.cached_tokens, read)
        scored = estimate.scored_tokens if estimate else 0
        cached_price = self.prompt if self.cached is None else self.cached
        tokens = (read - cached + scored) * self.prompt + cached * cached_price + record.output_tokens * self.output
        seconds = estimate.seconds if estimate else 0.0
        if generation is not None:
            seconds += generation.timing.switch + generation.timing.prefill + generation.timing.decode
        return tokens / PER + seconds * self.device_second


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """A price table: by model as the ledger names it, ``"*"`` for every other. Without an entry money stays unknown.

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
            raise LedgerError(f"cannot read the prices in {path}: {e}", hint="a JSON file; see Prices") from e
        return cls.from_dict(data, source=str(path))

    @classmethod
    def from_dict(cls, data: Any, *, source: str = "dict") -> Prices:
        """Build from the parsed JSON; see :meth:`from_file`."""
        if not isinstance(data, Mapping) or not isinstance(data.get("models"), Mapping):
            raise _wrong(source, "models", "is missing or no object")
        if unknown := set(data) - {"models", "currency"}:
            raise _wrong(source, min(unknown), "is no field; known: models, currency")
        currency = data.get("currency", "USD")
        if not isinstance(currency, str) or not currency:
            raise _wrong(source, "currency", "is no text")
        return cls(models={str(n): _price(source, str(n), p) for n, p in data["models"].items()}, currency=currency)

    def of(self, record: CallRecord) -> float | None:
        """Money of one attempt; None if the model has no price."""
        price = self.models.get(record.model) or self.models.get(ANY_MODEL)
        return None if price is None else price.of(record)


def _price(source: str, model: str, data: Any) -> Price:
    known = [f.name for f in fields(Price)]
    if not isinstance(data, Mapping):
        raise _wrong(source, f"models.{model}", "is no object")
    for name, value in data.items():
        where = f"models.{model}.{name}"
        if name not in known:
            raise _wrong(source, where, f"is no field; known: {', '.join(known)}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
            raise _wrong(source, where, f"must be a number of at least 0, not {value!r}")
    return Price(**{name: float(value) for name, value in data.items()})


def _wrong(source: str, where: str, what: str) -> LedgerError:
    return LedgerError(f"prices in {source}: {where} {what}", hint="per million tokens, or per device_second")
