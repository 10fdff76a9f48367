"""Estimators by name, for ``estimator: NAME`` in a policy and ``ChatDAMI(estimator="NAME")``.

::

    from dami_agent.estimators import register_estimator

    register_estimator("length", LengthEstimator)

An estimator is made when it is first asked for, once per process; all models share it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from dami_agent.errors import InvalidRequest
from dami_agent.estimators.confidence import ConfidenceEstimator
from dami_agent.types import Estimator

Make = Callable[[], Estimator]

_makers: dict[str, Make] = {"confidence": ConfidenceEstimator}
_made: dict[str, Estimator] = {}
_lock = threading.RLock()  # an estimator's own maker may ask for another by name


def register_estimator(name: str, make: Make, *, replace: bool = False) -> None:
    """Let policies and models ask for an estimator by name.

    Args:
        name: as policies say it.
        make: called without arguments at first use: a class, or a function that makes one with the settings it needs.
        replace: allow a name that is taken; models opened before keep what they have.

    Raises:
        InvalidRequest: the name is empty, or taken by another.
    """
    if not isinstance(name, str) or not name.strip():
        raise InvalidRequest(f"an estimator's name must be a text, got {name!r}")
    if not callable(make):
        raise InvalidRequest(
            f"estimator {name!r}: {make!r} cannot be called", hint="give its class, or lambda: the_estimator"
        )
    with _lock:
        if name in _makers and _makers[name] is not make and not replace:
            raise InvalidRequest(f"an estimator named {name!r} is registered already", hint="replace=True replaces it")
        _makers[name] = make
        _made.pop(name, None)


def estimator_named(name: str) -> Estimator:
    """The estimator of this name; the same object at every call.

    Raises:
        InvalidRequest: there is none, or its maker made something else.
    """
    with _lock:
        if name not in _makers:
            raise InvalidRequest(
                f"no estimator is named {name!r}",
                hint=f"known: {', '.join(estimator_names())}; dami_agent.estimators.register_estimator adds others",
            )
        if name not in _made:
            made = _makers[name]()
            if not isinstance(made, Estimator):
                raise InvalidRequest(
                    f"what is registered as the estimator {name!r} made a {type(made).__name__}",
                    hint="an estimator has a name and estimate(prompt, decision, engine)",
                )
            _made[name] = made
        return _made[name]


def estimator_names() -> list[str]:
    """All names that are registered, sorted."""
    with _lock:
        return sorted(_makers)
