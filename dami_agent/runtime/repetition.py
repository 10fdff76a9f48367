"""Telling a repetition that has run away from one that is merely a repetition.

A tail of the output is a *loop* when it is one cycle of tokens written again and again: at least ``min_repeats``
times and over at least ``min_tokens`` tokens. A model that decodes greedily never leaves such a loop. The defaults are
meant to let tables, dotted lines and long numbers through; the answer may repeat itself four times as often as the
thought (:meth:`LoopRule.scaled`), since a document may well be repetitive where reasoning is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["LoopDetector", "LoopRule"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopRule:
    """When a repetition counts as run away.

    Attributes:
        min_repeats: the cycle stands at least this many times in a row.
        min_tokens: and covers at least this many tokens.
        window: longest tail looked at; cycles up to ``window / min_repeats`` tokens are found.
        every: tokens between two looks.
    """

    min_repeats: int = 12
    min_tokens: int = 96
    window: int = 2048
    every: int = 16

    def scaled(self, factor: int) -> LoopRule:
        """Return the rule with ``factor`` times as many repeats and tokens."""
        return LoopRule(
            min_repeats=self.min_repeats * factor,
            min_tokens=self.min_tokens * factor,
            window=self.window * factor,
            every=self.every * factor,
        )


class LoopDetector:
    """Watches one stream of tokens. Costs O(window) every ``every`` tokens."""

    def __init__(self, rule: LoopRule) -> None:
        self._rule = rule
        self._tokens: list[int] = []

    def push(self, token: int) -> bool:
        """Take one token; True when the stream now ends in a loop (looked at every ``every`` tokens)."""
        self._tokens.append(token)
        if len(self._tokens) % self._rule.every:
            return False
        if len(self._tokens) > 2 * self._rule.window:
            del self._tokens[: -self._rule.window]
        return ends_in_loop(self._tokens, self._rule)


def ends_in_loop(tokens: Sequence[int], rule: LoopRule) -> bool:
    """Return whether some tail of ``tokens`` is a loop by ``rule``.

    Knuth-Morris-Pratt's border table of the reversed tail: a prefix of length n with longest border b has the
    smallest period n - b.
    """
    tail = list(tokens[-rule.window :])
    tail.reverse()
    border = [0] * len(tail)
    b = 0
    for i in range(1, len(tail)):
        while b and tail[i] != tail[b]:
            b = border[b - 1]
        if tail[i] == tail[b]:
            b += 1
        border[i] = b
        length = i + 1
        if length >= rule.min_tokens and length >= rule.min_repeats * (length - b):
            return True
    return False
