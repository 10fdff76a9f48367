from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from dami_agent.runtime.repetition import LoopDetector, LoopRule, ends_in_loop

RULE = LoopRule(min_repeats=4, min_tokens=12, window=64, every=1)


def naive(tokens: list[int], rule: LoopRule) -> bool:
    """Try every period and every length of tail."""
    tail = tokens[-rule.window :]
    for period in range(1, len(tail) + 1):
        length = period
        while length < len(tail) and tail[-1 - length] == tail[-1 - length + period]:
            length += 1
        if length >= rule.min_tokens and length >= rule.min_repeats * period:
            return True
    return False


@given(
    st.lists(st.integers(0, 2), max_size=20), st.lists(st.integers(0, 2), min_size=1, max_size=9), st.integers(0, 60)
)
def test_equals_trying_everything(head: list[int], cycle: list[int], n: int) -> None:
    tokens = head + (cycle * 60)[:n]
    assert ends_in_loop(tokens, RULE) == naive(tokens, RULE)


@given(st.lists(st.integers(0, 1), max_size=80))
def test_equals_trying_everything_on_noise(tokens: list[int]) -> None:
    assert ends_in_loop(tokens, RULE) == naive(tokens, RULE)


def test_the_default_rule_lets_honest_repetition_through() -> None:
    rule = LoopRule()
    rng = random.Random(1)
    row = [3, 4, 5, 6, 7, 8, 9, 10]
    table = [t for i in range(200) for t in [*row, 100 + i]]  # rows that differ in one cell
    assert not any(map(LoopDetector(rule).push, table))
    assert not any(map(LoopDetector(rule).push, [7] * 90))  # a long line of dots
    assert not any(map(LoopDetector(rule).push, (rng.randrange(3) for _ in range(5000))))
    assert any(map(LoopDetector(rule).push, [7] * 96))
    sentence = list(range(100))
    assert any(map(LoopDetector(rule).push, sentence * 20))  # a whole paragraph, again and again
    assert not any(map(LoopDetector(rule.scaled(4)).push, sentence * 20))
