"""Tiny random Instruct/Thinking pairs on disk, in the layout of a Hugging Face checkpoint. No download, no training.

``write_pair`` is what nearly every test of checkpoints, weights and runtime starts from. The weights are random and
the two differ by a random perturbation large enough that every λ is another model.
"""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any

import torch
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    trainers,
)
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CONTROL = (
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
)
TRAINING_TEXT = (
    "The quick brown fox jumps over the lazy dog. 0 1 2 3 4 5 6 7 8 9 10 + - * / = ( ) [ ] { } : ; , . ? ! \" '\n"
    'user assistant system tool {"name": "add", "arguments": {"a": 17, "b": 25}} So it is 42. Wait, let me check.\n'
) * 4

# Arguments of write_pair and write_sparse_pair for the real shapes of Qwen3: 596,049,920 and 4,022,468,096 parameters.
_QWEN3: dict[str, Any] = {"arch": "qwen3", "vocab": 151_936, "num_key_value_heads": 8, "head_dim": 128, "tie": True}
_QWEN3 |= {"rope_parameters": {"rope_type": "default", "rope_theta": 5_000_000.0}, "rms_norm_eps": 1e-6}
QWEN3_0_6B = _QWEN3 | {"hidden": 1024, "layers": 28, "intermediate_size": 3072, "num_attention_heads": 16}
QWEN3_0_6B |= {"context": 40_960}
QWEN3_4B = _QWEN3 | {"hidden": 2560, "layers": 36, "intermediate_size": 9728, "num_attention_heads": 32}
QWEN3_4B |= {"context": 262_144}

_MESSAGES = (
    "{%- if tools %}<|im_start|>system\n{% if messages[0].role == 'system' %}{{ messages[0].content }}\n\n{% endif %}"
    "# Tools\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<|im_end|>\n{% endif -%}"
    "{%- for m in messages %}{% if not (loop.first and tools and m.role == 'system') %}<|im_start|>{{ m.role }}\n"
    "{{ m.content }}{% for c in m.tool_calls or [] %}\n<tool_call>\n{{ (c.function or c) | tojson }}\n</tool_call>"
    "{% endfor %}<|im_end|>\n{% endif %}{% endfor -%}"
)
INSTRUCT_TEMPLATE = _MESSAGES + "{%- if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
THINKING_TEMPLATE = _MESSAGES + "{%- if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"


@functools.lru_cache
def _tokenizer_json(vocab: int) -> str:
    """A byte-level BPE of at most ``vocab`` tokens, Qwen's special tokens last (and with Qwen's ``special`` flags)."""
    added = [AddedToken(t, special=True, normalized=False) for t in SPECIAL]
    added += [AddedToken(t, special=False, normalized=False) for t in CONTROL]
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(r"\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=min(vocab - len(added), 1000),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TRAINING_TEXT], trainer)
    tokenizer.add_tokens(added)
    return str(tokenizer.to_str(pretty=True))


def write_tokenizer(folder: Path, *, vocab: int = 320, template: str | None = INSTRUCT_TEMPLATE) -> Tokenizer:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja as Qwen's public checkpoints have them."""
    folder.mkdir(parents=True, exist_ok=True)
    text = _tokenizer_json(vocab)
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "model_max_length": 1_000_000,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return Tokenizer.from_str(text)


def config_kwargs(arch: str, *, hidden: int, layers: int, vocab: int, tie: bool, context: int) -> dict[str, Any]:
    """Arguments of a small config of ``arch`` (a transformers ``model_type``); heads are 8 or 16 wide."""
    if arch == "gpt2":
        sizes = {
            "n_embd": hidden,
            "n_layer": layers,
            "n_head": 2,
            "n_positions": context,
        }
        return sizes | {"vocab_size": vocab, "tie_word_embeddings": tie}
    kwargs: dict[str, Any] = {
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": hidden * 2,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": context,
        "tie_word_embeddings": tie,
    }
    if arch.startswith("qwen3"):
        kwargs["head_dim"] = 16
    if arch == "qwen3_moe":
        kwargs |= {
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": hidden,
            "norm_topk_prob": True,
        }
    return kwargs


def _generation_config(ids: dict[str, int], thinking: bool) -> dict[str, Any]:
    return {
        "do_sample": True,
        "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]],
        "pad_token_id": ids["<|endoftext|>"],
        "temperature": 0.6 if thinking else 0.7,
        "top_p": 0.95 if thinking else 0.8,
        "top_k": 20,
        "transformers_version": "4.51.0",
    }


def _randomise(model: PreTrainedModel, seed: int) -> None:
    """Weights large enough that the logits of a two-layer model spread: norms near 1, matrices of gain about 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.1 * noise if parameter.dim() == 1 else noise * parameter.shape[-1] ** -0.5)


def _perturb(model: PreTrainedModel, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed + 1_000_003)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
            scale = 0.1 if parameter.dim() == 1 else 0.7 * parameter.shape[-1] ** -0.5
            parameter.add_((noise * scale).to(parameter.dtype))


def _save(model: PreTrainedModel, folder: Path, *, shards: int, thinking: bool, vocab: int) -> None:
    template = THINKING_TEMPLATE if thinking else INSTRUCT_TEMPLATE
    tokenizer = write_tokenizer(folder, vocab=vocab, template=template)
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    model.save_pretrained(folder, max_shard_size=size + 1 if shards == 1 else -(-size // shards))
    generation = _generation_config(tokenizer.get_vocab(), thinking)
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2), encoding="utf-8")


def write_pair(
    directory: str | Path,
    *,
    arch: str = "qwen3",
    seed: int = 0,
    hidden: int = 32,
    layers: int = 2,
    vocab: int = 320,
    dtype: str | torch.dtype = "bfloat16",
    shards: int = 1,
    tie: bool = True,
    context: int = 512,
    **config: Any,
) -> tuple[Path, Path]:
    """Write a random pair to ``directory/instruct`` and ``directory/thinking`` and return these two paths.

    Args:
        directory: made if need be.
        arch: transformers ``model_type``: qwen3, qwen2, llama, gpt2, qwen3_moe and others with these field names.
        seed: of all weights; another seed is another pair.
        hidden: hidden size, a multiple of 4; ``layers`` decoder layers; ``vocab`` rows of the embedding (≥ 270), the
            tokenizer fills all or nearly all of them.
        dtype: of the stored weights.
        shards: how many safetensors files each checkpoint has, at least (1: no index).
        tie: whether lm_head is the embedding.
        context: ``max_position_embeddings``.
        config: further config fields, over all others.
    """
    directory = Path(directory)
    paths = directory / "instruct", directory / "thinking"
    for folder in paths:
        folder.mkdir(parents=True, exist_ok=True)
    ids = json.loads(_tokenizer_json(vocab))
    eos = next(t["id"] for t in ids["added_tokens"] if t["content"] == "<|im_end|>")
    kwargs = config_kwargs(arch, hidden=hidden, layers=layers, vocab=vocab, tie=tie, context=context)
    kwargs |= {"eos_token_id": eos, "bos_token_id": None, "pad_token_id": None}
    torch_dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[arch](**(kwargs | config)), dtype=torch_dtype)
    _randomise(model, seed)
    _save(model, paths[0], shards=shards, thinking=False, vocab=vocab)
    _perturb(model, seed)
    _save(model, paths[1], shards=shards, thinking=True, vocab=vocab)
    return paths


def write_sparse_pair(directory: str | Path, *, shards: int = 1, **shape: Any) -> tuple[Path, Path]:
    """A pair of any size that costs no disk and no time: real configs and headers, weights that are holes (zeros).

    For opening, planning and refusing. ``shape`` is what :func:`write_pair` takes, for example ``**QWEN3_4B``.
    """
    from accelerate import init_empty_weights

    paths = Path(directory) / "instruct", Path(directory) / "thinking"
    kwargs = {k: shape.pop(k) for k in ("hidden", "layers", "vocab", "tie", "context")}
    arch = shape.pop("arch")
    config = CONFIG_MAPPING[arch](**(config_kwargs(arch, **kwargs) | shape), dtype="bfloat16")
    with init_empty_weights():
        model = AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    tensors = [(name, list(p.shape)) for name, p in model.named_parameters()]
    size = -(-len(tensors) // shards)
    for thinking, folder in enumerate(paths):
        tokenizer = write_tokenizer(folder, template=THINKING_TEMPLATE if thinking else INSTRUCT_TEMPLATE)
        generation = _generation_config(tokenizer.get_vocab(), bool(thinking))
        config.eos_token_id, config.architectures = generation["eos_token_id"][0], [type(model).__name__]
        config.save_pretrained(folder)
        (folder / "generation_config.json").write_text(json.dumps(generation), encoding="utf-8")
        weight_map = {}
        for index in range(shards):
            name = "model.safetensors" if shards == 1 else f"model-{index + 1:05}-of-{shards:05}.safetensors"
            _write_holes(folder / name, tensors[index * size : (index + 1) * size])
            weight_map |= dict.fromkeys((n for n, _ in tensors[index * size : (index + 1) * size]), name)
        if shards > 1:
            (folder / "model.safetensors.index.json").write_text(
                json.dumps({"weight_map": weight_map}), encoding="utf-8"
            )
    return paths


def _write_holes(path: Path, tensors: list[tuple[str, list[int]]]) -> None:
    """A safetensors file whose header is written and whose data is one hole."""
    header, end = {}, 0
    for name, shape in tensors:
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def edit_json(path: Path, **changes: Any) -> None:
    """Set (or, with None, remove) top-level keys of a JSON file: how a test breaks one field of a checkpoint."""
    data = json.loads(path.read_text(encoding="utf-8"))
    for key, value in changes.items():
        if value is None:
            data.pop(key, None)
        else:
            data[key] = value
    path.write_text(json.dumps(data, indent=2), encoding="utf-8")
