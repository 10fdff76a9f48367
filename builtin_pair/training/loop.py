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
from builtin_pair.training.data import Encoded, Mixture, TokenBatch, grouped, pool
from builtin_pair.training.muon import StackedMuon
from builtin_pair.training.parallel import Group
from builtin_pair.training.prefetch import pools
from builtin_pair.training.render import TrainingDialogue
from dami_agent.checkpoints.memory import computes_bfloat16
from dami_agent.errors import UsageError


@dataclass(frozen=True)
class TrainingConfig:
    """The hyperparameters of one training run.

    Learning rates are per step; `tokens` is padded tokens per batch and process, `total` padded tokens of the run.
    """

    total: int
    tokens: int = 4096
    pool_size: int = 1200
    document: int = 230
    """Padded tokens of a document, about: how far along a pool is, is told before it is drawn."""

    lr: float = 3e-3
    muon_lr: float = 0.02
    muon: bool = True
    warmup: int = 100
    decay_start: float = 0.0
    """Progress from which the rate falls linearly to zero; 1 keeps it constant, so that a run can be prolonged."""

    weight_decay: float = 0.01
    mistake_share: float = 0.0
    copy_start: float = 0.0
    copy_until: float = 0.2
    copy_tail: float = 0.0
    seed: int = 0
    compile: bool = False
    hours: float = 0.0
    """Wall-clock budget; when it is set, the rate follows whichever of time and tokens is further along. What is drawn
    follows the tokens alone."""

    def share(self, progress: float) -> float:
        """Return the share of random-token copies at `progress`: `copy_start` for the first part, then decaying."""
        if progress < self.copy_until:
            return self.copy_start
        left = (1.0 - progress) / max(1.0 - self.copy_until, 1e-9)
        return self.copy_tail * left

    def lr_scale(self, step: int, progress: float) -> float:
        """Return the factor on all learning rates: linear warm-up, constant, linear fall from `decay_start` on."""
        rise = min(1.0, (step + 1) / max(self.warmup, 1))
        fall = 1.0 if progress < self.decay_start else (1.0 - min(progress, 1.0)) / max(1.0 - self.decay_start, 1e-9)
        return rise * fall


class Optimizer:
    """Muon for the matrices inside the layers, AdamW for embeddings and norms (or for all)."""

    def __init__(self, model: torch.nn.Module, config: TrainingConfig) -> None:
        matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n and "lm_head" not in n]
        chosen = {id(p) for p in matrices} if config.muon else set()
        rest = [p for p in model.parameters() if id(p) not in chosen]
        fused = rest[0].is_cuda
        adam = torch.optim.AdamW(rest, lr=config.lr, betas=(0.9, 0.95), weight_decay=config.weight_decay, fused=fused)
        self.parts: list[tuple[torch.optim.Optimizer, float]] = [(adam, config.lr)]
        if config.muon:
            muon = StackedMuon(matrices, lr=config.muon_lr, weight_decay=config.weight_decay, momentum=0.95)
            self.parts.append((muon, config.muon_lr))

    def step(self, lr_scale: float) -> None:
        """Update once, at `lr_scale` of the configured learning rates, and clear the gradients."""
        for part, lr in self.parts:
            for group in part.param_groups:
                group["lr"] = lr * lr_scale
            part.step()
            part.zero_grad(set_to_none=True)

    def state(self) -> list[dict[str, Any]]:
        """Return the state of every optimizer, for a checkpoint."""
        return [part.state_dict() for part, _ in self.parts]

    def load(self, state: list[dict[str, Any]]) -> None:
        """Restore what `state` returned."""
        for (part, _), saved in zip(self.parts, state, strict=True):
            part.load_state_dict(saved)


def loss_of(model: Qwen3ForCausalLM, batch: TokenBatch) -> torch.Tensor:
    """Return the mean cross-entropy [] of the learned tokens, in float32; the head runs only where one is learned.

    Args:
        model: in training mode; its logits are [learned, vocabulary].
        batch: ids int32 [rows, width], and the positions that count.
    """
    hidden = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state[:, :-1]
    logits = model.lm_head(hidden.reshape(-1, hidden.shape[-1])[batch.loss_positions])
    return functional.cross_entropy(logits.float(), batch.ids[:, 1:].reshape(-1)[batch.loss_positions].long())


MixtureAt = Callable[[float], Mixture]
"""Progress in [0, 1] -> what is drawn there."""


@dataclass
class TrainingRun:
    """A run of one config: what it trains, on what, and where it keeps its log and state.

    With `workers` that many processes draw pools ahead; without, each is drawn when it is needed.
    """

    model: Qwen3ForCausalLM
    tokenizer: Tokenizer
    mixture: MixtureAt
    config: TrainingConfig
    folder: Path
    self_mistakes: Sequence[TrainingDialogue] = ()
    group: Group = Group()
    workers: int = 0
    position: dict[str, Any] = field(default_factory=lambda: {"pool": 0, "step": 0, "tokens": 0, "seconds": 0.0})
    begun: float = 0.0
    start: str = ""

    def __post_init__(self) -> None:
        self.optimizer = Optimizer(self.model, self.config)

    def progress(self) -> float:
        """Return how much of the run is done, in [0, 1]; the same in all processes."""
        spent = (time.monotonic() - self.begun) / 3600 / self.config.hours if self.config.hours else 0.0
        return self.group.first(float(max(self.position["tokens"] / self.config.total, spent)))

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
            self.position = saved["position"]
            self.optimizer.load(saved["optimizer"])
            self.model.load_state_dict(load_file(self.folder / "weights.safetensors"), strict=False)
        self.begun = time.monotonic() - self.position["seconds"]

    def pool_progress(self, number: int) -> float:
        """Return how far along pool `number` is: its content depends on that, so it must not depend on the time."""
        return min(1.0, number * self.config.pool_size * self.config.document * self.group.size / self.config.total)

    def groups(self, number: int) -> list[list[Encoded]]:
        """Return pool `number` as batches, in the order of their lengths: a pure function."""
        progress = self.pool_progress(number)
        rank = f":{self.group.rank}" if self.group.rank else ""
        drawn = pool(
            self.tokenizer,
            self.mixture(progress),
            seed=f"pool:{self.config.seed}:{number}{rank}",
            size=self.config.pool_size,
            copy_share=self.config.share(progress),
            self_mistakes=self.self_mistakes,
            mistake_share=self.config.mistake_share,
        )
        return grouped(drawn, tokens=self.config.tokens)

    def order(self, found: int) -> list[int]:
        """Choose which of `found` batches are taken, and when: as many in every process, in random order."""
        count = self.group.least(found)
        order = list(range(count))
        Random(f"order:{self.config.seed}:{self.position['pool']}").shuffle(order)
        return [index * found // count for index in order]

    def step(self, batch: TokenBatch, progress: float) -> torch.Tensor:
        """Update once, where the model is, and return the loss [], detached."""
        with autocast(batch.ids.device.type):
            loss = loss_of(self.model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        self.group.average_gradients(self.model)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step(self.config.lr_scale(int(self.position["step"]), progress))
        self.position["step"] += 1
        self.position["tokens"] += batch.ids.numel() * self.group.size
        return loss.detach()


def train(run: TrainingRun) -> None:
    """Train (or resume) one run; its folder gets `log.jsonl`, `weights.safetensors`, `state.pt` after whole pools."""
    run.folder.mkdir(parents=True, exist_ok=True)
    run.resume()
    run.model.train()
    run.model.set_attn_implementation(attention.register())
    if run.config.compile:
        for layer in run.model.model.layers:
            layer.compile(dynamic=True)  # all run the first one's code: half of the minutes that the whole takes
    if run.group.rank:
        _pools(run, lambda row: None)
        return
    with (run.folder / "log.jsonl").open("a", encoding="utf-8") as log:

        def tell(row: dict[str, Any]) -> None:
            log.write(json.dumps(row) + "\n")
            log.flush()

        tell({"config": asdict(run.config), "processes": run.group.size, "resumed_at": run.position})
        _pools(run, tell)


def _pools(run: TrainingRun, tell: Callable[[dict[str, Any]], None]) -> None:
    """Train on pool after pool until the config's tokens or hours are used; state and a log row after each."""
    drawn = pools(run)
    while (progress := run.progress()) < 1.0:
        started, before, losses = time.monotonic(), run.position["tokens"], []
        batches = next(drawn).to(run.model.device).batches()
        for index in run.order(len(batches)):
            losses.append(run.step(batches[index], progress))
            if (progress := run.progress()) >= 1.0:
                break
        loss = float(torch.stack(losses).mean())
        run.position["pool"] += 1
        run.position["seconds"] = time.monotonic() - run.begun
        if run.group.rank == 0:
            save_state(run)
        speed = (run.position["tokens"] - before) / max(time.monotonic() - started, 1e-9)
        row = {**run.position, "seconds": round(run.position["seconds"], 1), "loss": round(loss, 4)}
        tell({**row, "tokens_per_second": round(speed)})


def save_state(run: TrainingRun) -> None:
    """Write the state beside, then move it into place, so that a kill leaves the last whole one."""
    folder, state = run.folder, run.model.state_dict()
    weights = {name: value.detach().clone() for name, value in state.items() if name != "lm_head.weight"}
    save_file(weights, folder / "weights.tmp")
    kept = {"position": dict(run.position), "optimizer": run.optimizer.state(), "start": run.start}
    torch.save(kept, folder / "state.tmp")
    os.replace(folder / "weights.tmp", folder / "weights.safetensors")
    os.replace(folder / "state.tmp", folder / "state.pt")


def autocast(device: str) -> torch.autocast:
    """Compute products in bfloat16 on devices that have units for it, else in float32: a hundred times as fast there.

    Args:
        device: cpu or cuda.
    """
    return torch.autocast(device, torch.bfloat16, enabled=computes_bfloat16(device))


def _digest(model: Qwen3ForCausalLM) -> str:
    """SHA-256 over all weights; guards against resuming another run."""
    found = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        found.update(name.encode() + value.detach().float().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]
