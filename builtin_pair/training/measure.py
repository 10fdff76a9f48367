"""One table of everything a pair must do, as JSON lines: `python -m builtin_pair train evaluate --pair DIR`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch

from builtin_pair.training import export
from builtin_pair.training import tokenizer as tokens
from builtin_pair.training.evaluate import Bench, confidence, on_questions, one_call, run_agents
from builtin_pair.training.render import Template
from builtin_pair.training.sampler import lerp
from dami_agent.tasks.agent import agent_tasks
from dami_agent.tasks.model import Split
from dami_agent.tasks.questions import questions
from dami_agent.tasks.single import SETTINGS, single_calls

PATH = tuple(round(0.1 * i, 1) for i in range(11))
PARTS = ("path", "instruct_path", "confidence", "tools", "agents")


def rows(
    pair: Path, parts: Sequence[str], count: int, split: Split, seed: int = 0, device: torch.device | str = "cpu"
) -> Iterator[dict[str, Any]]:
    """One row per measurement; `count` questions or tasks each."""
    tokenizer = tokens.load(pair / "base")
    instruct, thinking = (export.load_state(pair / role, device) for role in ("instruct", "thinking"))
    bench, asked = Bench(tokenizer), questions(split, count, seed=seed)
    paths: dict[str, tuple[Template, Sequence[float]]] = {
        "path": ("thinking", PATH),
        "instruct_path": ("instruct", (0.0, 0.1, 0.2, 0.3, 0.4)),
    }
    for part, (template, lambdas) in paths.items():
        for intensity in lambdas if part in parts else ():
            found = on_questions(bench, lerp(instruct, thinking, intensity), template, asked, seed=seed)
            yield {"part": part, "lambda": intensity, "template": template, **found}
    if "confidence" in parts:
        yield {"part": "confidence", **confidence(bench, instruct, thinking, asked)}
    if "tools" in parts:
        for intensity in (0.0, 0.5, 1.0):
            state = lerp(instruct, thinking, intensity)
            template = "thinking" if intensity else "instruct"
            for setting, temperature in product(SETTINGS, (0.0, 0.7)):
                tasks = single_calls(setting, split, count, seed=seed)
                found = one_call(bench, state, template, tasks, temperature=temperature)
                yield {"part": "tools", "tools": setting, "lambda": intensity, "temperature": temperature, **found}
    if "agents" in parts:
        tasks = agent_tasks(split, count, seed=seed)
        yield {
            "part": "agents",
            "run": "instruct",
            **run_agents(bench, {"state": instruct, "template": "instruct"}, tasks),
        }
        pick: dict[str, Any] = {"state": thinking, "template": "thinking"}
        yield {"part": "agents", "run": "thinking", **run_agents(bench, pick, tasks)}
        for threshold in (-0.2, -0.5, -1.0):
            cascade = {**pick, "probe": instruct, "scorer": thinking, "threshold": threshold}
            yield {"part": "agents", "run": f"cascade {threshold}", **run_agents(bench, cascade, tasks)}


def show(
    pair: Path, parts: Sequence[str], count: int, split: Split, seed: int = 0, device: torch.device | str = "cpu"
) -> None:
    """Print the rows as they come, with the seconds since the start."""
    begun = time.monotonic()
    for row in rows(pair, parts, count, split, seed, device):
        print(json.dumps({**row, "seconds": round(time.monotonic() - begun)}), flush=True)
