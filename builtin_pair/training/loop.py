"""The training loop: seeded, resumable to the bit, logged as JSON lines.

One run is a list of pools (see `data.py`); a step is one batch, or one in every process (see `parallel.py`). State is
saved after whole pools, and a pool depends only on the seed, its number and the process, so a resumed run sees exactly
what an uninterrupted one would have seen.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import Qwen3ForCausalLM

from builtin_pair.training import attention
from builtin_pair.training.data import Batch, Encoded, Mixture, grouped, pool
from builtin_pair.training.feed import pools
from builtin_pair.training.muon import StackedMuon
from builtin_pair.training.parallel import Group
from builtin_pair.training.render import Dialogue
from dami_agent.errors import UsageError


@dataclass(frozen=True)
class Plan:
    """One training run. Rates are per step; `tokens` is padded tokens per batch and process, `total` padded tokens."""

    total: int
    tokens: int = 4096
    pool_size: int = 1200
    document: int = 230
    """Padded tokens of a document, about: how far along a pool is, is told before it is drawn."""

    rate: float = 3e-3
    matrix_rate: float = 0.02
    muon: bool = True
    warmup: int = 100
    decay_from: float = 0.0
    """Progress from which the rate falls linearly to zero; 1 keeps it constant, so that a run can be prolonged."""

    decay: float = 0.01
    slip_share: float = 0.0
    copy_start: float = 0.0
    copy_until: float = 0.2
    copy_tail: float = 0.0
    seed: int = 0
    compile: bool = False
    hours: float = 0.0
    """Wall-clock budget; when it is set, the rate follows whichever of time and tokens is further along. What is drawn
    follows the tokens alone."""

    def share(self, progress: float) -> float:
        """The share of random-token copies at a point of the run: `copy_start` for the first part, then decaying."""
        if progress < self.copy_until:
            return self.copy_start
        left = (1.0 - progress) / max(1.0 - self.copy_until, 1e-9)
        return self.copy_tail * left

    def factor(self, step: int, progress: float) -> float:
        """Learning-rate factor: linear warm-up, constant, linear fall from `decay_from` on."""
        rise = min(1.0, (step + 1) / max(self.warmup, 1))
        fall = 1.0 if progress < self.decay_from else (1.0 - min(progress, 1.0)) / max(1.0 - self.decay_from, 1e-9)
        return rise * fall


class Optimizer:
    """Muon for the matrices inside the layers, AdamW for embeddings and norms (or for all)."""

    def __init__(self, model: torch.nn.Module, plan: Plan) -> None:
        matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n and "lm_head" not in n]
        chosen = {id(p) for p in matrices} if plan.muon else set()
        rest = [p for p in model.parameters() if id(p) not in chosen]
        fused = rest[0].is_cuda
        adam = torch.optim.AdamW(rest, lr=plan.rate, betas=(0.9, 0.95), weight_decay=plan.decay, fused=fused)
        self.parts: list[tuple[torch.optim.Optimizer, float]] = [(adam, plan.rate)]
        if plan.muon:
            muon = StackedMuon(matrices, lr=plan.matrix_rate, weight_decay=plan.decay, momentum=0.95)
            self.parts.append((muon, plan.matrix_rate))

    def step(self, factor: float) -> None:
        """One update at `factor` of the base rates."""
        for part, rate in self.parts:
            for group in part.param_groups:
                group["lr"] = rate * factor
            part.step()
            part.zero_grad(set_to_none=True)

    def state(self) -> list[dict[str, Any]]:
        """For a checkpoint."""
        return [part.state_dict() for part, _ in self.parts]

    def load(self, state: list[dict[str, Any]]) -> None:
        """From a checkpoint."""
        for (part, _), saved in zip(self.parts, state, strict=True):
            part.load_state_dict(saved)


def loss_of(model: Qwen3ForCausalLM, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy of the learned tokens; the head runs only where something is learned."""
    hidden = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state[:, :-1]
    logits = model.lm_head(hidden.reshape(-1, hidden.shape[-1])[batch.places])
    return functional.cross_entropy(logits.float(), batch.ids[:, 1:].reshape(-1)[batch.places].long())


MixtureAt = Callable[[float], Mixture]
"""Progress in [0, 1] -> what is drawn there."""


@dataclass
class Run:
    """One plan being run: what it trains, on what, and where it keeps its log and state.

    With `workers` that many processes draw pools ahead; without, each is drawn when it is needed.
    """

    model: Qwen3ForCausalLM
    tokenizer: Tokenizer
    mixture: MixtureAt
    plan: Plan
    folder: Path
    slips: Sequence[Dialogue] = ()
    group: Group = Group()
    workers: int = 0
    where: dict[str, Any] = field(default_factory=lambda: {"pool": 0, "step": 0, "tokens": 0, "seconds": 0.0})
    begun: float = 0.0
    start: str = ""

    def __post_init__(self) -> None:
        self.optimizer = Optimizer(self.model, self.plan)

    def progress(self) -> float:
        """In [0, 1]; the same in all processes."""
        spent = (time.monotonic() - self.begun) / 3600 / self.plan.hours if self.plan.hours else 0.0
        return self.group.first(float(max(self.where["tokens"] / self.plan.total, spent)))

    def resume(self) -> None:
        """Go on from the folder's state, if there is one and it began with these weights."""
        self.start = _digest(self.model)
        if (self.folder / "state.pt").exists():
            saved = torch.load(self.folder / "state.pt", weights_only=True, map_location="cpu")
            if saved.get("start", self.start) != self.start:
                raise UsageError(
                    f"{self.folder} holds a run that began with other weights than this one does",
                    hint="give --run an empty folder, or --pair the pair that the run began with",
                )
            self.where = saved["where"]
            self.optimizer.load(saved["optimizer"])
            self.model.load_state_dict(load_file(self.folder / "weights.safetensors"), strict=False)
        self.begun = time.monotonic() - self.where["seconds"]

    def pool_progress(self, number: int) -> float:
        """How far along pool `number` is: what it holds depends on that, so it must not depend on when it is drawn."""
        return min(1.0, number * self.plan.pool_size * self.plan.document * self.group.size / self.plan.total)

    def groups(self, number: int) -> list[list[Encoded]]:
        """Pool `number` as batches, in the order of their lengths: a pure function."""
        progress = self.pool_progress(number)
        rank = f":{self.group.rank}" if self.group.rank else ""
        drawn = pool(
            self.tokenizer,
            self.mixture(progress),
            seed=f"pool:{self.plan.seed}:{number}{rank}",
            size=self.plan.pool_size,
            copy_share=self.plan.share(progress),
            slips=self.slips,
            slip_share=self.plan.slip_share,
        )
        return grouped(drawn, tokens=self.plan.tokens)

    def order(self, found: int) -> list[int]:
        """Which of `found` batches are taken, and when: as many in every process, in random order."""
        count = self.group.least(found)
        order = list(range(count))
        Random(f"order:{self.plan.seed}:{self.where['pool']}").shuffle(order)
        return [index * found // count for index in order]

    def step(self, batch: Batch, progress: float) -> torch.Tensor:
        """One update, where the model is; returns the loss."""
        with torch.autocast(batch.ids.device.type, torch.bfloat16):
            loss = loss_of(self.model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        self.group.average_gradients(self.model)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step(self.plan.factor(int(self.where["step"]), progress))
        self.where["step"] += 1
        self.where["tokens"] += batch.ids.numel() * self.group.size
        return loss.detach()


def train(run: Run) -> None:
    """Run (or resume) one plan; its folder gets `log.jsonl`, `weights.safetensors`, `state.pt` after whole pools."""
    run.folder.mkdir(parents=True, exist_ok=True)
    run.resume()
    run.model.train()
    run.model.config._attn_implementation = attention.register()
    if run.plan.compile:
        for layer in run.model.model.layers:
            layer.compile(dynamic=True)  # all run the first one's code: half of the minutes that the whole takes
    if run.group.rank:
        _pools(run, lambda row: None)
        return
    with (run.folder / "log.jsonl").open("a", encoding="utf-8") as log:

        def tell(row: dict[str, Any]) -> None:
            log.write(json.dumps(row) + "\n")
            log.flush()

        tell({"plan": asdict(run.plan), "processes": run.group.size, "resumed_at": run.where})
        _pools(run, tell)


def _pools(run: Run, tell: Callable[[dict[str, Any]], None]) -> None:
    """Pool after pool until the plan's tokens or hours are used; state and a log row after each."""
    drawn = pools(run)
    while (progress := run.progress()) < 1.0:
        started, before, losses = time.monotonic(), run.where["tokens"], []
        batches = next(drawn).to(run.model.device).batches()
        for index in run.order(len(batches)):
            losses.append(run.step(batches[index], progress))
            if (progress := run.progress()) >= 1.0:
                break
        loss = float(torch.stack(losses).mean())
        run.where["pool"] += 1
        run.where["seconds"] = time.monotonic() - run.begun
        if run.group.rank == 0:
            _keep(run)
        speed = (run.where["tokens"] - before) / max(time.monotonic() - started, 1e-9)
        row = {**run.where, "seconds": round(run.where["seconds"], 1), "loss": round(loss, 4)}
        tell({**row, "tokens_per_second": round(speed)})


def _keep(run: Run) -> None:
    """Write the state beside, then move it into place, so that a kill leaves the last whole one."""
    folder, state = run.folder, run.model.state_dict()
    weights = {name: value.detach().clone() for name, value in state.items() if name != "lm_head.weight"}
    save_file(weights, folder / "weights.tmp")
    kept = {"where": dict(run.where), "optimizer": run.optimizer.state(), "start": run.start}
    torch.save(kept, folder / "state.tmp")
    os.replace(folder / "weights.tmp", folder / "weights.safetensors")
    os.replace(folder / "state.tmp", folder / "state.pt")


def _digest(model: Qwen3ForCausalLM) -> str:
    """Of all weights."""
    found = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        found.update(name.encode() + value.detach().float().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]
