"""Find engines and estimators that installed distributions publish as entry points; errors name the distribution.

A distribution publishes them in its ``pyproject.toml``::

    [project.entry-points."dami_agent.engines"]
    toy = "toy_package:ToyEngine"

    [project.entry-points."dami_agent.estimators"]
    length = "toy_package:LengthEstimator"

Names are looked up when they are asked for, so one broken distribution harms nobody who does not use it.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from dami_agent.errors import InvalidRequest

__all__ = ["Plugin", "find_plugin", "plugin_names", "unknown_name"]

Kind = Literal["engine", "estimator"]

_OWN = "dami-agent"


@dataclass(frozen=True, slots=True)
class Plugin:
    """One entry point of another distribution: not imported before :meth:`load`."""

    kind: Kind
    entry: EntryPoint

    def __str__(self) -> str:
        """Name it as errors do, with the distribution that it comes from."""
        return (
            f"the {self.kind} {self.entry.name!r} ({self.entry.value}) of the distribution {_distribution(self.entry)}"
        )

    def load(self) -> Any:
        """Import what the entry point names.

        Raises:
            InvalidRequest: it cannot be imported, or its module has no such attribute.
        """
        try:
            return self.entry.load()
        except Exception as error:
            raise InvalidRequest(
                f"{self} cannot be imported: {type(error).__name__}: {error}",
                hint=f"install what it needs, report it to its authors, or uninstall {_distribution(self.entry)}",
            ) from error

    def refuse(self, problem: str, *, hint: str) -> InvalidRequest:
        """Return the error for a plugin that was imported and is not what its group is for."""
        return InvalidRequest(f"{self} {problem}", hint=hint)


def find_plugin(kind: Kind, name: str, *, built_in: Collection[str]) -> Plugin | None:
    """Look up the one distribution that publishes ``name``; None where no distribution does.

    Raises:
        InvalidRequest: two distributions publish it, or one publishes the name of a built-in one.
    """
    entries = [entry for entry in _published(kind) if entry.name == name]
    if entries and name in built_in:
        raise InvalidRequest(
            f"{Plugin(kind, entries[0])} has the name of a built-in {kind}",
            hint=f"have its authors rename the entry point, or uninstall {_distribution(entries[0])}",
        )
    if len(entries) > 1:
        raise InvalidRequest(
            f"two distributions publish the {kind} {name!r}: {', '.join(sorted(_distribution(e) for e in entries))}",
            hint="uninstall one of them, or have its authors rename the entry point",
        )
    return Plugin(kind, entries[0]) if entries else None


def plugin_names(kind: Kind) -> set[str]:
    """Return the names that other distributions publish."""
    return {entry.name for entry in _published(kind)}


def unknown_name(kind: Kind, name: str, known: Iterable[str], *, hint: str = "") -> InvalidRequest:
    """Return the error for a name that nothing has: it lists those that exist, and the one that was likely meant.

    Args:
        kind: for the message.
        name: as asked for.
        known: names there are.
        hint: added to the hint.
    """
    names = sorted(known)
    close = difflib.get_close_matches(name[:80], names, n=1)
    meant = f"; did you mean {close[0]!r}?" if close else ""
    return InvalidRequest(f"no {kind} is named {name!r}", hint=f"known: {', '.join(names)}{meant}{hint}")


def _published(kind: Kind) -> list[EntryPoint]:
    """List the entry points of other distributions than this one; of one that is listed twice, the first."""
    found: dict[tuple[str, str], EntryPoint] = {}
    for entry in entry_points(group=f"dami_agent.{kind}s"):
        owner = entry.dist.name if entry.dist is not None else ""
        if owner.lower().replace("_", "-") != _OWN:
            found.setdefault((entry.name, owner), entry)
    return list(found.values())


def _distribution(entry: EntryPoint) -> str:
    return "(unknown)" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
