"""Resolve a policy from a preset, path, dict or object."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from dami_agent.errors import InvalidPolicy
from dami_agent.policy.fields import shown
from dami_agent.policy.policy import ReasoningPolicy


def read_policy(value: Any) -> ReasoningPolicy | None:
    """Read a policy, or what names one: a preset, a path, a dict.

    Equal dicts (in whatever order their keys stand) make policies of one fingerprint: who shares a
    :class:`~dami_agent.policy.BudgetTracker` spends from the same budgets under them.

    Raises:
        InvalidPolicy: there is no such preset or file, or it does not validate.
    """
    if value is None or isinstance(value, ReasoningPolicy):
        return value
    if isinstance(value, Mapping):
        _require_plain(value)
        return ReasoningPolicy.from_dict(value)
    if not isinstance(value, (str, os.PathLike)):
        raise InvalidPolicy(f"policy={shown(value)}", hint="give a ReasoningPolicy, a preset, a path or a dict")
    path = Path(value)
    try:
        exists = path.exists()
    except (OSError, ValueError):  # no path that could be
        exists = False
    if path.suffix or exists:
        return ReasoningPolicy.from_file(path)
    return ReasoningPolicy.preset(str(value))


def _require_plain(value: Mapping[str, Any]) -> None:
    """Refuse what a file could not hold.

    Raises:
        InvalidPolicy: a value that is neither text, number, list nor dict.
    """
    try:
        json.dumps(value, sort_keys=True, default=_plain)
    except Exception as error:  # of the encoder, or of a class that stands among the values
        raise InvalidPolicy(
            f"a policy given as a dict holds plain values: {shown(error)}",
            hint="strings, numbers, lists and dicts, as in a file; ReasoningPolicy(...) takes others",
        ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in value.model_fields_set}
    if isinstance(value, Mapping):
        return dict(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):  # a Price
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} is not a plain value")
