"""Keep the keys and values of sequences that have ended, for prompts that begin as they did and are read at the same λ.

An agent's next prompt is its last one, the reply to it and what the tools said: most of it has been read before. What
is kept was read at one λ and is lent to prompts that are read at this λ alone: that of the reply (exact), or the one at
which the prompts of all replies are read (shared). A reply that was decoded at another λ than its prompt was read at is
not kept: what a prompt is read as does not depend on what was asked before.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from dami_agent.types import Intensity

__all__ = ["KeyValues", "Prefix", "PrefixCache"]

_BLOCK = 16
"""Prefixes end at multiples of so many tokens: one look-up for each of them finds the longest."""

KeyValues = tuple[tuple[torch.Tensor, torch.Tensor], ...]
"""Keys and values of each layer, [heads, tokens, head dimension]."""


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """Hold one sequence; ``hashes`` are those of its blocks, each of all tokens up to the block's end."""

    intensity: Intensity
    tokens: tuple[int, ...]
    layers: KeyValues
    hashes: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Prefix:
    """Hold the first ``length`` tokens of a prompt as they were read before."""

    layers: KeyValues
    length: int


class PrefixCache:
    """Sequences by their beginnings, the least recently used given up first. Not safe to use from several threads.

    Args:
        most_tokens: positions kept at most; 0 keeps nothing.

    Attributes:
        tokens: positions kept.
    """

    def __init__(self, most_tokens: int) -> None:
        self._most = most_tokens
        self._kept: OrderedDict[int, _Kept] = OrderedDict()  # by id; the last was used last
        # Sequences that begin alike share the hashes of their beginning: each hash has all of them, by λ and by id.
        self._by_hash: dict[int, dict[Intensity, dict[int, _Kept]]] = {}
        self.tokens = 0

    def find(self, intensity: Intensity, tokens: Sequence[int]) -> Prefix | None:
        """Return the longest beginning of a prompt that was read at this λ; never all of it: its end is to be scored.

        Args:
            intensity: λ that the prompt is read at.
            tokens: of its prompt, and of what was decoded after it where it is read once more.
        """
        length, last = self._longest(tokens[:-1]).get(intensity, (0, 0))
        kept = self._beginning_with(last, intensity, tokens[:length]) if length else None
        if kept is None:
            return None
        self._kept.move_to_end(id(kept))
        return Prefix(kept.layers, length)

    def count_reread(self, intensity: Intensity, tokens: Sequence[int]) -> int:
        """Count the tokens of a prompt that :meth:`find` would give at another λ, and does not at this one.

        By their hashes alone: nothing is computed from the number.

        Args:
            intensity, tokens: as for :meth:`find`.
        """
        lengths = {each: length for each, (length, _) in self._longest(tokens[:-1]).items()}
        here = lengths.pop(intensity, 0)
        return max(0, max(lengths.values(), default=0) - here)

    def keep(self, intensity: Intensity, tokens: Sequence[int], copy: Callable[[int], KeyValues]) -> None:
        """Keep what was computed of a sequence, in place of kept sequences that it begins with.

        Args:
            intensity: λ it was computed at.
            tokens: of the sequence; what follows its last whole block is left out.
            copy: gives the keys and values of its first so many tokens, which nobody else changes; called only where
                they are kept.
        """
        hashes = tuple(_hashes(tokens))
        length = len(hashes) * _BLOCK
        if not 0 < length <= self._most or self._beginning_with(hashes[-1], intensity, tokens[:length]):
            return
        kept = _Kept(intensity, tuple(tokens[:length]), copy(length), hashes)
        for value in hashes:
            for older in [each for each in self._alike(value, intensity) if each.hashes[-1] == value]:
                self._drop(older)
        self._kept[id(kept)] = kept
        for value in hashes:
            self._by_hash.setdefault(value, {}).setdefault(intensity, {})[id(kept)] = kept
        self.tokens += length
        self.trim(self._most)

    def trim(self, most_tokens: float) -> None:
        """Give up the least recently used sequences until at most so many positions are kept."""
        while self._kept and self.tokens > most_tokens:
            self._drop(next(iter(self._kept.values())))

    def clear(self) -> None:
        """Give up everything."""
        self.trim(0)

    def _longest(self, tokens: Sequence[int]) -> dict[Intensity, tuple[int, int]]:
        """Return by λ how many of the first tokens are kept, and the hash of these."""
        longest: dict[Intensity, tuple[int, int]] = {}
        for number, value in enumerate(_hashes(tokens), 1):
            if value not in self._by_hash:
                break
            longest.update(dict.fromkeys(self._by_hash[value], (number * _BLOCK, value)))
        return longest

    def _alike(self, value: int, intensity: Intensity) -> list[_Kept]:
        """List the sequences at this λ that have a block of this hash."""
        return list(self._by_hash.get(value, {}).get(intensity, {}).values())

    def _beginning_with(self, value: int, intensity: Intensity, tokens: Sequence[int]) -> _Kept | None:
        """Return a sequence at this λ whose first tokens these are, their hash being ``value``."""
        wanted = tuple(tokens)
        return next((kept for kept in self._alike(value, intensity) if kept.tokens[: len(wanted)] == wanted), None)

    def _drop(self, kept: _Kept) -> None:
        del self._kept[id(kept)]
        self.tokens -= len(kept.tokens)
        for value in set(kept.hashes):
            alike = self._by_hash[value]
            del alike[kept.intensity][id(kept)]
            if not alike[kept.intensity]:
                del alike[kept.intensity]
            if not alike:
                del self._by_hash[value]


def _hashes(tokens: Sequence[int]) -> Iterator[int]:
    """Hash all tokens up to the end of each whole block."""
    value = 0
    for start in range(0, len(tokens) - len(tokens) % _BLOCK, _BLOCK):
        value = hash((value, *tokens[start : start + _BLOCK]))
        yield value
