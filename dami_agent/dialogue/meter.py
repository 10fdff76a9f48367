"""Counts what a chat template costs while it runs: steps, seconds, and the size of every value before it is made.

Sizes are in characters; a number counts as one, a list or dict as the characters of all that is in it, however often.
Knows nothing of templates' syntax.
"""

from __future__ import annotations

import functools
import re
import sys
import threading
import time
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from contextlib import contextmanager
from typing import Any

MAX_STEPS = 2_000_000  # passes of loops, calls and filters in one rendering
MAX_SECONDS = 10.0  # of the thread's own CPU time
MAX_ITEMS = 1_000_000  # of one list or dict
MAX_BITS = 20_000  # of an integer
MAX_WIDTH = 10_000  # characters that padding, indenting or a format may ask for
LARGEST = 1 << 24  # characters of one value, and 16 times what came in
TOTAL = 1 << 28  # characters made in all, and what a template copies that adds to its text message by message …
MOST = 1 << 31  # … up to this many
_LOOK_AT_CLOCK = 16  # steps between two looks
_PADDING = frozenset({"ljust", "rjust", "center", "zfill", "expandtabs", "to_bytes"})
_WIDTH_FILTERS = frozenset({"center", "indent", "wordwrap", "batch", "slice", "tojson", "round", "truncate"})
_SLOW_FILTERS = frozenset(
    {"urlize", "wordwrap", "striptags", "pprint", "xmlattr"}
)  # regular expressions over the value
_SLOW = 100_000  # characters these are given at most
_WIDE_FORMAT = re.compile(r"\d{5,}|%[^a-zA-Z%]*\*")
_WIDTH_FROM_VALUE = re.compile(r"\{[^{}]*\{")
_DIGITS = re.compile(r"\d+")


class TooMuch(Exception):
    """A template costs more than any chat can."""


class _State(threading.local):
    """What one rendering has used, per thread."""

    steps = 0
    deadline = float("inf")
    largest = LARGEST
    left = TOTAL

    def __init__(self) -> None:
        self.known: dict[int, tuple[Any, int]] = {}


class Meter:
    """The counters of one environment; every thread has its own."""

    def __init__(self) -> None:
        self._state = _State()

    @contextmanager
    def running(self, given: Any) -> Iterator[None]:
        """Start from zero for one rendering of ``given``, whose size decides what is too much."""
        state = self._state
        state.known, state.steps, state.largest, state.left = {}, 0, LARGEST, TOTAL
        state.deadline = time.thread_time() + MAX_SECONDS
        size = self.size(given, limit=1 << 40)
        items = sum(len(v) for v in given.values() if isinstance(v, list)) if isinstance(given, Mapping) else 0
        state.largest, state.left = LARGEST + 16 * size, min(TOTAL + 4 * size * (items + 4), MOST)
        try:
            yield
        finally:
            state.known = {}

    def step(self) -> None:
        """Count one pass of a loop, or one call."""
        state = self._state
        state.steps += 1
        if state.steps > MAX_STEPS:
            raise TooMuch(f"more than {MAX_STEPS:,} steps")
        if state.steps % _LOOK_AT_CLOCK == 0 and time.thread_time() > state.deadline:
            raise TooMuch(f"more than {MAX_SECONDS:g} seconds of computing")

    def fits(self, size: int) -> None:
        """Refuse a value of this size before it is made."""
        if size > self._state.largest:
            raise TooMuch(f"a value of {size:,} characters")

    def size(self, value: Any, limit: int | None = None) -> int:
        """Size of a value; of a list or dict with everything in it, counted as often as it is there.

        Each list and dict is looked at once, so that one whose parts are doubled again and again is seen through.
        """
        if isinstance(value, (str, bytes)):
            return len(value)
        if isinstance(value, int):
            if value.bit_length() > MAX_BITS:
                raise TooMuch(f"an integer of {value.bit_length():,} bits")
            return 1
        if not isinstance(value, (list, tuple, dict, set, frozenset, KeysView, ValuesView, ItemsView)):
            return 1
        state = self._state
        if found := state.known.get(id(value)):
            return found[1]
        if len(value) > MAX_ITEMS:
            raise TooMuch(f"a list of {len(value):,} items")
        total = 1 + sum(self.size(part, limit) for part in value)
        if isinstance(value, dict):
            total += sum(self.size(part, limit) for part in value.values())
        if total > (limit or state.largest):
            raise TooMuch(f"a value of {total:,} characters")
        state.known[id(value)] = value, total
        return total

    def made(self, value: Any) -> Any:
        """Add the size of a new value, with everything in it, to what has been made so far; returns it."""
        self._spend(self.size(value))
        return value

    def holding(self, value: Any) -> Any:
        """Add the number of items of a new list or dict of values that were there already; returns it."""
        self.size(value)
        self._spend(len(value) if isinstance(value, (list, tuple, dict)) else self.size(value))
        return value

    def shown(self, value: Any) -> Any:
        """Count a value that is about to be written as text; returns it."""
        self.fits(self.size(value))
        return value

    def concatenate(self, *parts: Any) -> str:
        """Join values as ``~`` does, and count the text."""
        self.fits(sum(self.size(part) for part in parts))
        text = "".join(map(str, parts))
        self._spend(len(text))
        return text

    def join(self, pieces: Iterable[str]) -> str:
        """Pieces of output as one text; stops as soon as they are too many."""
        kept, total = [], 0
        for piece in pieces:
            total += len(piece)
            self.fits(total)
            kept.append(piece)
        self._spend(total)
        return "".join(kept)

    def _spend(self, size: int) -> None:
        self._state.left -= size
        if self._state.left < 0:
            raise TooMuch("it makes too much text")

    def before_operator(self, operator: str, left: Any, right: Any) -> None:
        """Refuse ``*``, ``**``, ``+`` or ``%`` whose result would be too large."""
        if operator == "**" and isinstance(left, int) and isinstance(right, int):
            if abs(left) > 1 and abs(right) * left.bit_length() > MAX_BITS:
                raise TooMuch("an integer power out of all bounds")
        elif operator == "*":
            for value, count in ((left, right), (right, left)):
                if isinstance(count, int) and not isinstance(value, (int, float)):
                    self.fits(self.size(value) * max(count, 0))
                    if isinstance(value, (list, tuple)) and len(value) * count > MAX_ITEMS:
                        raise TooMuch(f"a list of {len(value) * count:,} items")
        elif operator == "+":
            self.fits(self.size(left) + self.size(right))
        elif operator == "%" and isinstance(left, str):
            self._before_format(left, right if isinstance(right, tuple) else (right,))

    def before_call(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Count a call; refuse a method of text or bytes whose result would be too large."""
        self.step()
        method = getattr(function, "__wrapped__", function)  # jinja2 wraps str.format
        owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
        if not isinstance(owner, (str, bytes, int, float)):
            return
        if name in _PADDING:
            count = owner.count("\t") if name == "expandtabs" and isinstance(owner, str) else 1
            self._before_padding((*args, *kwargs.values()), max(count, 1))
        elif isinstance(owner, str):
            self._before_text(name, owner, args, kwargs)

    def _before_text(self, name: str, owner: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if name == "join" and args:
            self._before_join(owner, args[0])
        elif name == "replace":
            self._before_replace(owner, *args[:2])
        elif name in ("format", "format_map"):
            self._before_format(owner, (*args, *kwargs.values()))
        elif name == "translate" and args and isinstance(args[0], Mapping):
            self.fits(len(owner) * max((self.size(v) for v in args[0].values()), default=1))

    def _before_join(self, glue: Any, items: Any) -> None:
        if isinstance(items, (list, tuple, dict, str)):
            self.fits(self.size(items) + self.size(glue) * len(items))

    def _before_replace(self, text: str, old: Any = None, new: Any = None) -> None:
        if isinstance(old, str) and isinstance(new, str):
            count = text.count(old) if old else len(text) + 1
            self.fits(len(text) + count * max(len(new) - len(old), 0))

    def _before_format(self, form: str, values: Iterable[Any]) -> None:
        values = list(values)
        wide = _WIDE_FORMAT.search(form) is not None
        if not wide and _WIDTH_FROM_VALUE.search(form):
            wide = any(not isinstance(v, (str, int, float)) or v in range(MAX_WIDTH, sys.maxsize) for v in values)
        if wide:
            raise TooMuch("a format of a width out of all bounds")
        widest = max((self.size(v) for v in values), default=1)
        given = max((int(digits) for digits in _DIGITS.findall(form)), default=0)
        self.fits(len(form) + (form.count("%") + form.count("{")) * max(widest, given))

    def _before_padding(self, arguments: Iterable[Any], times: int = 1) -> None:
        """Count padding before it is made: ``times`` is how often, for lines that are indented or tabs expanded."""
        for value in arguments:
            if isinstance(value, int):
                if abs(value) > MAX_WIDTH:
                    raise TooMuch("padding of a width out of all bounds")
                self.fits(abs(value) * times)
            elif isinstance(value, str):
                self.fits(len(value) * times)

    def before_filter(self, name: str, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Count a filter; refuse one whose result would be too large.

        Args:
            name: of the jinja2 filter.
            value: what it is applied to.
            args, kwargs: its arguments.
        """
        self.step()
        if name in _SLOW_FILTERS and self.size(value) > _SLOW:
            raise TooMuch(f"|{name} of {self.size(value):,} characters")
        if name in _WIDTH_FILTERS:
            times = value.count("\n") + 1 if isinstance(value, str) and name == "indent" else 1
            self._before_padding((*args, *kwargs.values()), times)
        if name == "join":
            self._before_join((*args, *kwargs.values(), "")[0], value)
        elif name == "replace" and isinstance(value, str):
            self._before_replace(value, *args[:2])
        elif name == "format" and isinstance(value, str):
            self._before_format(value, (*args, *kwargs.values()))
        elif name in ("string", "tojson", "list", "sum", "escape", "e", "forceescape", "urlencode"):
            size = self.size(value)
            self.fits(size * (6 if name != "sum" else len(value) if isinstance(value, (list, tuple)) else 1))


def measured_filter(meter: Meter, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a jinja2 filter so that its cost is counted and its result measured."""
    takes_context = int(hasattr(function, "jinja_pass_arg"))  # then the environment or context comes first

    @functools.wraps(function)
    def measured(*args: Any, **kwargs: Any) -> Any:
        rest = args[takes_context:]
        if rest and name in ("join", "sum", "list") and not hasattr(rest[0], "__len__"):
            rest = (_all(meter, rest[0]), *rest[1:])  # a generator: measured as the list it becomes
            args = (*args[:takes_context], *rest)
        meter.before_filter(name, rest[0] if rest else None, rest[1:], kwargs)
        return meter.made(function(*args, **kwargs))

    return measured


def _all(meter: Meter, values: Any) -> Any:
    try:
        iterator = iter(values)
    except TypeError:
        return values
    kept: list[Any] = []
    for value in iterator:
        kept.append(value)
        if len(kept) > MAX_ITEMS:
            raise TooMuch(f"a list of more than {MAX_ITEMS:,} items")
        if len(kept) % 1000 == 0:
            meter.step()
    return kept
