"""Validate the values of a policy's fields, one type of field each; errors say what is expected instead.

The models in :mod:`rules` are made of these types.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field, PlainValidator, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from dami_agent.errors import InvalidIntensity
from dami_agent.patterns import compile_pattern
from dami_agent.policy.frontier import EFFORTS
from dami_agent.policy.limits import LARGEST_COUNT
from dami_agent.types import Intensity, ModuleIntensity, Price
from dami_agent.types.modules import EXAMPLE
from dami_agent.types.price import misfits

Level: TypeAlias = "float | str"
"""One end of a range of λ: a number in [0, 1] or an effort's name, which the pair's frontier turns into a number."""

Bounds: TypeAlias = "tuple[Level, Level]"


def close_match(word: object, known: list[str]) -> str:
    """Suggest ``did you mean 'x'?``, or list all that is known: the hint beside an unknown name."""
    close = difflib.get_close_matches(str(word)[:80], known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"


def shown(value: object) -> str:
    """Format ``value`` as ``repr`` does, short enough for a message, whatever it is."""
    try:
        text = repr(value)
    except Exception:  # an int of thousands of digits, or a class whose __repr__ fails
        return f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:79]}…"


def _effort(value: Any) -> str:
    if not isinstance(value, str) or value not in EFFORTS:
        raise ValueError(f"unknown effort {shown(value)}; {close_match(value, list(EFFORTS))}")
    return str(value)


def _number(value: Any) -> float:
    number = not isinstance(value, (bool, ModuleIntensity)) and isinstance(value, (int, float))
    if not number or not 0 <= value <= 1:
        raise ValueError(f"{shown(value)} is not a number in [0, 1]")
    return float(value)


def _level(value: Any) -> Level:
    return _effort(value) if isinstance(value, str) else _number(value)


def _one_or_per_module(value: Any) -> Intensity:
    if isinstance(value, ModuleIntensity):
        return value
    if isinstance(value, str) and "=" in value:
        try:
            return Intensity(value)
        except InvalidIntensity as error:
            raise ValueError(f"{error.message}; {error.hint}") from error
    return Intensity(_number(value))


def _answer_intensity(value: Any) -> float:
    given = _one_or_per_module(value)
    return given if isinstance(given, ModuleIntensity) else float(given)


def _intensity(value: Any) -> Intensity | str | Bounds | None:
    if value is None or value == "auto":
        return value  # type: ignore[no-any-return]
    if isinstance(value, str) and "=" not in value:
        raise ValueError(
            f"{shown(value)} is neither a number in [0, 1], 'auto', [low, high] nor {EXAMPLE!r}; names go to effort"
        )
    if not isinstance(value, (list, tuple)):
        return _one_or_per_module(value)
    if len(value) != 2:
        raise ValueError(f"a range is [low, high], got {len(value)} values")
    low, high = _level(value[0]), _level(value[1])
    names = isinstance(low, str) and isinstance(high, str)
    if (EFFORTS.index(low) > EFFORTS.index(high)) if names else (not _mixed(low, high) and low > high):  # type: ignore[operator]
        raise ValueError(f"the range [{low}, {high}] is empty: its low end is above its high end")
    return low, high


def _mixed(low: Level, high: Level) -> bool:
    return isinstance(low, str) != isinstance(high, str)


def _names(value: Any) -> tuple[str, ...]:
    values = (value,) if isinstance(value, str) else value
    if not isinstance(values, (list, tuple)) or not values or not all(isinstance(v, str) and v for v in values):
        raise ValueError("expected a name or a list of names")
    return tuple(values)


def _range(value: Any) -> tuple[int | None, int | None]:
    ends = (value, value) if isinstance(value, int) else value
    if not isinstance(ends, (list, tuple)) or len(ends) != 2 or ends == (None, None):
        raise ValueError("expected a whole number or [low, high], where one end may be null")
    if any(
        e is not None and (isinstance(e, bool) or not isinstance(e, int) or not 0 <= e <= LARGEST_COUNT) for e in ends
    ):
        raise ValueError(f"{shown(value)} is not a whole number of at least 0")
    low, high = ends
    if low is not None and high is not None and low > high:
        raise ValueError(f"the range [{low}, {high}] is empty")
    return low, high


def _pattern(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected a regular expression")
    compile_pattern(value)
    return value


def _metadata(value: Any) -> Any:
    if isinstance(value, Mapping) and any(each != each for each in value.values() if isinstance(each, float)):
        raise ValueError("nan is equal to nothing: the rule would never match")
    return value


def _price(value: Any) -> Price:
    if isinstance(value, Price):
        return value
    if not isinstance(value, Mapping):
        raise ValueError("expected prices, such as {output: 0.6} (per million tokens)")
    if "second" in value and "device_second" not in value:  # its name in earlier policy files
        value = {"device_second" if name == "second" else name: each for name, each in value.items()}
    known = {field.name for field in dataclasses.fields(Price)}
    wrong = [
        InitErrorDetails(
            type=PydanticCustomError("price", "{why}", {"why": why}) if name in known else "extra_forbidden",
            loc=(name,),
            input=value[name],
        )
        for name, why in misfits(value)
    ]
    if wrong:
        raise ValidationError.from_exception_data("Price", wrong)
    return Price(**value)


IntensitySetting = Annotated[Any, PlainValidator(_intensity)]
NameList = Annotated[tuple[str, ...] | None, BeforeValidator(_names)]
CountRange = Annotated[tuple[int | None, int | None] | None, PlainValidator(_range)]
AnswerIntensity = Annotated[float | None, PlainValidator(_answer_intensity)]
Effort = Annotated[str | None, PlainValidator(_effort)]
Pattern = Annotated[str | None, PlainValidator(_pattern)]
Metadata = Annotated[Mapping[str, Any] | None, BeforeValidator(_metadata)]
Count = Annotated[int, Field(strict=True, ge=0, le=LARGEST_COUNT)]
Positive = Annotated[int, Field(strict=True, ge=1, le=LARGEST_COUNT)]
AboveZero = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PriceRates = Annotated[Price, PlainValidator(_price)]
Share = Annotated[float, PlainValidator(_number)]
