"""Remember at which λ the history of a run was read, so that a change of λ can be weighed against reading it again.

A history is known by its tools and messages, not by the moment: steps of a run that go on from the same messages find
the same, whatever runs beside them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from dami_agent.types import Intensity, Step

__all__ = ["Histories", "History"]

MOST_HISTORIES = 10_000
"""Steps remembered; beyond that the one that nothing went on from for longest is forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Holds how the steps that a step goes on from were read, each at the λ of its reply.

    Attributes:
        intensity: λ of the last of them.
        tokens: by λ, of the longest prompt that was read at it.
    """

    intensity: Intensity
    tokens: Mapping[Intensity, int]

    def reread(self, intensity: Intensity) -> int:
        """Count the prompt tokens that a reply at ``intensity`` must read again, and one at the last λ need not."""
        return max(0, self.tokens[self.intensity] - self.tokens.get(intensity, 0))


class Histories:
    """Keeps the histories of runs and threads. The caller holds a lock around each call."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, History] = OrderedDict()

    def before(self, account: str, step: Step) -> History | None:
        """Find the longest history that the step goes on from; None if no step of the account was its beginning."""
        *earlier, _ = _digests(account, step)
        found = next((each for each in reversed(earlier) if each in self._known), None)
        if found is None:
            return None
        self._known.move_to_end(found)
        return self._known[found]

    def note(self, account: str, step: Step, intensity: Intensity, tokens: int) -> None:
        """Remember that a step's prompt of so many tokens was read at ``intensity``."""
        *_, last = _digests(account, step)
        known = self._known.get(last) or self.before(account, step)  # another attempt at it, or what it goes on from
        earlier = {} if known is None else known.tokens
        self._known[last] = History(intensity=intensity, tokens={**earlier, intensity: tokens})
        self._known.move_to_end(last)
        if len(self._known) > MOST_HISTORIES:
            self._known.popitem(last=False)


def _digests(account: str, step: Step) -> Iterator[bytes]:
    """Identify what the step's prompt begins with: account and tools, then up to the end of each message."""
    said = blake2b(repr((account, step.tools)).encode("utf-8", "surrogatepass"), digest_size=16)
    yield said.digest()
    for message in step.messages:
        said.update(repr(message).encode("utf-8", "surrogatepass"))
        yield said.digest()
