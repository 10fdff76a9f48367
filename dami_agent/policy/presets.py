"""Provide policies by name: without numbers of one pair, with efforts, which each pair's frontier turns into λs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dami_agent.errors import InvalidPolicy
from dami_agent.policy.fields import close_match
from dami_agent.policy.policy_file import read_dict
from dami_agent.policy.rules import PolicyText

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # The estimator one notch cheaper, never above medium effort.
    "frugal": {"accuracy_over_cost": 0.35, "default": {"intensity": ["none", "medium"]}},
    # The estimator as it is; a broken call is tried once more with more thought.
    "balanced": {"escalation": {"max_attempts": 2, "on": ["invalid_tool_call", "schema_failure", "tool_error"]}},
    # At least low effort, a notch deeper than estimated; two more tries.
    "thorough": {
        "accuracy_over_cost": 0.75,
        "default": {"intensity": ["low", "max"]},
        "escalation": {"max_attempts": 3, "on": ["invalid_tool_call", "schema_failure", "tool_error"]},
    },
}
"""The presets, as a policy file would say them."""


def read_preset(name: str) -> PolicyText:
    """Read the preset of this name.

    Raises:
        InvalidPolicy: there is none.
    """
    if name not in PRESETS:
        raise InvalidPolicy(
            f"no policy preset is named {name!r}",
            hint=f"{close_match(name, list(PRESETS))} (a file needs its .yaml, .yml or .toml ending)",
        )
    return read_dict({"name": name, **PRESETS[name]}, source=f"preset {name}")
