"""The training loop: seeded, resumable to the bit, logged as JSON lines.

One run is a list of pools (see `data.py`); a step is one batch. State is saved after whole pools, and a pool depends
only on the seed and its number, so a resumed run sees exactly what an uninterrupted one would have seen.
"""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import Qwen3ForCausalLM

from dami_agent.training import attention
from dami_agent.training.data import IGNORED, Mixture, batches, pools


@dataclass(frozen=True)
class Plan:
    """One training run. Rates are per step; `tokens` is padded tokens per batch, `total` counts the same."""

    total: int
    tokens: int = 8192
    pool_size: int = 2400
    rate: float = 3e-3
    matrix_rate: float = 0.02
    muon: bool = True
    warmup: int = 100
    final: float = 0.0
    decay: float = 0.01
    copy_start: float = 0.0
    copy_until: float = 0.2
    copy_tail: float = 0.0
    seed: int = 0
    compile: bool = False
    hours: float = 0.0
    """Wall-clock budget; when it is set, the schedule follows whichever of time and tokens is further along."""

    def share(self, progress: float) -> float:
        """The share of random-token copies at a point of the run: `copy_start` for the first part, then decaying."""
        if progress < self.copy_until:
            return self.copy_start
        left = (1.0 - progress) / max(1.0 - self.copy_until, 1e-9)
        return self.copy_tail * left

    def factor(self, step: int, progress: float) -> float:
        """Learning-rate factor: linear warm-up, then a cosine to `final`."""
        rise = min(1.0, (step + 1) / max(self.warmup, 1))
        return rise * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))


class Optimizer:
    """Muon for the matrices inside the layers, AdamW for embeddings and norms (or for all)."""

    def __init__(self, model: torch.nn.Module, plan: Plan) -> None:
        matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n and "lm_head" not in n]
        chosen = {id(p) for p in matrices} if plan.muon else set()
        rest = [p for p in model.parameters() if id(p) not in chosen]
        adam = torch.optim.AdamW(rest, lr=plan.rate, betas=(0.9, 0.95), weight_decay=plan.decay)
        self.parts: list[tuple[torch.optim.Optimizer, float]] = [(adam, plan.rate)]
        if plan.muon:
            muon = torch.optim.Muon(matrices, lr=plan.matrix_rate, weight_decay=plan.decay, momentum=0.95)
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


def loss_of(model: Qwen3ForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the learned tokens; the head runs only where something is learned."""
    body = getattr(model, "_compiled_body", model.model)
    hidden = body(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    targets = labels[:, 1:]
    known = targets != IGNORED
    logits = model.lm_head(hidden[known])
    return functional.cross_entropy(logits.float(), targets[known])


def train(model: Qwen3ForCausalLM, tokenizer: Tokenizer, mixture: Mixture, plan: Plan, folder: Path) -> None:
    """Run (or resume) one plan; `folder` gets `log.jsonl`, `weights.safetensors` and `state.pt` after whole pools."""
    folder.mkdir(parents=True, exist_ok=True)
    optimizer, where = Optimizer(model, plan), {"pool": 0, "step": 0, "tokens": 0, "seconds": 0.0}
    if (folder / "state.pt").exists():
        saved = torch.load(folder / "state.pt", weights_only=True)
        where = saved["where"]
        optimizer.load(saved["optimizer"])
        model.load_state_dict(load_file(folder / "weights.safetensors"), strict=False)
    model.train()
    model.config._attn_implementation = attention.register()
    if plan.compile:
        object.__setattr__(model, "_compiled_body", torch.compile(model.model, dynamic=True))
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps({"plan": asdict(plan), "resumed_at": where}) + "\n")
        _pools(model, tokenizer, mixture, plan, folder, optimizer, where, log)


def _pools(
    model: Qwen3ForCausalLM,
    tokenizer: Tokenizer,
    mixture: Mixture,
    plan: Plan,
    folder: Path,
    optimizer: Optimizer,
    where: dict[str, Any],
    log: IO[str],
) -> None:
    """Pool after pool until the plan's tokens or hours are used; state and a log row after each."""
    begun, last = time.monotonic() - where["seconds"], time.monotonic()

    def progress() -> float:
        spent = (time.monotonic() - begun) / 3600 / plan.hours if plan.hours else 0.0
        return float(max(where["tokens"] / plan.total, spent))

    while progress() < 1.0:
        share = plan.share(progress())
        drawn = pools(
            tokenizer, mixture, seed=plan.seed, size=plan.pool_size, index=int(where["pool"]), copy_share=share
        )
        total, count = 0.0, 0
        for ids, labels in batches(drawn, seed=f"order:{plan.seed}:{where['pool']}", tokens=plan.tokens):
            with torch.autocast("cpu", torch.bfloat16):
                loss = loss_of(model, ids, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step(plan.factor(int(where["step"]), progress()))
            where["step"] += 1
            where["tokens"] += ids.numel()
            total, count = total + float(loss.detach()), count + 1
            if progress() >= 1.0:
                break
        where["pool"] += 1
        where["seconds"] = time.monotonic() - begun
        speed = round(plan.tokens * count / max(time.monotonic() - last, 1e-9))
        last = time.monotonic()
        row = {
            **where,
            "seconds": round(where["seconds"], 1),
            "loss": round(total / count, 4),
            "copies": round(share, 3),
        }
        log.write(json.dumps({**row, "tokens_per_second": speed}) + "\n")
        log.flush()
        _keep(folder, model, optimizer, where)


def _keep(folder: Path, model: Qwen3ForCausalLM, optimizer: Optimizer, where: dict[str, Any]) -> None:
    """Write the state beside, then move it into place, so that a kill leaves the last whole one."""
    weights = {name: value.detach().clone() for name, value in model.state_dict().items() if name != "lm_head.weight"}
    save_file(weights, folder / "weights.tmp")
    torch.save({"where": dict(where), "optimizer": optimizer.state()}, folder / "state.tmp")
    os.replace(folder / "weights.tmp", folder / "weights.safetensors")
    os.replace(folder / "state.tmp", folder / "state.pt")
