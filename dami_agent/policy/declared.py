"""Base the models of a policy on one class, and write their values so that equal policies are written alike."""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator


def canonical(value: Any) -> Any:
    """Turn a policy, or a part of one, into tuples and texts that are equal for equal ones and for no others.

    The order of a mapping's keys says nothing; 1, 1.0 and True differ.
    """
    if isinstance(value, BaseModel):
        return tuple((name, canonical(getattr(value, name))) for name in type(value).model_fields)
    if isinstance(value, Mapping):
        return tuple(sorted((repr(canonical(key)), canonical(each)) for key, each in value.items()))
    if isinstance(value, (list, tuple)):
        return tuple(canonical(each) for each in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return canonical(dataclasses.asdict(value))
    try:
        return written(value)
    except Exception:  # a third-party class whose __repr__ fails
        return type(value).__qualname__


def written(value: object) -> str:
    """Write a value as ``repr`` does, and what can be called by its name, which is the same in every process."""
    return qualified_name(value) if callable(value) else repr(value)


def was_async(found: object) -> bool:
    """Tell whether a user's function that returned this is async; a coroutine is true, whatever it would return."""
    if not inspect.iscoroutine(found):
        return False
    found.close()  # or Python warns that nobody has awaited it
    return True


def qualified_name(function: object) -> str:
    """Return where a function or a callable object's class is defined: ``module.name``."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', '')}.{name}"


class Declared(BaseModel):
    """Bases the models of a policy: frozen, refusing unknown keys, and showing only what was given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    old_keys: ClassVar[Mapping[str, str]] = {}
    """Keys of earlier policy files -> what they are called now."""

    @model_validator(mode="before")
    @classmethod
    def _read_old_keys(cls, given: Any) -> Any:
        """Read keys of earlier policy files for one release, with a warning that says what they are called now."""
        if not isinstance(given, Mapping):
            return given
        for old, new in cls.old_keys.items():
            if old in given and new not in given:
                warnings.warn(f"policies: {old} is called {new} now; write {new}", FutureWarning, stacklevel=2)
                given = {new if key == old else key: value for key, value in given.items()}
        return given

    def __repr__(self) -> str:
        given = {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}
        return f"{type(self).__name__}({', '.join(f'{name}={written(value)}' for name, value in given.items())})"
