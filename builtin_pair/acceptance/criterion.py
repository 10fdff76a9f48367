"""One criterion: what was measured, what it must reach, what it should, and whether it does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """Hold what was measured against what must and what should be reached.

    Attributes:
        name: for programs.
        title: for people.
        must, aim: in words.
        value: what was measured; None if it was not.
        interval: 95 %, where there is a natural one.
        unit: of value and interval: ``share``, ``points`` (a difference of shares) or ``xfail`` (a count of tests).
        met, aimed: whether it reaches must and aim; None if it was not measured.
        note: what else to know.
    """

    name: str
    title: str
    must: str
    aim: str
    unit: str = "share"
    value: float | None = None
    interval: Interval | None = None
    met: bool | None = None
    aimed: bool | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON, rounded to four digits."""
        return {
            "name": self.name,
            "title": self.title,
            "value": None if self.value is None else round(self.value, 4),
            "interval": None if self.interval is None else [round(end, 4) for end in self.interval],
            "unit": self.unit,
            "must": self.must,
            "aim": self.aim,
            "met": self.met,
            "aimed": self.aimed,
            "note": self.note,
        }


def around(value: float, half: float) -> Interval | None:
    """Return the interval of a value and its half width; None if that is infinite."""
    return (value - half, value + half) if math.isfinite(half) else None


def percent(value: float) -> str:
    """Format a share as `97 %`, with three digits at most."""
    return f"{100 * value:.3g} %"


def at_least(value: float | None, must: float, aim: float) -> dict[str, Any]:
    """Return the arguments of a :class:`Criterion` whose value must not be below; None was not measured."""
    met = None if value is None else value >= must - 1e-9
    aimed = None if value is None else value >= aim - 1e-9
    return {"must": f"≥ {percent(must)}", "aim": f"≥ {percent(aim)}", "value": value, "met": met, "aimed": aimed}


def at_most(value: float | None, must: float, aim: float) -> dict[str, Any]:
    """Return the arguments of a :class:`Criterion` whose value must not be above; None was not measured."""
    met = None if value is None else value <= must + 1e-9
    aimed = None if value is None else value <= aim + 1e-9
    return {"must": f"≤ {percent(must)}", "aim": f"≤ {percent(aim)}", "value": value, "met": met, "aimed": aimed}


def measured(criterion: Mapping[str, Any]) -> tuple[str, str]:
    """Format value and interval of a criterion's JSON: `83.1 %`, `81.5 to 84.6 %`; `-` and nothing if not measured."""
    if criterion["value"] is None:
        return "-", ""
    if criterion["unit"] == "xfail":
        return f"{criterion['value']:g} xfail", ""
    unit, sign = {"share": (" %", ""), "points": (" points", "+")}[criterion["unit"]]
    value = f"{100 * criterion['value']:{sign}.1f}{unit}"
    if criterion["interval"] is None:
        return value, ""
    low, high = (f"{100 * end:{sign}.1f}" for end in criterion["interval"])
    return value, f"{low} to {high}{unit}"
