"""The part of :mod:`dami_agent.dialogue.narrow` that is about numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from dami_agent.dialogue.objects import Empty

NUMBER_BOUND = 10**15


def narrow_number(schema: Mapping[str, Any], path: str, problem: Callable[[str, str], None]) -> dict[str, Any]:
    """A number within finite bounds, an integer where all of them are; raises ``Empty`` if there is none."""
    whole = schema["type"] == "integer"
    step = schema.get("multipleOf")
    if step == 1:
        whole, step = True, None
    low, low_open = _bound(schema, "minimum", "exclusiveMinimum", max)
    high, high_open = _bound(schema, "maximum", "exclusiveMaximum", min)
    if whole:
        return _integer(low, low_open, high, high_open, step, path, problem)
    if step is not None:
        problem(path, "multipleOf")
    if low is None:
        low, low_open = (-NUMBER_BOUND if high is None or high > -NUMBER_BOUND else high * 10), False
    if high is None:
        high, high_open = (NUMBER_BOUND if low < NUMBER_BOUND else low * 10), False
    if low > high or (low == high and (low_open or high_open)):
        raise Empty(path)
    if low == high:
        return {"enum": [low]}
    return {
        "type": "number",
        "exclusiveMinimum" if low_open else "minimum": low,
        "exclusiveMaximum" if high_open else "maximum": high,
    }


def _integer(
    low: float | None,
    low_open: bool,
    high: float | None,
    high_open: bool,
    step: float | None,
    path: str,
    problem: Callable[[str, str], None],
) -> dict[str, Any]:
    first = None if low is None else math.floor(low) + 1 if low_open else math.ceil(low)
    last = None if high is None else math.ceil(high) - 1 if high_open else math.floor(high)
    if first is None:
        first = -NUMBER_BOUND if last is None or last > -NUMBER_BOUND else last * 10
    if last is None:
        last = NUMBER_BOUND if first < NUMBER_BOUND else first * 10
    if first > last:
        raise Empty(path)
    if step is None:
        return {"type": "integer", "minimum": first, "maximum": last}
    if last - first <= 1000:
        values = [v for v in range(first, last + 1) if v % step == 0]
        if not values:
            raise Empty(path)
        return {"enum": values}
    if low is None and high is None and float(step).is_integer() and 2 <= step <= 50:
        return {"type": "integer", "multipleOf": int(step)}
    problem(path, "multipleOf")
    return {"type": "integer", "minimum": first, "maximum": last}


def _bound(
    schema: Mapping[str, Any], closed: str, open_: str, pick: Callable[[float, float], float]
) -> tuple[float | None, bool]:
    """The tighter of an inclusive and an exclusive bound, and whether it is exclusive."""
    a, b = schema.get(closed), schema.get(open_)
    if a is None or b is None:
        return (a, False) if b is None else (b, True)
    return (b, True) if pick(a, b) == b else (a, False)
