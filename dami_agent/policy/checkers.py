"""Let a user's own function judge the replies of a cascade: a callable, or ``module:function`` in a policy file."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import Any, TypeAlias

from dami_agent.errors import CheckFailed, shown
from dami_agent.policy.declared import qualified_name, was_async
from dami_agent.types import Message, Reply, Step

Checker: TypeAlias = Callable[[tuple[Message, ...], Reply], bool]
"""Tells whether a reply to these messages is right; False asks for more λ."""

OWN_KINDS = ("confidence", "agreement")
"""Checks that need no function."""

_NAMED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_CHECKS = "'confidence', 'agreement', 'module:function' or a function of messages and reply"


def read_check(value: Any) -> str | Checker:
    """Validate what a policy says of a check; a function that is named is imported.

    Raises:
        ValueError: it is none, or cannot be imported.
    """
    if isinstance(value, str):
        if value in OWN_KINDS:
            return value
        if not _NAMED.fullmatch(value):
            raise ValueError(f"{value[:80]!r} is no check; expected {_CHECKS}")
        _imported(value)
        return value
    if callable(value):
        return value  # type: ignore[no-any-return]
    raise ValueError(f"{shown(value)} is no check; expected {_CHECKS}")


def passes(check: str | Checker, step: Step, reply: Reply) -> bool:
    """Ask a user's function whether a reply will do.

    Raises:
        CheckFailed: it raised an error, or returned something else than True or False.
    """
    checker = _imported(check) if isinstance(check, str) else check
    name = check if isinstance(check, str) else qualified_name(check)
    hint = "mend the function; where it cannot tell, it may return False, and the cascade goes on"
    try:
        found: object = checker(step.messages, reply)
    except Exception as error:
        said = f"the check {name} of the cascade failed: {type(error).__name__}: {shown(error)}"
        raise CheckFailed(said, hint=hint) from error
    if was_async(found):
        raise CheckFailed(f"the check {name} of the cascade is async", hint="give a function that is not")
    if not isinstance(found, bool):
        raise CheckFailed(f"the check {name} of the cascade returned {shown(found)}, neither True nor False", hint=hint)
    return found


def _imported(name: str) -> Checker:
    module, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:
        told = f"the check {name} cannot be imported: {type(error).__name__}: {error}"
        raise ValueError(f"{told} (is its folder on PYTHONPATH?)") from error
    if not callable(found):
        raise ValueError(f"the check {name} is {shown(found)}, not a function")
    return found  # type: ignore[no-any-return]
