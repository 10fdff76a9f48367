"""Say what every row of the benchmark must reach and aims at, and put what was measured into a row."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["aim", "must", "missed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """Bounds the ratio of one row.

    Attributes:
        name: of the row.
        unit: of ours and the reference.
        quotient: what the ratio is.
        bound: whether the ratio must be at most or at least so much.
        must: what it has to reach.
        aim: what it is meant to reach.
        shape: of the random pair that the bounds hold for; None: of any pair.
    """

    name: str
    unit: str
    quotient: Literal["ours / reference", "reference / ours"]
    bound: Literal["at most", "at least"]
    must: float
    aim: float
    shape: str | None = None

    def ratio(self, ours: float, reference: float) -> float:
        """Return the quotient that the bounds are of."""
        return ours / reference if self.quotient == "ours / reference" else reference / ours

    def verdict(self, ratio: float, shape: str | None) -> Verdict | None:
        """Judge a ratio; None where the bounds are for another pair.

        Args:
            ratio: as measured.
            shape: of the random pair that was measured, or None.
        """
        if self.shape not in (None, shape):
            return None
        for bound, met in ((self.aim, "aim"), (self.must, "must")):
            if ratio <= bound if self.bound == "at most" else ratio >= bound:
                return met  # type: ignore[return-value]
        return "missed"


def _time(name: str, bound: Literal["at most", "at least"], must: float, aim: float, **fields: Any) -> Goal:
    """Bound a row of seconds: at most so much of the reference's, or at least so many times faster."""
    quotient: Any = "ours / reference" if bound == "at most" else "reference / ours"
    return Goal(name=name, quotient=quotient, bound=bound, must=must, aim=aim, **{"unit": "s", **fields})


def _rate(name: str, must: float, aim: float) -> Goal:
    """Bound a row of output tokens a second: at least so many times the reference's."""
    return Goal(name=name, unit="tokens/s", quotient="ours / reference", bound="at least", must=must, aim=aim)


GOALS = {
    goal.name: goal
    for goal in (
        _time("switch_floor", "at most", 1.5, 1.15),
        _time("switch_vs_reload", "at least", 100, 1000),
        _rate("decode_single", 1.0, 1.3),
        _rate("batch_one_lambda", 1.0, 1.5),
        _rate("batch_many_lambda", 2.0, 4.0),
        _time("mixed_overhead", "at most", 2.2, 2.05, unit="s/token"),
        _time("prefix_reuse", "at least", 3, 5),
        _time("overhead", "at most", 0.05, 0.02, unit="s/step", shape="0.6b"),
        _time("ttft_tail", "at most", 4, 2),
    )
}
"""All rows by name, in the order in which they are shown."""


def row(pair: str, name: str, ours: float, reference: float, note: str) -> dict[str, Any]:
    """Make the JSON of a row; its ratio is the quotient of the two numbers as they are printed."""
    goal = GOALS[name]
    ours, reference = _significant(ours), _significant(reference)
    ratio = _significant(goal.ratio(ours, reference))
    return {
        "pair": pair,
        "name": name,
        "ours": ours,
        "reference": reference,
        "ratio": ratio,
        "unit": goal.unit,
        "note": note,
    }


def judged(rows: list[dict[str, Any]], shape: str | None) -> list[dict[str, Any]]:
    """Return what each row was to reach and whether it did, as JSON."""
    found = []
    for each in rows:
        goal = GOALS[each["name"]]
        found.append(asdict(goal) | {"met": goal.verdict(each["ratio"], shape)})
    return found


def _significant(value: float) -> float:
    """Round to five significant digits."""
    return float(f"{value:.5g}")
