"""What each stage trains on and for how long: the numbers of the recipe, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from dami_agent.training import data, export
from dami_agent.training import tokenizer as tokens
from dami_agent.training.data import Mixture, Part
from dami_agent.training.loop import Plan

BASE = Plan(total=90_000_000, copy_start=0.4, copy_until=0.08, copy_tail=0.06, final=0.05)
MORE = Plan(total=40_000_000, copy_start=0.02, copy_until=1.0, matrix_rate=0.012, rate=2e-3, warmup=50, final=0.02)
"""The second half of the base: mostly arithmetic, since tools are learned first and arithmetic last."""

TUNE = Plan(total=700_000, pool_size=1200, muon=False, rate=6e-4, warmup=10, decay=0.0)

_REPLAY = 0.12
"""Share of base-style documents in both fine-tunings: without it the middle of the path dips and stops finishing."""


def _with_replay(parts: Mixture) -> Mixture:
    own, base = sum(part.weight for part in parts), sum(part.weight for part in data.MIXTURES["arithmetic"])
    scale = own / base * _REPLAY / (1 - _REPLAY)
    return parts + tuple(replace(part, weight=part.weight * scale) for part in data.MIXTURES["arithmetic"])


MIXTURES: Mapping[str, Mixture] = {
    "base": data.MIXTURES["base"],
    "more": data.MIXTURES["arithmetic"],
    "instruct": _with_replay(
        (
            Part("question", "instruct", 3.0),
            Part("question", "thinking", 0.5, 0.0, 0.0),
            Part("route", "instruct", 0.8),
            Part("work", "instruct", 0.6),
            Part("route", "thinking", 0.15, 0.0, 0.0),
            Part("novel", "instruct", 1.5),
            Part("novel", "thinking", 0.2, 0.0, 0.0),
            Part("plain", "instruct", 0.4),
            Part("plain", "thinking", 0.1, 0.0, 0.0),
            Part("plain", "thinking", 0.1),
            Part("chat", "instruct", 0.3),
            Part("writing", "instruct", 0.2),
        )
    ),
    "thinking": _with_replay(
        (
            Part("question", "thinking", 3.0, 1.0, 1.0),
            Part("question", "instruct", 0.5),
            Part("route", "thinking", 0.8, 1.0, 1.0),
            Part("work", "thinking", 1.0, 1.0, 1.0),
            Part("route", "instruct", 0.15),
            Part("work", "instruct", 0.15),
            Part("novel", "thinking", 1.2, 1.0, 1.0),
            Part("novel", "instruct", 0.3),
            Part("plain", "thinking", 0.4, 1.0, 1.0),
            Part("plain", "instruct", 0.1),
            Part("plain", "thinking", 0.1),
            Part("chat", "thinking", 0.3, 1.0, 1.0),
            Part("writing", "thinking", 0.2, 1.0, 1.0),
        )
    ),
}


def plan(role: str, seed: int, total: int | None, hours: float, compile_: bool) -> Plan:
    """The plan of one stage with the command line's changes."""
    chosen = {"base": BASE, "more": MORE}.get(role, TUNE)
    seed = {"base": 0, "instruct": 1, "thinking": 2, "more": 3}[role] + 10 * seed
    return replace(chosen, seed=seed, total=total or chosen.total, hours=hours, compile=compile_)


def start(pair: Path, seed: int) -> None:
    """Train the tokenizer and write a randomly initialised pair, so that everything else can be built against it."""
    tokenizer = tokens.build(tokens.prose(seed), seed=seed)
    for index, role in enumerate(("base", "instruct", "thinking")):
        export.save(pair / role, role, export.fresh(tokenizer, seed + index % 2).state_dict(), tokenizer)
