"""``allOf`` of two JSON schemas as one schema, where that can be said exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LIMITS = {
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), min),
}
_ABOUT_OTHERS = {
    "properties": ("additionalProperties", "unevaluatedProperties"),
    "patternProperties": ("additionalProperties", "unevaluatedProperties"),
    "prefixItems": ("items", "unevaluatedItems"),
    "items": ("prefixItems", "unevaluatedItems"),
}
"""A keyword decides which values others beside it are about, so they cannot be taken from two schemas."""


def merge(a: Any, b: Any) -> dict[str, Any] | bool | None:
    """The schema that accepts what both accept, or None if one schema without ``allOf`` cannot say it."""
    if a is False or b is False:
        return False
    if a is True or b is True:
        return merge({} if a is True else a, {} if b is True else b)
    if any(_entangled(x, y, keyword) for keyword in _ABOUT_OTHERS for x, y in ((a, b), (b, a))):
        return None
    result = dict(a)
    for keyword, value in b.items():
        if keyword not in result or result[keyword] == value:
            result[keyword] = value
            continue
        both = _both(keyword, result[keyword], value)
        if both is None:
            return None
        result[keyword] = both
    return result


def _entangled(x: Mapping[str, Any], y: Mapping[str, Any], keyword: str) -> bool:
    """Whether ``keyword`` in ``x`` says something else than it would beside the keywords of ``y``."""
    if keyword not in x or not any(other in y for other in _ABOUT_OTHERS[keyword]):
        return False
    mine, its = x[keyword], y.get(keyword)
    if isinstance(mine, Mapping) and isinstance(its, Mapping) and keyword.endswith("roperties"):
        return not mine.keys() <= its.keys()
    return bool(mine != its)


def _both(keyword: str, a: Any, b: Any) -> Any:
    """One value of ``keyword`` that means both, or None."""
    if keyword in _LIMITS:
        return _LIMITS[keyword](a, b)
    if keyword == "required":
        return [*a, *(name for name in b if name not in a)]
    if keyword == "type":
        return _types(a, b)
    if keyword == "properties":
        merged = dict(a)
        for name, schema in b.items():
            whole = merge(a[name], schema) if name in a else schema
            if whole is None:
                return None
            merged[name] = whole
        return merged
    if keyword == "additionalProperties":
        return merge(a, b)
    return None


def _types(a: str | list[str], b: str | list[str]) -> list[str] | None:
    """Types that both name; an integer is a number. None if there are none."""
    first, second = ([t] if isinstance(t, str) else list(t) for t in (a, b))
    found = [t for t in first if t in second or (t == "integer" and "number" in second)]
    found += [t for t in second if t == "integer" and "number" in first and t not in found]
    return found or None
