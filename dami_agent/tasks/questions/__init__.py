"""Questions in five families and five levels, seeded, in splits that never share one.

`questions(split, count, seed=)` is the public door; equal arguments give equal questions. With `unseen=` every question
has a template, a name or a length that training never shows; without it, none has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import cycle, islice, repeat
from random import Random

from dami_agent.tasks.questions import chain, lists, lookup, prices, story
from dami_agent.tasks.questions.sizes import LEVELS, UNSEEN, Unseen, level_size, nearest_level, practice_size
from dami_agent.tasks.task import Question, Split, another
from dami_agent.tasks.world import HELD, SEEN, invented_names

_DRAW: Mapping[str, Callable[..., Question]] = {
    "chain": chain.draw,
    "story": story.draw,
    "prices": prices.draw,
    "list": lists.draw,
    "lookup": lookup.draw,
}
FAMILIES = tuple(_DRAW)

INVENTED = 0.6
"""Share of training questions, in families with names, whose names are made up."""

NAMED = ("story", "prices", "lookup")
"""Families with people or things in them: only these can have an unseen name."""

__all__ = ["FAMILIES", "LEVELS", "UNSEEN", "Unseen", "practice", "question", "questions"]


def question(rng: Random, family: str, level: int, unseen: Unseen | None = None) -> Question:
    """Draw one question; which split it falls into is decided by its text.

    Args:
        rng: the random stream.
        family: family of documents or questions.
        level: 1 (easiest) to 5.
        unseen: what training never shows of it; None for nothing.
    """
    return _DRAW[family](rng, level, level_size(family, level, unseen), unseen, HELD if unseen == "name" else SEEN)


def practice(rng: Random, family: str) -> Question:
    """One question for training: half of them as the levels have them, half with lengths and numbers beyond.

    In most of them people and things have made-up names, so that names are copied and not known by heart.
    """
    names = invented_names(rng) if family in NAMED and rng.random() < INVENTED else SEEN
    if rng.random() < 0.5:
        level = rng.choice(LEVELS)
        return _DRAW[family](rng, level, level_size(family, level), None, names)
    size = practice_size(rng)
    modules = {"prices": prices.practice, "list": lists.practice, "lookup": lookup.practice}
    if family in modules:
        return modules[family](rng, size, names)
    return _DRAW[family](rng, nearest_level(size), size, None, names)


def questions(
    split: Split,
    count: int,
    *,
    seed: int = 0,
    families: tuple[str, ...] = FAMILIES,
    levels: tuple[int, ...] = LEVELS,
    unseen: Unseen | None = None,
) -> list[Question]:
    """Draw `count` different questions of one split, families and levels in turn.

    A question that was there already is drawn anew at its place, so every family has as many at every level.

    Args:
        split: the split that everything drawn belongs to.
        count: how many.
        seed: equal seeds draw the same.
        families: families, in turn.
        levels: levels, in turn.
        unseen: what training never shows of it; None for nothing.

    Raises:
        UsageError: there are fewer; level 1 is small.
    """
    rng = Random(f"questions:{split}:{seed}:{unseen or ''}")
    kinds = _kinds(families, levels, unseen)
    found: dict[str, Question] = {}
    for family, level in islice(cycle(kinds), count):
        own = (_of_split(rng, family, level, unseen, split) for _ in repeat(None))
        item = another(own, found, f"the {split} split", f"questions of {family} at level {level}")
        found[item.prompt] = item
    return list(found.values())


def _kinds(families: tuple[str, ...], levels: tuple[int, ...], unseen: Unseen | None) -> list[tuple[str, int]]:
    chosen = [family for family in families if unseen != "name" or family in NAMED]
    return [(family, level) for level in levels for family in chosen]


def _of_split(rng: Random, family: str, level: int, unseen: Unseen | None, split: Split) -> Question:
    item = question(rng, family, level, unseen)
    while item.split != split:
        item = question(rng, family, level, unseen)
    return item
