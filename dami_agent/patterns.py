"""Search texts with regular expressions of strangers, in bounded time.

Patterns come from policy files and tool schemas, texts from users and models; either may be hostile, and Python's own
``re`` backtracks: ``^(\\w+\\s?)+$`` needs hours for 40 characters and holds the interpreter's lock meanwhile. So a
pattern runs on one of two engines, chosen when it is compiled:

- Rust's ``regex`` (the one pydantic has for ``Field(pattern=...)``): time linear in the text, whatever the pattern. It
  knows Unicode's ``\\w``, ``\\d``, ``\\s``, ``\\b`` and ``\\p{L}``, and no look-around and no back-references.
- The ``regex`` package, for look-around, back-references, ``{1,500}`` and what else the first cannot do or would read
  differently from Python. It backtracks, so a search is given :data:`SECONDS`, with the interpreter's lock released,
  and is undecided after that.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache

import regex
from pydantic_core import SchemaError, SchemaValidator, core_schema

SECONDS = 0.05
"""Processor time that a search may take on the engine that backtracks."""

LONGEST = 10_000
"""Characters of a pattern."""

_MOST_WORK = 10_000
"""Size of a pattern for the linear engine, its counted repetitions written out: milliseconds to compile and to run."""

# The other engine writes the least counts of repetitions out, and takes twice as long to compile for every level that
# repetitions are nested.
_MOST_COPIES = 100_000
_DEEPEST = 8
_LONGEST_BACKTRACKING = 2_000

_COUNTED = re.compile(r"\{(\d+)(,?)(\d*)\}")
_LARGE = re.compile(r"\\[wWdDsSpPbB]|\[\^|\.")  # classes of all of Unicode: thousands of ranges
_REPEATED = re.compile(r"[?*+]")
_LITERAL = re.compile(r"\\.|\[\^?\]?[^\]]*\]", re.DOTALL)
_READ_OTHERWISE = re.compile(r"\[\^?\]?[^\]]*\[|&&|--|~~|\\[<>]|\(\?[a-zA-Z-]*x")  # sets in sets, word starts, verbose


class PatternError(ValueError):
    """A text that is not a regular expression, or one that would be too large to run."""


class Pattern:
    """A compiled regular expression; made by :func:`compile_pattern`, safe to use from many threads.

    Attributes:
        source: the expression.
        linear: whether a search takes time linear in the text; else it is stopped after :data:`SECONDS`.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._linear = _linear(source)
        self._other = _backtracking(source) if self._linear is None else None

    @property
    def linear(self) -> bool:
        """Return whether a search is linear in the text, and so always comes to an end."""
        return self._linear is not None

    def search(self, text: str) -> bool | None:
        """Return whether the pattern is found anywhere in ``text``; None if that was not known in time.

        ``$`` is the end of the text. The caller bounds the text where strangers write it.
        """
        text = text.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate is no character of either engine
        if self._linear is not None:
            return self._linear.isinstance_python(text)
        assert self._other is not None
        try:
            return self._other.search(text, timeout=SECONDS, concurrent=True) is not None
        except (TimeoutError, MemoryError):
            return None


@lru_cache(maxsize=1024)
def compile_pattern(source: str) -> Pattern:
    """Compile a regular expression for searches in bounded time; the same object for the same text.

    Args:
        source: in Python's syntax; ``\\p{...}`` is understood too.

    Raises:
        PatternError: it is not a regular expression, is longer than :data:`LONGEST`, or repeats too much.
    """
    if len(source) > LONGEST:
        raise PatternError(f"a pattern of {len(source)} characters; at most {LONGEST} are allowed")
    return Pattern(source)


def _linear(source: str) -> SchemaValidator | None:
    """Return the engine without backtracking, if it can run this pattern and reads it as Python does."""
    size = len(source) + 60 * len(_LARGE.findall(source)) + 10 * len(_REPEATED.findall(source))
    if size * _product(source, most=True) > _MOST_WORK or _READ_OTHERWISE.search(source):
        return None
    try:
        return SchemaValidator(core_schema.str_schema(pattern=source, strict=True))
    except (SchemaError, UnicodeError):
        return None


def _backtracking(source: str) -> regex.Pattern[str]:
    shown = repr(source if len(source) <= 80 else source[:79] + "…")
    for wrong, why in (
        (len(source) > _LONGEST_BACKTRACKING, f"is longer than {_LONGEST_BACKTRACKING} characters"),
        (_product(source, most=False) > _MOST_COPIES, f"repeats too much: {_MOST_COPIES} copies of one part at most"),
        (_depth(source) > _DEEPEST, f"nests groups too deeply: {_DEEPEST} levels at most"),
    ):
        if wrong:
            raise PatternError(f"{shown} {why}; it would take too long to run")
    try:
        return regex.compile(source, cache_pattern=False)
    except regex.error as error:
        raise PatternError(f"{shown} is not a valid regular expression: {error}") from error
    except Exception as error:  # the library's own faults; whatever a stranger wrote, one kind of error comes out
        raise PatternError(f"{shown} cannot be compiled: {type(error).__name__}: {error}") from error


def _product(source: str, *, most: bool) -> float:
    """Multiply the counts of all ``{...}``, their upper ends or their lower ones: a bound on how far they nest."""
    product = 1.0
    for low, comma, high in _COUNTED.findall(source):
        end = high if most and comma and high else low
        product *= max(1.0, math.inf if len(end) > 9 else float(end or 1))
    return product


def _depth(source: str) -> int:
    """Return how deeply groups are nested."""
    depth = deepest = 0
    for character in _LITERAL.sub("", source):
        depth += (character == "(") - (character == ")")
        deepest = max(deepest, depth)
    return deepest
