"""Pairs of random numbers in the real shapes of Qwen3, written fast and never whole in memory."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, Qwen3Config

_COMMON = {"vocab_size": 151936, "head_dim": 128, "num_key_value_heads": 8, "max_position_embeddings": 40960}
SHAPES: dict[str, dict[str, Any]] = {  # the published config.json of each; all of them tie the head
    "Qwen3-0.6B": {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16},
    "Qwen3-4B": {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32},
}


@contextmanager
def qwen3_4b(factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A 4B pair on disk, 16 GB: the one that DAMI_GPU_PAIR names (make gpu-check writes one for all), or one's own."""
    if given := os.environ.get("DAMI_GPU_PAIR"):
        yield Path(given) / "instruct", Path(given) / "thinking"
        return
    folder = factory.mktemp("qwen3-4b")
    if shutil.disk_usage(folder).free < 20 * 2**30:
        pytest.skip("needs 20 GiB of disk")
    try:
        yield write_real_pair(folder, "Qwen3-4B", shard_bytes=2**31)
    finally:
        shutil.rmtree(folder)


def write_real_pair(directory: Path, name: str, *, shard_bytes: int = 2**30) -> tuple[Path, Path]:
    """Write a bf16 pair of the shape called ``name``; Thinking differs from Instruct by about a tenth."""
    config = Qwen3Config(**_COMMON, **SHAPES[name], tie_word_embeddings=True, dtype="bfloat16")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(0)
    pool = torch.randn(2**24, generator=generator).bfloat16()  # tensors are stretches of it: drawing each costs minutes
    folders = directory / "instruct", directory / "thinking"
    for folder, offset in zip(folders, (0.0, 0.1), strict=True):
        folder.mkdir(parents=True)
        config.architectures = ["Qwen3ForCausalLM"]
        config.save_pretrained(folder)
        tensors = {n: p.shape for n, p in model.named_parameters()}
        _write_shards(folder, tensors, pool, offset, shard_bytes)
    return folders


def _write_shards(folder: Path, shapes: dict[str, torch.Size], pool: Tensor, offset: float, limit: int) -> None:
    shards: list[list[str]] = [[]]
    size = 0
    for name, shape in shapes.items():
        if size + 2 * shape.numel() > limit and shards[-1]:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += 2 * shape.numel()
    where = {}
    for number, names in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        tensors = {name: _fill(name, shapes[name], pool, offset) for name in names}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        where.update(dict.fromkeys(names, file))
    total = 2 * sum(shape.numel() for shape in shapes.values())
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _fill(name: str, shape: torch.Size, pool: Tensor, offset: float) -> Tensor:
    """Norms near 1, matrices of deviation fan_in^-½; ``offset`` adds another stretch of the pool."""
    start = sum(name.encode()) * 7919 % 2**20
    rows = -(-(start + 2**21 + shape.numel()) // pool.numel())
    long = pool.repeat(rows) if rows > 1 else pool
    base = long[start : start + shape.numel()].view(shape)
    other = long[start + 2**21 : start + 2**21 + shape.numel()].view(shape)
    scale = 0.1 if len(shape) == 1 else shape[-1] ** -0.5
    noise = (base + offset * other) * scale if offset else base * scale
    return (1 + noise if len(shape) == 1 else noise).contiguous()
