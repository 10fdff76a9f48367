"""Read generation_config.json: its sampling settings checked, its ends of sequence as token ids.

Public checkpoints write an end as an id, as a list of ids, and sometimes as text; a value that only ever means "off"
is understood as such.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dami_agent.errors import CheckpointError

FILE = "generation_config.json"
_NUMBERS = {"temperature": (0.0, math.inf), "top_p": (0.0, 1.0), "min_p": (0.0, 1.0), "repetition_penalty": (0.0, 1e32)}
_COUNTS = {"top_k": 0, "max_new_tokens": 1}  # and their least value
_LARGEST_ID = 2**31


def checked(settings: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Validate the settings that this package reads; ``top_k: -1`` becomes 0, which is off.

    Raises:
        CheckpointError: a value of another type or out of its range, by name.
    """
    found = dict(settings)
    if isinstance(top_k := found.get("top_k"), int) and top_k < 0:
        found["top_k"] = 0
    if not isinstance(found.get("do_sample"), (bool, type(None))):
        raise _wrong(path, "do_sample", found["do_sample"], "true or false")
    if not isinstance(found.get("thought_closing_words"), (str, type(None))):
        raise _wrong(path, "thought_closing_words", found["thought_closing_words"], "a text")
    for name, (low, high) in _NUMBERS.items():
        value = found.get(name)
        if value is None:
            continue
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not low <= value <= high or value in (math.inf, -math.inf):
            raise _wrong(path, name, value, f"a number from {low:g} to {high:g}")
    for name, least in _COUNTS.items():
        value = found.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise _wrong(path, name, value, f"an integer, at least {least}")
    return found


def temperature(settings: Mapping[str, Any]) -> float:
    """Return the default temperature: 0 (greedy) for ``do_sample: false``, and where nothing is said."""
    greedy = not settings.get("do_sample", "temperature" in settings)
    return 0.0 if greedy else settings.get("temperature") or 1.0


def end_ids(
    generation: Mapping[str, Any], config: Mapping[str, Any], folder: Path, vocabulary: Callable[[], Mapping[str, int]]
) -> tuple[int, ...]:
    """Collect the ids of all tokens that end a sequence; a negative id means none.

    Args:
        generation: generation_config.json.
        config: config.json.
        folder: where both lie, for errors.
        vocabulary: gives token → id; called only where an end is given as text.

    Raises:
        CheckpointError: a value that is neither an id nor a token's text, naming file and value.
    """
    ids: list[int] = []
    for file, data in ((FILE, generation), ("config.json", config)):
        for key in ("eos_token_id", "eos_token"):
            value = data.get(key)
            ends = value if isinstance(value, list) else [] if value is None else [value]
            ids += [_id(end, folder / file, key, vocabulary) for end in ends]
    return tuple(dict.fromkeys(i for i in ids if i >= 0))


def _id(end: Any, path: Path, key: str, vocabulary: Callable[[], Mapping[str, int]]) -> int:
    if isinstance(end, Mapping):  # a saved AddedToken
        end = end.get("content")
    if isinstance(end, str):
        if key == "eos_token_id" and end.strip().isdecimal() and len(end) < 12:
            end = int(end)
        elif end in (known := vocabulary()):
            return known[end]
    if isinstance(end, float) and end.is_integer():
        end = int(end)
    if isinstance(end, bool) or not isinstance(end, int) or end >= _LARGEST_ID:
        raise _wrong(path, key, end, "a token id, a token's text, or a list of them")
    return end


def _wrong(path: Path, name: str, value: Any, wanted: str) -> CheckpointError:
    shown = (
        repr(value) if not isinstance(value, int) or abs(value) < 10**20 else f"an integer of {value.bit_length()} bits"
    )
    return CheckpointError(
        f"{path}: {name} is {shown if len(shown) < 80 else shown[:80] + '…'}, {wanted} was expected",
        hint="correct it, or remove the line: then the family's default holds",
    )
