"""What each stage trains on and for how long: the numbers of the recipe, in one place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from builtin_pair.training import export, mixtures
from builtin_pair.training import tokenizer as tokens
from builtin_pair.training.loop import MixtureAt, TrainingConfig

Stage = Literal["base", "finish", "instruct", "thinking"]

REPLAY = 0.12
"""Share of base-style documents in both fine-tunings: without it the path is lower and less even."""

_TUNE = TrainingConfig(total=1_200_000, tokens=8192, pool_size=1200, muon=False, lr=6e-4, warmup=10, weight_decay=0.0)

CONFIGS: dict[Stage, TrainingConfig] = {
    "base": TrainingConfig(
        total=134_000_000, muon_lr=0.015, decay_start=1.0, copy_start=0.4, copy_until=0.08, copy_tail=0.06
    ),
    "finish": TrainingConfig(
        total=17_000_000, muon_lr=0.015, warmup=50, copy_start=0.2, copy_until=1.0, mistake_share=0.03
    ),
    "instruct": _TUNE,
    "thinking": replace(_TUNE, mistake_share=0.06),
}
"""`base` keeps its rate constant, so that it can be prolonged; `finish` takes it to zero."""

GPU_TOKENS = 32_768
"""Padded tokens of a batch on a GPU, in `base` and `finish`: larger batches of which a step costs no more time."""

GPU_MUON_LR = 0.02
"""Muon's rate for those batches."""

GPU_TIMES = 5
"""How many times as much `base` and `finish` train on a GPU, which takes them hundreds of times faster."""

_SEEDS: dict[Stage, int] = {"base": 0, "instruct": 1, "thinking": 2, "finish": 3}


@dataclass(frozen=True)
class Changes:
    """What the command line changes of a stage's config; zero or None leaves it."""

    seed: int = 0
    total: int | None = None
    hours: float = 0.0
    lr: float | None = None
    muon_lr: float | None = None
    compile: bool = True


def config(stage: Stage, changes: Changes, *, gpu: bool = False) -> TrainingConfig:
    """Return the config of one stage with the command line's changes."""
    chosen = CONFIGS[stage]
    if gpu and stage in ("base", "finish"):
        total, pool_size = GPU_TIMES * chosen.total, 8 * chosen.pool_size
        chosen = replace(chosen, total=total, tokens=GPU_TOKENS, pool_size=pool_size, muon_lr=GPU_MUON_LR)
    return replace(
        chosen,
        seed=_SEEDS[stage] + 10 * changes.seed,
        total=changes.total or chosen.total,
        hours=changes.hours,
        lr=changes.lr or chosen.lr,
        muon_lr=changes.muon_lr or chosen.muon_lr,
        compile=changes.compile,
    )


def mixture(stage: Stage, replay: float = REPLAY) -> MixtureAt:
    """Return what a stage draws, at a progress in [0, 1]."""
    if stage == "base":
        return mixtures.ramp
    if stage == "finish":
        return lambda _: mixtures.LAST
    own = mixtures.INSTRUCT if stage == "instruct" else mixtures.THINKING
    parts = mixtures.with_replay(own, replay) if replay else own
    return lambda _: parts


def start(pair: Path, seed: int) -> None:
    """Train the tokenizer and write a randomly initialised pair, so that everything else can be built against it."""
    tokenizer = tokens.build(tokens.prose(seed), seed=seed)
    for index, role in enumerate(("base", "instruct", "thinking")):
        export.save(pair / role, role, export.fresh(tokenizer, seed + index % 2).state_dict(), tokenizer)
