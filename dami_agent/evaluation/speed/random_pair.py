"""Write a pair of random weights in the shape of a published model: as fast as the real one, and of no other use."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, Qwen3Config

from dami_agent.checkpoints import CheckpointPair
from dami_agent.checkpoints.builtin_folder import builtin_folder
from dami_agent.checkpoints.checkpoint import Checkpoint
from dami_agent.checkpoints.layout import quiet_transformers

SHAPES: Mapping[str, Mapping[str, Any]] = {
    # Of Qwen3-0.6B's config.json: 596,049,920 parameters.
    "0.6b": {
        "vocab_size": 151_936,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40_960,
    },
    # Of Qwen3-4B's: 4,022,468,096.
    "4b": {
        "vocab_size": 151_936,
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40_960,
    },
    "tiny": {  # for tests
        "vocab_size": 1280,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "max_position_embeddings": 2048,
    },
}
"""Fields of transformers' ``Qwen3Config`` by the name of the shape; the head is the embedding in all of them."""

_DISTANCE = 0.1  # of Thinking's weights from Instruct's, in deviations: near enough to pass for two fine-tunings
_TEXTS = ("chat_template.jinja", "generation_config.json", "tokenizer_config.json")
_SHARD = 4 << 30
"""Bytes in a file of weights, at most, so that no more than that is ever held."""
_POOL = (1 << 24) + 43
"""Random numbers that all matrices are stretches of, over and over: to draw 4 billion takes minutes. An odd number, so
that no two rows of an embedding are the same and no two tokens always tie."""


def write_random_pair(folder: Path, shape: str) -> CheckpointPair:
    """Write a bfloat16 pair to ``folder/instruct`` and ``folder/thinking``, and open it.

    Tokenizer and chat templates are the built-in pair's, the vocabulary filled up to the shape's with tokens that no
    text has.

    Args:
        folder: exists.
        shape: a name of ``SHAPES``.
    """
    config = Qwen3Config(**SHAPES[shape], tie_word_embeddings=True, dtype="bfloat16")
    config.architectures = ["Qwen3ForCausalLM"]
    construct: Any = AutoModelForCausalLM.from_config  # untyped in transformers
    with quiet_transformers(), torch.device("meta"):
        shapes = {name: parameter.shape for name, parameter in construct(config).named_parameters()}
    pool = torch.randn(_POOL, generator=torch.Generator().manual_seed(0))
    for side, numbers in (("instruct", pool), ("thinking", pool + _DISTANCE * pool.roll(_POOL // 2))):
        (folder / side).mkdir()
        config.save_pretrained(folder / side)
        _write_weights(folder / side, shapes, numbers.repeat(2))
        _write_texts(folder / side, side, int(config.vocab_size))
    return open_random_pair(folder, shape)


def open_random_pair(folder: Path, shape: str) -> CheckpointPair:
    """Open a pair that :func:`write_random_pair` has written to ``folder``."""
    sides = (Checkpoint.open(folder / side, source=f"{shape}/{side}") for side in ("instruct", "thinking"))
    return CheckpointPair.of(*sides, name=f"random-{shape}")


def _write_weights(folder: Path, shapes: Mapping[str, torch.Size], numbers: torch.Tensor) -> None:
    """Write safetensors of random matrices, with an index where there is more than one file."""
    files: list[list[str]] = [[]]
    size = 0
    for name, shape in shapes.items():
        if size and size + 2 * shape.numel() > _SHARD:
            files.append([])
            size = 0
        files[-1].append(name)
        size += 2 * shape.numel()
    where: dict[str, str] = {}
    for number, names in enumerate(files, 1):
        file = "model.safetensors" if len(files) == 1 else f"model-{number:05}-of-{len(files):05}.safetensors"
        tensors = {name: _weight(name, shapes[name], numbers) for name in names}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        where.update(dict.fromkeys(names, file))
    if len(files) > 1:
        index = {"metadata": {"total_size": 2 * sum(map(torch.Size.numel, shapes.values()))}, "weight_map": where}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _weight(name: str, shape: torch.Size, numbers: torch.Tensor) -> torch.Tensor:
    """Cut a matrix of deviation fan_in^-½ from random numbers, at a place that its name says; norms are 1.

    Args:
        name, shape: of the parameter.
        numbers: float32, the pool twice.

    Returns:
        bfloat16 of that shape.
    """
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.bfloat16)
    start, count = zlib.crc32(name.encode()) % _POOL, int(shape.numel())
    stretch: torch.Tensor = (numbers[start : start + min(count, _POOL)] * shape[-1] ** -0.5).to(torch.bfloat16)
    return stretch.repeat(-(-count // _POOL))[:count].view(shape)


def _write_texts(folder: Path, side: str, vocab_size: int) -> None:
    source = builtin_folder() / side
    for name in _TEXTS:
        shutil.copy(source / name, folder / name)
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    known = tokenizer["model"]["vocab"]
    # Added tokens keep their ids only where the vocabulary has them; else they are put after its last.
    known.update({token["content"]: token["id"] for token in tokenizer["added_tokens"]})
    taken = {*known.values()}
    known.update({f"<filler {i}>": i for i in range(vocab_size) if i not in taken})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
