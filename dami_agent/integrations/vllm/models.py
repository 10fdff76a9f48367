"""Give vLLM its own Qwen3, Qwen2 and Llama with a second endpoint's weights beside the first's.

Both are loaded by vLLM's own loader, so fusing and sharding stay vLLM's. The Thinking checkpoint's folder is
``additional_config[THINKING]``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.linear import LinearBase
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding
from vllm.model_executor.model_loader.weight_utils import safetensors_weights_iterator
from vllm.model_executor.models.llama import LlamaForCausalLM
from vllm.model_executor.models.qwen2 import Qwen2ForCausalLM
from vllm.model_executor.models.qwen3 import Qwen3ForCausalLM

from dami_agent.integrations.vllm.mixed_layers import IntensityRows, MixedNorm, MixedWeightsMethod
from dami_agent.integrations.vllm.plugin import THINKING

__all__ = ["DamiLlamaForCausalLM", "DamiQwen2ForCausalLM", "DamiQwen3ForCausalLM"]


class _MixedModel(nn.Module):
    """Adds to a causal language model of vLLM's the weights of a second endpoint, and λ per token.

    λ reaches the logits, which are computed of some rows only, as two more columns of the hidden states: one alone
    would lose λ's last digits in bfloat16.
    """

    intensity_rows: IntensityRows

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        self.vllm_config = vllm_config  # not every model of vLLM's keeps it

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Load both endpoints, one after the other, and let every layer compute with both."""
        loaded: set[str] = super().load_weights(weights)  # type: ignore[misc]
        instruct = {}
        for name, parameter in self.named_parameters():
            instruct[name] = parameter.data
            parameter.data = torch.empty_like(parameter.data)
        again = super().load_weights(_tensors(_thinking_folder(self.vllm_config)))  # type: ignore[misc]
        if again != loaded:
            raise ValueError(f"the Thinking checkpoint lacks, or has beyond Instruct's: {sorted(again ^ loaded)}")
        thinking = {name: parameter.data for name, parameter in self.named_parameters()}
        scheduler = self.vllm_config.scheduler_config
        size = max(scheduler.max_num_batched_tokens, scheduler.max_num_seqs)
        self.intensity_rows = IntensityRows(size, next(iter(instruct.values())).device)
        _replace_layers(self, self.intensity_rows, instruct, thinking)
        return loaded

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return the hidden states, and beside each its λ in two more columns."""
        hidden = super().forward(*args, **kwargs)
        at = self.intensity_rows.tokens[: hidden.shape[0]]
        coarse = at.to(hidden.dtype)
        return torch.cat((hidden, coarse, (at - coarse.float()).to(hidden.dtype)), -1)

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        """Return the logits of some rows of what :meth:`forward` returned, each at its own λ."""
        self.intensity_rows.logits = hidden_states[:, -2:].float().sum(-1, keepdim=True)
        logits: torch.Tensor | None = super().compute_logits(hidden_states[:, :-2].contiguous())  # type: ignore[misc]
        return logits

    def get_model_state_cls(self) -> type:
        """Return what tells vLLM's second model runner the λ of every row."""
        from dami_agent.integrations.vllm.runners import model_state_class

        return model_state_class()


class DamiQwen3ForCausalLM(_MixedModel, Qwen3ForCausalLM):
    """Runs a pair of Qwen3 checkpoints."""


class DamiQwen2ForCausalLM(_MixedModel, Qwen2ForCausalLM):
    """Runs a pair of Qwen2 or Qwen2.5 checkpoints."""


class DamiLlamaForCausalLM(_MixedModel, LlamaForCausalLM):
    """Runs a pair of Llama checkpoints."""


def _thinking_folder(vllm_config: Any) -> Path:
    folder = (vllm_config.additional_config or {}).get(THINKING)
    if not folder or not Path(folder).is_dir():
        raise ValueError(f"additional_config[{THINKING!r}] must name the Thinking checkpoint's folder, got {folder!r}")
    return Path(folder)


def _tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    files = sorted(map(str, folder.glob("*.safetensors")))
    yield from safetensors_weights_iterator(files, use_tqdm_on_load=False)


def _replace_layers(
    model: nn.Module, rows: IntensityRows, instruct: dict[str, torch.Tensor], thinking: dict[str, torch.Tensor]
) -> None:
    """Let every layer with weights compute with both endpoints'; a layer that is none of those known is refused."""
    tied = "lm_head.weight" not in instruct
    used: set[str] = set()
    for name, module in list(model.named_modules()):
        key = f"{name}.weight"
        if isinstance(module, (LinearBase, VocabParallelEmbedding)):
            head = isinstance(module, ParallelLMHead)
            key = "model.embed_tokens.weight" if head and tied else key
            bias = f"{name}.bias"
            biases = (instruct[bias], thinking[bias]) if bias in instruct else None
            module.quant_method = MixedWeightsMethod(rows, instruct[key], thinking[key], biases, head=head)
            module.weight = nn.Parameter(torch.empty(0, dtype=instruct[key].dtype), requires_grad=False)
            used |= {key, bias}
        elif isinstance(module, RMSNorm):
            model.set_submodule(name, MixedNorm(rows, instruct[key], thinking[key], module.variance_epsilon))
            used.add(key)
    if left := sorted(set(instruct) - used):
        raise ValueError(f"no form with two endpoints is known for {', '.join(left)}")
