"""A policy from what names one, and the same object for the same.

The accounts of a run's budget live in the policy, and LangChain builds models anew for each call
(``configurable_fields``, a policy per run): all of them must find the same accounts.
"""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from dami_agent.errors import InvalidPolicy
from dami_agent.policy import ReasoningPolicy
from dami_agent.policy.rules import shown

_MOST = 4096
"""Policies kept; beyond that the one that was not asked for longest is forgotten, and its accounts with it."""

_kept: OrderedDict[str, ReasoningPolicy] = OrderedDict()
_lock = threading.Lock()  # held while a policy is made, so that two branches of one run never get two


def read_policy(value: Any) -> ReasoningPolicy | None:
    """A policy, or what names one: a preset, a path, a dict.

    A preset, an unchanged file and equal dicts (in whatever order their keys stand) are one policy, so that all who
    name it spend from the same budgets.

    Raises:
        InvalidPolicy: there is no such preset or file, or it does not validate.
    """
    if value is None or isinstance(value, ReasoningPolicy):
        return value
    if isinstance(value, Mapping):
        return _once(f"dict {_canonical(value)}", lambda: ReasoningPolicy.from_dict(value))
    if not isinstance(value, (str, os.PathLike)):
        raise InvalidPolicy(f"policy={shown(value)}", hint="give a ReasoningPolicy, a preset, a path or a dict")
    path = Path(value)
    try:
        changed = path.stat().st_mtime_ns
    except (OSError, ValueError):  # not there, or no path that could be
        changed = 0
    if path.suffix or changed:
        return _once(f"file {path.absolute()} {changed}", lambda: ReasoningPolicy.from_file(path))
    return _once(f"preset {value}", lambda: ReasoningPolicy.preset(str(value)))


def _once(key: str, make: Callable[[], ReasoningPolicy]) -> ReasoningPolicy:
    with _lock:
        if key not in _kept:
            _kept[key] = make()
        _kept.move_to_end(key)
        while len(_kept) > _MOST:
            _kept.popitem(last=False)
        return _kept[key]


def _canonical(value: Mapping[str, Any]) -> str:
    """Equal for equal dicts and for no others: JSON with sorted keys."""
    try:
        return json.dumps(value, sort_keys=True, default=_plain)
    except Exception as error:  # of the encoder, or of a class that stands among the values
        raise InvalidPolicy(
            f"a policy given as a dict holds plain values: {shown(error)}",
            hint="texts, numbers, lists and dicts, as in a file; ReasoningPolicy(...) takes others",
        ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in value.model_fields_set}
    if isinstance(value, Mapping):
        return dict(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):  # a Price
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} is none")
