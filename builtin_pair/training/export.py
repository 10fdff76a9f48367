"""Checkpoint folders: config, generation defaults, tokenizer, template and weights, as transformers reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import Qwen3Config, Qwen3ForCausalLM

from builtin_pair.training import templates
from builtin_pair.training.tokenizer import END, STOP, wrap

State = Mapping[str, torch.Tensor]
"""Parameter name -> weights; a tied head may be missing."""

SHAPE: dict[str, Any] = {
    "hidden_size": 192,
    "intermediate_size": 576,
    "num_hidden_layers": 8,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 32,
}
"""3.7 M parameters: small enough that two CPU cores run hundreds of dialogues at once, and train it in hours."""

SAMPLING: dict[str, dict[str, Any]] = {
    "base": {"do_sample": True, "temperature": 1.0},
    "instruct": {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20},
    "thinking": {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20, "thought_closing_words": "\n"},
}
"""Generation defaults of Qwen3-4B-Instruct-2507 and -Thinking-2507; a thought that is cut short ends like any other,
which the pair goes on from best (`python -m dami_agent.evaluation.forced_close`)."""


def configuration(tokenizer: Tokenizer, shape: Mapping[str, Any] = SHAPE) -> Qwen3Config:
    """Return the pair's architecture over a tokenizer, or another of the same kind."""
    return Qwen3Config(
        vocab_size=tokenizer.get_vocab_size(),
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        rms_norm_eps=1e-6,
        attention_bias=False,
        attention_dropout=0.0,
        initializer_range=0.02,
        bos_token_id=tokenizer.token_to_id(END),
        eos_token_id=tokenizer.token_to_id(STOP),
        pad_token_id=tokenizer.token_to_id(END),
        **shape,
    )


def fresh(tokenizer: Tokenizer, seed: int, shape: Mapping[str, Any] = SHAPE) -> Qwen3ForCausalLM:
    """Return a newly initialised model."""
    torch.manual_seed(seed)
    return Qwen3ForCausalLM(configuration(tokenizer, shape))


def save(
    folder: Path, role: str, state: dict[str, torch.Tensor], tokenizer: Tokenizer, shape: Mapping[str, Any] = SHAPE
) -> None:
    """Write one checkpoint folder; weights are rounded to bf16, the tied head is left out as transformers does.

    Args:
        folder: made if it is not there.
        role: ``base``, ``instruct`` or ``thinking``, which decides template and generation defaults.
        state: parameter name -> weights.
        tokenizer: the pair's.
        shape: the architecture, as in ``SHAPE``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = configuration(tokenizer, shape)
    config.architectures = ["Qwen3ForCausalLM"]
    config.dtype = torch.bfloat16
    config.save_pretrained(folder)
    template = templates.THINKING if role == "thinking" else templates.INSTRUCT
    wrap(tokenizer, template).save_pretrained(folder)
    ends = [tokenizer.token_to_id(STOP), tokenizer.token_to_id(END)]
    generation = {"bos_token_id": ends[1], "eos_token_id": ends, "pad_token_id": ends[1], **SAMPLING[role]}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    weights = {name: value.detach().to(torch.bfloat16).contiguous() for name, value in state.items()}
    weights.pop("lm_head.weight", None)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)


def load_state(folder: Path, device: torch.device | str = "cpu") -> dict[str, torch.Tensor]:
    """Return a checkpoint's weights as fp32."""
    return {name: value.float() for name, value in load_file(folder / "model.safetensors", str(device)).items()}
