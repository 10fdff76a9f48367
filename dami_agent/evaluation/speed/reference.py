"""Do with transformers alone what the engine does: merge two checkpoints' files, load them, generate."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GenerationConfig

from dami_agent.checkpoints.layout import quiet_transformers
from dami_agent.evaluation.speed.comparison import Work

_PAGE = 64
"""Tokens in a page of the continuous batching's cache; its default of 256 leaves most of a short request's unused."""
_CHUNK = 128
"""Tokens in one of its passes on a CPU, where it computes attention between all of them and all that is cached of
anybody, so that long passes cost more than they save; its default goes by a GPU's memory."""


def merge_files(instruct: Path, thinking: Path, intensity: float, out: Path) -> None:
    """Write the checkpoint (1−λ)·Instruct + λ·Thinking, file by file as Instruct's are cut.

    Args:
        instruct, thinking: folders with safetensors.
        intensity: λ.
        out: is made anew.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for name in ("config.json", "generation_config.json", "model.safetensors.index.json"):
        if (instruct / name).exists():
            shutil.copy(instruct / name, out / name)
    where = {name: file for file in sorted(thinking.glob("*.safetensors")) for name in _names(file)}
    for file in sorted(instruct.glob("*.safetensors")):
        merged = {}
        for name, tensor in load_file(file).items():
            if name in where and tensor.is_floating_point():
                with safe_open(where[name], framework="pt") as handle:
                    merged[name] = torch.lerp(tensor, handle.get_tensor(name), intensity)
            else:  # stored by Instruct alone: a tied head
                merged[name] = tensor
        save_file(merged, out / file.name, metadata={"format": "pt"})


def _names(file: Path) -> list[str]:
    with safe_open(file, framework="pt") as handle:
        return list(handle.keys())


class TransformersModel:
    """Generates with ``transformers`` alone, greedily and past every end of sequence.

    Args:
        folder: of a checkpoint.
        device, dtype: as the engine's.
    """

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        place: dict[str, Any] = {} if device == "cpu" else {"device_map": {"": device}}
        loader = cast(Any, AutoModelForCausalLM)
        with quiet_transformers():
            self.model: Any = loader.from_pretrained(folder, dtype=getattr(torch, dtype), **place).eval()
        self.model.generation_config = _config()  # the checkpoint's own would end and sample replies
        self._device = device

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Work:
        """Answer all prompts in one call of ``generate``, padded on the left to the longest."""
        began = time.perf_counter()
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(prompt)) + [*prompt] for prompt in prompts], device=self._device)
        places = torch.arange(width, device=self._device)[None, :]
        first = torch.tensor([width - len(prompt) for prompt in prompts], device=self._device)[:, None]
        with torch.inference_mode(), quiet_transformers():
            written = self.model.generate(
                ids, attention_mask=(places >= first).long(), generation_config=_greedily(new_tokens)
            )
        replies = written[:, width:].tolist()
        return _work(began, prompts, replies)

    def generate_batch(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Work:
        """Answer all prompts by continuous batching, its cache sized for them.

        Raises:
            Exception: whatever the installed version raises where it cannot run this model here.
        """
        from transformers.generation.configuration_utils import ContinuousBatchingConfig

        fields = {field.name for field in dataclasses.fields(ContinuousBatchingConfig)}
        pages = sum(-(-(len(prompt) + new_tokens) // _PAGE) for prompt in prompts)
        sizes: dict[str, Any] = {"page_size" if "page_size" in fields else "block_size": _PAGE}
        if self._device == "cpu":
            sizes["max_batch_tokens"] = _CHUNK
        config = ContinuousBatchingConfig(
            allow_block_sharing=False,  # no prompts begin alike
            num_blocks=pages + len(prompts),
            **sizes,
        )
        began = time.perf_counter()
        with quiet_transformers():
            found = self.model.generate_batch(
                inputs=[list(prompt) for prompt in prompts],
                generation_config=_greedily(new_tokens, eos_token_id=-1),
                continuous_batching_config=config,
            )
        return _work(began, prompts, [each.generated_tokens for each in found.values()])

    def faster_batch(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> tuple[Any, str]:
        """Find which of the two ways to answer a batch is the faster one here.

        Returns:
            The method, and words on both for a row's note.
        """
        self.generate(prompts[:1], 1)
        padded = self.generate(prompts, new_tokens)
        try:
            continuous = self.generate_batch(prompts, new_tokens)
        except Exception as error:  # of whatever kind: versions differ in what they run on a CPU
            return self.generate, f"transformers' padded generate (generate_batch does not run: {type(error).__name__})"
        if continuous.amount != padded.amount:
            return self.generate, "transformers' padded generate (generate_batch does not finish all requests)"
        times = continuous.seconds / padded.seconds
        if times < 1:
            return self.generate_batch, f"transformers' generate_batch (padded generate takes {1 / times:.2g}× as long)"
        return self.generate, f"transformers' padded generate (generate_batch takes {times:.2g}× as long)"


def _greedily(new_tokens: int, **fields: Any) -> GenerationConfig:
    return _config(max_new_tokens=new_tokens, do_sample=False, pad_token_id=0, **fields)


def _config(**fields: Any) -> GenerationConfig:
    make: Any = GenerationConfig  # untyped in transformers
    return cast(GenerationConfig, make(**fields))


def _work(began: float, prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[int]]) -> Work:
    return Work(
        seconds=time.perf_counter() - began,
        requests=len(replies),
        prompt_tokens=sum(map(len, prompts)),
        new_tokens=sum(map(len, replies)),
    )
