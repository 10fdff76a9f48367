"""Calls that take what earlier calls returned: one to three values through two, four or five hops."""

from __future__ import annotations

from random import Random

from builtin_pair.composed.phrasing import ask
from builtin_pair.composed.tools import (
    LENGTHY,
    Finder,
    Maker,
    bind,
    different,
    distinct,
    finder,
    guessable,
    hops,
    maker,
    plan_of,
    with_fixed,
)
from dami_agent.tasks.task import AgentTask, Split


def composed_chain(rng: Random, split: Split) -> AgentTask:
    """Tools in a row, each called on what the one before said of every value; the answer is what the last ones say."""
    while True:
        task = _draw(rng, split)
        if task is not None:
            return task


def _draw(rng: Random, split: Split) -> AgentTask | None:
    tools, kinds, count = _way(rng, split)
    found = hops(rng, split, kinds, count)
    if found is None or not distinct(different(tools)):
        return None
    plan = plan_of(tools, found)
    prompt = ask(rng, [each.finds for each in tools], [each.name for each in tools], found[0])
    prompt = with_fixed(rng, prompt, tools)
    if guessable(prompt, plan):
        return None
    answers = tuple(call.result for call in plan[-count:])
    return bind(rng, split, AgentTask("novel", "composed_chain", prompt, (), plan, answers), tools)


_WAYS = {
    ("ab", "xyz"): 66,
    ("aa", "xxx"): 8,
    ("aaaa", "xxxxx"): 5,
    ("aaaaa", "xxxxxx"): 5,
    ("aaab", "xxxxy"): 2,
    ("aabc", "xxxyz"): 3,
    ("abbc", "xyyyz"): 2,
    ("abab", "xyxyx"): 3,
    ("abcd", "xyzvw"): 4,
    ("aabcd", "xxxyzv"): 2,
}
"""The tool of each hop and the kind of value before, between and after hops -> how often.

Never three hops: that is the length of a chain that training holds back.
"""
_DRAWN = tuple(_WAYS), tuple(_WAYS.values())


def _way(rng: Random, split: Split) -> tuple[list[Finder], list[Maker], int]:
    """Return the tool of each hop, the kinds of value before and after them, and how many values go that way."""
    letters, around = rng.choices(*_DRAWN)[0]
    two = letters == "ab"
    drawn = {letter: maker(rng) for letter in dict.fromkeys(around)}
    kinds = [drawn[letter] for letter in around]
    tools: dict[str, Finder] = {}
    for letter, takes in zip(letters, kinds, strict=False):
        if letter not in tools:
            tools[letter] = finder(rng, split, takes, more=two and letter == "b" and rng.random() < 0.25)
    lengthy = len(letters) > 4 or not set(LENGTHY).isdisjoint(kinds)
    alone = len(tools) == 1 or (not two and (lengthy or rng.random() < 0.6))
    count = 1 if alone else rng.choices((1, 2, 3), (3, 4, 3))[0] if two else 2
    return [tools[letter] for letter in letters], kinds, count
