"""The slow, obvious references of the weights' tests. Nothing here uses the package."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel


def merge_files(instruct: Path, thinking: Path, lam: float, out: Path) -> Path:
    """Write a checkpoint whose every tensor is a + λ(b − a) in float64, rounded to the file's own dtype."""
    shutil.copytree(instruct, out)
    for file in out.glob("*.safetensors"):
        file.unlink()
    (out / "model.safetensors.index.json").unlink(missing_ok=True)
    ends = []
    for folder in (instruct, thinking):
        tensors: dict[str, Tensor] = {}
        for file in sorted(folder.glob("*.safetensors")):
            tensors |= load_file(file)
        ends.append(tensors)
    merged = {}
    for name, a in ends[0].items():
        b = ends[1][name]
        merged[name] = (a.double() + lam * (b.double() - a.double())).to(a.dtype).contiguous()
    save_file(merged, out / "model.safetensors", metadata={"format": "pt"})
    return out


def load_reference(folder: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """What transformers makes of a checkpoint, and nothing else."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


def tensors_of(model: PreTrainedModel) -> dict[str, Tensor]:
    """Copies of all parameters and buffers, tied ones under each name."""
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {name: tensor.detach().clone() for name, tensor in named}


def kinds_of(model: PreTrainedModel) -> dict[str, tuple[str, int | None]]:
    """Kind and layer of every parameter, by the classes and attributes of the model's modules: no name is parsed."""
    found: dict[str, tuple[str, int | None]] = {}
    body = getattr(model, "model", None) or model.transformer
    layers = body.layers if hasattr(body, "layers") else body.h
    where = {id(module): number for number, layer in enumerate(layers) for module in layer.modules()}
    blocks = {}
    for layer in layers:
        blocks |= {id(m): "attention" for m in getattr(layer, "self_attn", getattr(layer, "attn", None)).modules()}
        blocks |= {id(m): "ffn" for m in layer.mlp.modules()}
    for path, module in model.named_modules():
        kind = blocks.get(id(module), "other")
        if type(module).__name__.endswith("Norm"):
            kind = "norm"
        elif isinstance(module, torch.nn.Embedding) or module is model.get_output_embeddings():
            kind = "embedding"
        for name, _ in module.named_parameters(recurse=False):
            found[f"{path}.{name}"] = (kind, where.get(id(module)))
    return found


def load_per_module(instruct: Path, thinking: Path, values: dict[tuple[str, int | None], float]) -> PreTrainedModel:
    """Instruct's model with every parameter set to (1 - λ)·own + λ·Thinking's, computed in float64."""
    model, other = load_reference(instruct), load_reference(thinking)
    kinds, theirs = kinds_of(model), dict(other.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # a tied one comes once
            lam = values[kinds[name]]
            parameter.copy_((1 - lam) * parameter.double() + lam * theirs[name].double())
    return model


def random_batch(vocab: int, lengths: list[int], generator: torch.Generator) -> dict[str, Tensor]:
    """Random left-padded ids with their mask and positions; row i has ``lengths[i]`` real tokens."""
    longest = max(lengths)
    mask = torch.tensor([[0] * (longest - n) + [1] * n for n in lengths])
    ids = torch.randint(0, vocab, mask.shape, generator=generator)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}


def edit_config(folder: Path, **changes: object) -> None:
    """Set fields of config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
