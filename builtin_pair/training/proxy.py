"""A small pair trained from nothing in minutes: easy questions of two families, to compare ways of pretraining.

What style and size do shows only in pretraining, and pretraining the pair anew for each would take hours. The proxy has
the pair's tokenizer, templates, levels of detail and fine-tunings, but only chains and lists of levels 1 and 2, and no
tools: its numbers tell ways of pretraining apart and are not the pair's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from tokenizers import Tokenizer

from builtin_pair.training import export, loop, mixtures, recipe
from builtin_pair.training.data import Encoded, Mixture, Part, encode, grouped
from builtin_pair.training.documents import question_turns
from builtin_pair.training.export import State
from builtin_pair.training.render import TrainingDialogue
from dami_agent.tasks.questions import question
from dami_agent.tasks.task import Question

FAMILIES = ("chain", "list")
LEVELS = (1, 2)

_HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}
SHAPES: Mapping[str, Mapping[str, Any]] = {
    "0.6 M": {"hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 5, **_HEADS},
    "1.2 M": {"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 6, **_HEADS},
    "2.4 M": {"hidden_size": 160, "intermediate_size": 448, "num_hidden_layers": 8, **_HEADS},
}
"""Parameters -> architecture."""

PRETRAINED = 5_000_000
"""Tokens."""

LIMIT = 256
"""Tokens of a reply at most; the longest right ones have about 150."""

TUNED = 12
"""Each fine-tuning takes one token for so many of pretraining."""

_PRETRAIN = loop.TrainingConfig(total=PRETRAINED, tokens=2048, pool_size=1200, lr=3e-3, muon_lr=0.015, warmup=50)


@dataclass(frozen=True)
class Proxy:
    """How a proxy is trained: its size, and whether its level of detail is graded or all or nothing."""

    size: str = "1.2 M"
    graded: bool = True


class _ProxyRun(loop.TrainingRun):
    """A run on easy questions alone."""

    def groups(self, number: int) -> list[list[Encoded]]:
        """Pool `number` as batches."""
        rng, parts = Random(f"proxy:{self.config.seed}:{number}"), self.mixture(self.pool_progress(number))
        chosen = rng.choices(parts, [part.weight for part in parts], k=self.config.pool_size)
        return grouped(encode(self.tokenizer, [draw_document(rng, part) for part in chosen]), tokens=self.config.tokens)


def draw_document(rng: Random, part: Part) -> TrainingDialogue:
    """Draw one question with its worked answer, as the mixture's part wants it."""
    item = draw_train_question(rng)
    return TrainingDialogue(
        question_turns(item, part.template, rng.uniform(part.low, part.high)), template=part.template
    )


def draw_train_question(rng: Random) -> Question:
    """Draw a question of the training split from the families that the proxy learns."""
    while True:
        item = question(rng, rng.choice(FAMILIES), rng.choice(LEVELS))
        if item.split == "train":
            return item


def mixture(stage: recipe.Stage, replay: float, *, graded: bool) -> Mixture:
    """Return the questions of a stage's mixture; unless `graded`, the base's have no working or all of it."""
    base = _shares(mixtures.LAST)
    if not graded:
        base = tuple(each for part in base for each in _ends(part))
    if stage == "base":
        return base
    own = _shares(mixtures.INSTRUCT if stage == "instruct" else mixtures.THINKING)
    return (*_scaled(own, 1 - replay), *_scaled(base, replay))


def _shares(parts: Mixture) -> Mixture:
    chosen = tuple(part for part in parts if part.family == "question")
    return _scaled(chosen, 1 / sum(part.weight for part in chosen))


def _scaled(parts: Mixture, factor: float) -> Mixture:
    return tuple(replace(part, weight=part.weight * factor) for part in parts)


def _ends(part: Part) -> Mixture:
    if part.template == "instruct":
        return (part,)
    return tuple(replace(part, weight=part.weight / 2, low=style, high=style) for style in (part.low, part.high))


def config(stage: recipe.Stage, changes: recipe.Changes) -> loop.TrainingConfig:
    """Return the config of one stage; `changes.total` is tokens of the pretraining."""
    total = changes.total or PRETRAINED
    if stage == "base":
        return replace(_PRETRAIN, total=total, seed=10 * changes.seed, compile=changes.compile)
    return replace(recipe.config(stage, replace(changes, total=total // TUNED)), tokens=4096)


def train(
    proxy: Proxy, tokenizer: Tokenizer, folder: Path, replay: float, changes: recipe.Changes
) -> dict[recipe.Stage, State]:
    """Pretrain a base, then tune Instruct and Thinking from it; resumes. Returns all three.

    Args:
        proxy: size, and whether the level of detail is graded.
        tokenizer: the pair's.
        folder: folder of the runs.
        replay: share of base-style documents in the fine-tunings.
        changes: what the command line changes.
    """
    states: dict[recipe.Stage, State] = {}
    stages: tuple[recipe.Stage, ...] = ("base", "instruct", "thinking")
    for stage in stages:
        model = export.fresh(tokenizer, changes.seed, SHAPES[proxy.size])
        if "base" in states:
            model.load_state_dict(dict(states["base"]))
        parts = mixture(stage, replay, graded=proxy.graded)
        loop.train(_ProxyRun(model, tokenizer, partial(_always, parts), config(stage, changes), folder / stage))
        states[stage] = {name: value.detach().clone() for name, value in model.state_dict().items()}
    return states


def _always(parts: Mixture, _progress: float) -> Mixture:
    return parts
