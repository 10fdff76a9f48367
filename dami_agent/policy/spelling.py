"""Notice misspelt names of tools and nodes in a policy while steps are decided.

A policy may serve several agents, each with tools and nodes of its own, so a name that has not occurred yet is no
mistake as such. It is taken for one if a name occurs that differs from it as misspellings do and that the policy does
not speak of. ``dami policy check`` compares with all names there are.
"""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Iterable, Sequence

from dami_agent.policy.match import Facts
from dami_agent.policy.rules import Rule

_MOST = 4096  # names remembered of each kind: a graph may make up names without end
_LONGEST = 80  # characters compared


class UnknownNameWarning(UserWarning):
    """Warns that a policy names a tool or a node that does not occur, and one with nearly that name does."""


class KnownNames:
    """Holds names of one kind (``tool`` or ``node``): those that a policy speaks of, and those that have occurred.

    Threads may share it: its sets are replaced and never changed, and what a race loses is seen again by the next step.
    """

    def __init__(self, kind: str, named: Iterable[tuple[str, str]]) -> None:
        self._kind = kind
        self._missing: dict[str, str] = {}
        for name, rule in named:
            self._missing.setdefault(name, rule)
        self._named = frozenset(self._missing)
        self._seen: frozenset[str] = frozenset()

    @property
    def seen(self) -> int:
        """Count the names that have occurred, as far as they are kept."""
        return len(self._seen)

    def unknown(self, here: frozenset[str]) -> list[str]:
        """Yield a sentence for each name of the policy that one of ``here`` shows to be misspelt; each is said once."""
        new = here - self._seen
        if not new or not self._missing or len(self._seen) >= _MOST:
            return []
        self._seen |= new
        missing = {name: rule for name, rule in self._missing.items() if name not in here}
        likely = {name: _meant(name, new - self._named) for name in missing}
        self._missing = {name: rule for name, rule in missing.items() if likely[name] is None}
        return [
            f"{rule} in the policy: no {self._kind} {name!r} has occurred; did you mean {likely[name]!r}?"
            for name, rule in missing.items()
            if likely[name] is not None
        ]


def _meant(name: str, others: frozenset[str]) -> str | None:
    """Find of ``others`` the one of which ``name`` is a misspelling: case aside it begins alike and is nearly equal.

    Names that differ in digits alone (``worker_1``, ``worker_2``) are names of different things.
    """
    plain = name[:_LONGEST].casefold()
    alike = {
        other[:_LONGEST].casefold(): other
        for other in sorted(others)
        if other[:1].casefold() == plain[:1] and (other.casefold() == plain or _letters(other) != _letters(name))
    }
    close = difflib.get_close_matches(plain, list(alike), n=1, cutoff=0.8)
    return alike[close[0]] if close else None


def _letters(name: str) -> str:
    return re.sub(r"\d", "", name).casefold()


class Spelling:
    """Warns of the misspelt names of a policy's rules, once each."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        tools = ("digests", "calls", "tools")
        self._tools = KnownNames("tool", ((n, r.name) for r in rules for f in tools for n in getattr(r.when, f) or ()))
        self._nodes = KnownNames("node", ((name, rule.name) for rule in rules for name in rule.when.node or ()))

    def check(self, facts: Facts) -> None:
        """Compare the policy's names with the tools and the node of a step."""
        found = self._tools.unknown(facts.tools.union(facts.digests))
        found += self._nodes.unknown(frozenset((facts.node,) if facts.node else ()))
        for sentence in found:
            warnings.warn(sentence, UnknownNameWarning, stacklevel=4)
