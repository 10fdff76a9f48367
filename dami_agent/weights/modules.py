"""Tell from a tensor's name which kind of module it belongs to and in which layer: what a λ per module goes by.

The names are those of transformers, whose architectures differ in the words and agree in the order: stack, number of
the layer, block, projection. What none of the words is about is ``other``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from dami_agent.types import ModuleKind

_IN_LAYER = re.compile(r"\.(\d+)\.")  # the first number: experts, and blocks in a block, are numbered further on
_NORM = re.compile(r"norm|(?:^|[._])ln(?:[._]|$)")
_EMBEDDING = re.compile(r"embed|(?:^|\.)w[tp]e\.|lm_head")
_IN_BLOCKS: tuple[tuple[ModuleKind, re.Pattern[str]], ...] = (
    ("attention", re.compile(r"attn|attention")),
    ("ffn", re.compile(r"mlp|ffn|feed_?forward|experts|moe|(?:^|\.)fc\d")),  # routers of experts are in an mlp
)


class Place(NamedTuple):
    """Where a tensor stands: the kind of its module, and the layer's number from 0; None: in no layer."""

    kind: ModuleKind
    layer: int | None


def place_of(names: Sequence[str]) -> Place:
    """Find the place of a tensor.

    Args:
        names: all it has in its model. Tied ones (embedding and head) are one tensor; where they would stand in several
            places, it is ``other``.
    """
    places = {_place(name) for name in names}
    return places.pop() if len(places) == 1 else Place("other", None)


def _place(name: str) -> Place:
    found = _IN_LAYER.search(name)
    layer, rest = (None, name) if found is None else (int(found[1]), name[found.end() :])
    if _NORM.search(rest):  # first, for the norms of attention are norms
        return Place("norm", layer)
    if layer is None:
        return Place("embedding" if _EMBEDDING.search(rest) else "other", None)
    return Place(next((kind for kind, words in _IN_BLOCKS if words.search(rest)), "other"), layer)
