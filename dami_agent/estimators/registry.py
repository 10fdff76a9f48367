"""Look estimators up by name, for ``estimator: NAME`` in a policy and ``ChatDAMI(estimator="NAME")``.

A process registers its own, which go before others of their name::

    from dami_agent.estimators import register_estimator

    register_estimator("length", LengthEstimator)

A distribution publishes them as entry points of the group ``dami_agent.estimators`` (:mod:`dami_agent.plugins`). An
estimator is made when it is first asked for, once per process; all models share it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from dami_agent.errors import InvalidRequest
from dami_agent.estimators.auto import AutoEstimator
from dami_agent.estimators.confidence import ConfidenceEstimator
from dami_agent.estimators.entropy import EntropyEstimator
from dami_agent.estimators.joint import JointEstimator
from dami_agent.estimators.preference import PreferenceEstimator
from dami_agent.estimators.router import RouterEstimator
from dami_agent.estimators.staged import StagedEstimator
from dami_agent.plugins import Plugin, find_plugin, plugin_names, unknown_name
from dami_agent.types import Estimator

Make = Callable[[], Estimator]

_BUILT_IN: dict[str, Make] = {
    "auto": AutoEstimator,
    "confidence": ConfidenceEstimator,
    "entropy": EntropyEstimator,
    "joint": JointEstimator,
    "preference": PreferenceEstimator,
    "router": RouterEstimator,
    "staged": StagedEstimator,
}
_makers: dict[str, Make] = dict(_BUILT_IN)
_made: dict[str, Estimator] = {}
_HINT_ESTIMATOR = "an estimator has a name and estimate(prompt, decision, engine)"
_lock = threading.RLock()  # an estimator's own maker may ask for another by name


def register_estimator(name: str, make: Make, *, replace: bool = False) -> None:
    """Let policies and models ask for an estimator by name.

    Args:
        name: as policies write it; goes before one that a distribution publishes.
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


def unregister_estimator(name: str) -> None:
    """Forget what was registered under a name; what is built in or published under it is found again."""
    with _lock:
        _makers.pop(name, None)
        _made.pop(name, None)
        if name in _BUILT_IN:
            _makers[name] = _BUILT_IN[name]


def estimator_named(name: str) -> Estimator:
    """Return the estimator of this name; the same object at every call.

    Raises:
        InvalidRequest: there is none, what made it made something else, or the distribution that publishes it is
            broken or takes the name of another.
    """
    with _lock:
        if name not in _made:
            _made[name] = _make(name)
        return _made[name]


def estimator_names() -> list[str]:
    """List all names that are built in, registered, or published by an installed distribution, sorted."""
    with _lock:
        return sorted({*_makers, *plugin_names("estimator")})


def _make(name: str) -> Estimator:
    maker = _makers.get(name)
    if maker is None or maker is _BUILT_IN.get(name):
        plugin = find_plugin("estimator", name, built_in=_BUILT_IN)
        if plugin is not None:
            return _make_published(plugin)
    if maker is None:
        raise unknown_name(
            "estimator",
            name,
            estimator_names(),
            hint="; dami_agent.estimators.register_estimator adds others, and so does a distribution's entry point",
        )
    made = maker()
    if not isinstance(made, Estimator):
        raise InvalidRequest(
            f"what is registered as the estimator {name!r} made a {type(made).__name__}", hint=_HINT_ESTIMATOR
        )
    return made


def _make_published(plugin: Plugin) -> Estimator:
    maker = plugin.load()
    if not callable(maker):
        raise plugin.refuse(
            f"is of type {type(maker).__name__} and cannot be called",
            hint="the entry point names the estimator's class, or a function that makes one",
        )
    try:
        made = maker()
    except Exception as error:
        raise plugin.refuse(
            f"cannot be made: {type(error).__name__}: {error}", hint="it is called without arguments; tell its authors"
        ) from error
    if not isinstance(made, Estimator):
        raise plugin.refuse(f"made an object of type {type(made).__name__}", hint=_HINT_ESTIMATOR)
    return made
