"""One stage of the recipe in one process of a group; a module of its own, so that spawned processes can import it."""

from __future__ import annotations

import argparse

import torch

from builtin_pair.training import export, loop, recipe, self_mistakes
from builtin_pair.training import tokenizer as tokens
from builtin_pair.training.parallel import Group


def device(wanted: str, processes: int) -> torch.device:
    """Where a stage trains: `auto` is the GPU when there is one and one process, else the CPU."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() and processes == 1 else "cpu"
    return torch.device(wanted)


def train(options: argparse.Namespace, stage: recipe.Stage, group: Group) -> None:
    """Train from the pair's base (or from nothing, for `base`); the first process writes the result into the pair."""
    changes = recipe.Changes(
        options.seed, options.total, options.hours, options.lr, options.muon_lr, not options.no_compile
    )
    tokenizer = tokens.load(options.pair / "base")
    model = export.fresh(tokenizer, options.seed)
    if stage != "base":
        model.load_state_dict(export.load_state(options.pair / "base"), strict=False)
    recorded = self_mistakes.read(options.self_mistakes) if options.self_mistakes else []
    target = device(options.device, group.size)
    model.to(target)  # type: ignore[arg-type]
    mixture, config = recipe.mixture(stage, options.replay), recipe.config(stage, changes, gpu=target.type == "cuda")
    loop.train(loop.TrainingRun(model, tokenizer, mixture, config, options.run, recorded, group, options.workers))
    if group.rank == 0:
        written = "base" if stage == "finish" else stage
        export.save(options.pair / written, written, model.state_dict(), tokenizer)
