"""What decided the recipe: one thing changed at a time, measured along the path from Instruct to Thinking.

`replay` and `lr` tune Instruct and Thinking anew from the pair's base; `style` and `size` show only in pretraining
and are told by a proxy (`proxy.py`). A variant is one process of one thread. Every finished one is a row in
`ablate.jsonl` of the run's folder, with all that it depends on, and is not measured again; a killed one goes on where
it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import sqrt
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from builtin_pair.training import export, loop, parallel, proxy, recipe, self_mistakes
from builtin_pair.training import tokenizer as tokens
from builtin_pair.training.evaluate import on_path
from builtin_pair.training.export import SHAPE, State
from builtin_pair.training.proxy import Proxy
from builtin_pair.training.serving import open_states
from dami_agent.evaluation.runner import MAX_TOKENS
from dami_agent.tasks.questions import FAMILIES, LEVELS, questions

Row = dict[str, Any]

PATH = (0.0, 0.25, 0.5, 0.75, 1.0)
LR = recipe.CONFIGS["instruct"].lr
LRS = (round(LR / 3, 6), LR, round(LR * 3, 6))
REPLAYS = (0.0, recipe.REPLAY, 0.3)


@dataclass(frozen=True)
class Variant:
    """One way to train. With a `proxy` the base is pretrained anew and small."""

    replay: float = recipe.REPLAY
    lr: float = LR
    proxy: Proxy | None = None


WHAT: Mapping[str, Mapping[str, Variant]] = {
    "replay": {f"{share:g}": Variant(replay=share) for share in REPLAYS},
    "lr": {f"{lr:g}": Variant(lr=lr) for lr in LRS},
    "style": {"graded": Variant(proxy=Proxy()), "none or all": Variant(proxy=Proxy(graded=False))},
    "size": {f"{size} parameters": Variant(proxy=Proxy(size)) for size in proxy.SHAPES},
}
"""What is changed -> how the table calls it -> the variant."""

PROXIES = ("style", "size")


@dataclass(frozen=True)
class AblationJob:
    """A variant to be trained and measured. `total` is tokens of a fine-tuning; of the pretraining for a proxy."""

    variant: Variant
    pair: Path
    run: Path
    total: int | None = None
    count: int = 200
    seed: int = 0
    self_mistakes: Path | None = None
    compile: bool = True

    def settings(self) -> Row:
        """Everything the result depends on but the code."""
        base = self.pair / "base"
        read = [base / "tokenizer.json"] if self.variant.proxy else [base / "model.safetensors", self.self_mistakes]
        return {
            "variant": asdict(self.variant),
            "total": self.total,
            "count": self.count,
            "seed": self.seed,
            "read": [hashlib.sha256(path.read_bytes()).hexdigest() for path in read if path],
        }

    def key(self) -> str:
        """Names the job's folder and row."""
        return hashlib.sha256(json.dumps(self.settings(), sort_keys=True).encode()).hexdigest()[:12]


def _tuned(job: AblationJob, folder: Path) -> dict[recipe.Stage, State]:
    """Instruct and Thinking of a variant, from the pair's base."""
    tokenizer, base = tokens.load(job.pair / "base"), export.load_state(job.pair / "base")
    recorded = self_mistakes.read(job.self_mistakes) if job.self_mistakes else []
    states: dict[recipe.Stage, State] = {"base": base}
    stages: tuple[recipe.Stage, ...] = ("instruct", "thinking")
    for stage in stages:
        model = export.fresh(tokenizer, job.seed)
        model.load_state_dict(dict(base), strict=False)
        changes = recipe.Changes(job.seed, job.total, lr=job.variant.lr, compile=job.compile)
        mixture = recipe.mixture(stage, job.variant.replay)
        loop.train(loop.TrainingRun(model, tokenizer, mixture, recipe.config(stage, changes), folder / stage, recorded))
        states[stage] = {name: value.detach().clone() for name, value in model.state_dict().items()}
    return states


def _proxy(job: AblationJob, chosen: Proxy, folder: Path) -> dict[recipe.Stage, State]:
    """All stages of a proxy."""
    tokenizer = tokens.load(job.pair / "base")
    changes = recipe.Changes(job.seed, job.total or proxy.PRETRAINED, compile=job.compile)
    return proxy.train(chosen, tokenizer, folder, job.variant.replay, changes)


def run(job: AblationJob) -> Row:
    """Train a variant and measure it along the path."""
    folder, chosen = job.run / job.key(), job.variant.proxy
    states = _proxy(job, chosen, folder) if chosen else _tuned(job, folder)
    begun = time.monotonic()
    families = proxy.FAMILIES if chosen else FAMILIES
    asked = questions(
        "calibration", job.count, seed=job.seed, families=families, levels=proxy.LEVELS if chosen else LEVELS
    )
    seeded = [(job.seed, each) for each in asked]
    limit, shape = (proxy.LIMIT, proxy.SHAPES[chosen.size]) if chosen else (MAX_TOKENS, SHAPE)
    tokenizer = tokens.load(job.pair / "base")
    with open_states(states["instruct"], states["thinking"], tokenizer, shape=shape, device="cpu") as session:
        path = [
            on_path(session, seeded, at, template="thinking" if at else "instruct", max_tokens=limit) for at in PATH
        ]
    return {
        "key": job.key(),
        **job.settings(),
        "parameters": sum(value.numel() for name, value in states["base"].items() if name != "lm_head.weight"),
        "minutes": {"training": training_minutes(folder), "measuring": round((time.monotonic() - begun) / 60, 1)},
        "path": path,
    }


def training_minutes(folder: Path) -> float:
    """Return what the stages took together, before and after they were interrupted."""
    logs = [[json.loads(line) for line in log.read_text().splitlines()] for log in folder.glob("*/log.jsonl")]
    seconds = [max(float(row.get("seconds", 0.0)) for row in rows) for rows in logs]
    return round(sum(seconds) / 60, 1)


def finished(folder: Path) -> dict[str, Row]:
    """Key -> row of what was measured before."""
    log = folder / "ablate.jsonl"
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
    return {row["key"]: row for row in rows}


def measure(jobs: Sequence[AblationJob], processes: int, work: Callable[[AblationJob], Row] = run) -> Iterator[Row]:
    """Rows of jobs as they finish, those done before first; each is in the log before it is given."""
    done, wanted = finished(jobs[0].run), {job.key(): job for job in jobs}
    yield from (done[key] for key in wanted if key in done)
    jobs[0].run.mkdir(parents=True, exist_ok=True)
    os.environ.update(parallel.KEEP_MEMORY)
    with (
        ProcessPoolExecutor(processes, get_context("spawn"), parallel.begin) as pool,
        (jobs[0].run / "ablate.jsonl").open("a", encoding="utf-8") as log,
    ):
        for future in as_completed([pool.submit(work, job) for key, job in wanted.items() if key not in done]):
            row = future.result()
            log.write(json.dumps(row) + "\n")
            log.flush()
            yield row


# -- the table -------------------------------------------------------------------------------------------------------


def dip(path: Sequence[Row]) -> float:
    """Return the most that any lambda is below the best smaller one, in accuracy."""
    best, found = 0.0, 0.0
    for row in path:
        best = max(best, row["accuracy"])
        found = max(found, best - row["accuracy"])
    return found


def step(lengths: Sequence[float | None]) -> float | None:
    """Return the largest step between neighbours, as a share of the range; None where nothing is to be told."""
    known = [length for length in lengths if length is not None]
    if len(known) < 2 or max(known) == min(known):
        return None
    return max(abs(after - before) for before, after in pairwise(known)) / (max(known) - min(known))


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _cells(name: str, row: Row) -> list[str]:
    path = row["path"]
    return [
        name,
        *(f"{each['accuracy']:.3f} / {each['tokens']:.0f}" for each in path),
        f"{100 * min(each['finished'] for each in path):.1f} %",
        f"{100 * dip(path):.1f} points",
        _percent(step([each["tokens"] for each in path])),
        _percent(step([each["thinking_tokens"] for each in path])),
        f"{row['minutes']['training']:g}",
    ]


def table(what: str, rows: Mapping[str, Row], jobs: Mapping[str, AblationJob]) -> str:
    """Return the finished variants of one kind as markdown; `rows` by key, `jobs` by what the table calls them."""
    heads = [what, *(f"λ={value:g}" for value in PATH), "finished, the worst", "largest dip"]
    heads += ["largest step of the tokens", "... within outputs that think", "minutes of training"]
    lines = [f"| {' | '.join(heads)} |", f"| --- |{' ---: |' * (len(heads) - 1)}"]
    found = {name: rows[job.key()] for name, job in jobs.items() if job.key() in rows}
    lines += [f"| {' | '.join(_cells(name, row))} |" for name, row in found.items()]
    count = next(iter(jobs.values())).count
    note = f"Accuracy / tokens on {count} calibration questions (± {98 / sqrt(count):.1f} points at most, one seed)"
    if what in PROXIES:
        families, levels = " and ".join(proxy.FAMILIES), " and ".join(map(str, proxy.LEVELS))
        note += f" of {families}, levels {levels}: a proxy trained from nothing, not the pair"
    return "\n".join([*lines, "", f"{note}. Steps are shares of the range, an even path would have 25 %."])


def show(whats: Sequence[str], processes: int, job: Callable[[Variant], AblationJob]) -> None:
    """Train and measure every variant that is not done yet; print a line for each and the tables."""
    jobs = {what: {name: job(variant) for name, variant in WHAT[what].items()} for what in whats}
    rows: dict[str, Row] = {}
    for row in measure([each for named in jobs.values() for each in named.values()], processes):
        rows[row["key"]] = row
        print(json.dumps({"variant": row["variant"], "minutes": row["minutes"]}), flush=True)
    for what in whats:
        print(f"\n{table(what, rows, jobs[what])}")
