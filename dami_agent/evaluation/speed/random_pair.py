"""Write a pair of random weights in the shape of a published model: as fast as the real one, and of no other use."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
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


def write_random_pair(folder: Path, shape: str) -> CheckpointPair:
    """Write a bfloat16 pair to ``folder/instruct`` and ``folder/thinking``, and open it.

    Tokenizer and chat templates are the built-in pair's, the vocabulary filled up to the shape's with tokens that no
    text has.

    Args:
        folder: exists.
        shape: a name of ``SHAPES``.
    """
    config = Qwen3Config(**SHAPES[shape], tie_word_embeddings=True, dtype="bfloat16")
    generator = torch.Generator().manual_seed(0)
    with quiet_transformers():
        construct: Any = AutoModelForCausalLM.from_config  # untyped in transformers
        model = construct(config, dtype=torch.bfloat16)
        for side, scale in (("instruct", 1.0), ("thinking", _DISTANCE)):
            _add_noise(model, scale, generator)
            model.save_pretrained(folder / side)
            _write_texts(folder / side, side, int(config.vocab_size))
    sides = (Checkpoint.open(folder / side, source=f"{shape}/{side}") for side in ("instruct", "thinking"))
    return CheckpointPair.of(*sides, name=f"random-{shape}")


def _add_noise(model: torch.nn.Module, scale: float, generator: torch.Generator) -> None:
    """Move every matrix by a random one of deviation ``scale`` × fan_in^-½; norms stay 1."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
                parameter.add_((noise * scale * parameter.shape[-1] ** -0.5).to(parameter.dtype))


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
