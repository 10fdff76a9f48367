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
