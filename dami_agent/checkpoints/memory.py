"""Calculate memory in bytes: what weights, KV cache and activations take, and what the devices have free.

Knows the shapes of a verified pair and asks the machine; decides nothing (``plan`` does).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dami_agent.types import WeightsMode

if TYPE_CHECKING:
    from dami_agent.checkpoints.pair import CheckpointPair

ITEMSIZE = {"float32": 4, "bfloat16": 2, "float16": 2}
RESERVE = 0.10  # share of a device's free memory left alone: allocator slack, other processes, the interpreter
PREFILL_TOKENS = 8192  # tokens of one forward pass at most, over all rows of a batch, as the runtime cuts them
LOGIT_ROWS = 16  # rows whose float32 logits are held at once


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Says what the weights of one mode take on one device.

    Attributes:
        resident: bytes that must stay in memory at any time.
        mapped: bytes of files mapped from disk besides; the system drops and re-reads them as it likes, which costs a
            read from disk when λ changes.
    """

    resident: int
    mapped: int = 0

    @property
    def total(self) -> int:
        """Add both up: with this much free, nothing is read from disk twice."""
        return self.resident + self.mapped


@dataclass(frozen=True, slots=True)
class Shapes:
    """Holds the sizes of a pair that memory depends on.

    Attributes:
        parameters: of one model; tied ones once.
        kv_values: keys and values that one token adds to the cache, over all layers.
        hidden: hidden size; ``intermediate`` width of the MLP; ``vocab`` rows of the embedding.
        stored: dtype of the files.
    """

    parameters: int
    kv_values: int
    hidden: int
    intermediate: int
    vocab: int
    stored: str

    def weights(self, dtype: str) -> int:
        """Count the bytes of one model's weights in ``dtype``."""
        return self.parameters * ITEMSIZE[dtype]

    def kv_per_token(self, dtype: str) -> int:
        """Count KV-cache bytes per token and request: 2 · layers · KV heads · head size · itemsize."""
        return self.kv_values * ITEMSIZE[dtype]

    def activations(self, dtype: str, mode: WeightsMode, tokens: int) -> int:
        """Estimate, on the high side, what a prefill of ``tokens`` needs at its widest point, logits included.

        Per token eight hidden states and four MLP widths (input, gate, up, product); one float mask of tokens²; mixed
        weights hold each linear layer's two outputs.
        """
        tokens = min(tokens, PREFILL_TOKENS)
        width = tokens * (8 * self.hidden + 4 * self.intermediate) * ITEMSIZE[dtype]
        return width * (2 if mode == "mixed" else 1) + 4 * tokens * tokens + 4 * LOGIT_ROWS * self.vocab

    def need(self, mode: WeightsMode, dtype: str, device: str) -> MemoryNeed:
        """Calculate what the weights take, as ``weights.load_weights`` holds them.

        Endpoints in the files' own dtype stay memory-mapped on the CPU. Mixed reads both for every token, so they
        have to stay in memory all the same; merged reads them only when λ changes. Elsewhere all are copied.
        """
        one, mapped = self.weights(dtype), device == "cpu" and dtype == self.stored
        if mode == "mixed":
            return MemoryNeed(2 * one)
        return MemoryNeed(one, 2 * one) if mapped else MemoryNeed(3 * one)


def shapes_of(pair: CheckpointPair) -> Shapes:
    """Read the sizes off the pair's config and layout."""
    config: Any = pair.model_config().get_text_config()
    return Shapes(
        parameters=sum(math.prod(shape) for shape in pair.layout.parameters.values()),
        kv_values=_kv_values(config),
        hidden=config.hidden_size,
        intermediate=int(getattr(config, "intermediate_size", None) or 4 * config.hidden_size),
        vocab=config.vocab_size,
        stored=pair.instruct.dtype,
    )


def _kv_values(config: Any) -> int:
    """Count keys and values per token. Sliding windows count as if they did not slide: an upper bound."""
    heads = config.num_attention_heads
    kinds = getattr(config, "layer_types", None)
    layers = sum(k != "linear_attention" for k in kinds) if kinds else config.num_hidden_layers
    if getattr(config, "kv_lora_rank", None):  # multi-head latent attention: transformers caches it expanded
        return int(layers * heads * (config.qk_nope_head_dim + config.qk_rope_head_dim + config.v_head_dim))
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return int(2 * layers * (getattr(config, "num_key_value_heads", None) or heads) * size)


def free_memory(memory: Mapping[str, int] | None = None) -> dict[str, int]:
    """Measure the bytes free per device (``cpu``, ``cuda:0``, ``mps``…), accelerators by falling size, then the CPU.

    Args:
        memory: said instead of measured, for example by a test.
    """
    if memory is None:
        import psutil
        from accelerate.utils import get_max_memory

        found = {
            f"cuda:{key}" if isinstance(key, int) else str(key): int(size) for key, size in get_max_memory().items()
        }
        memory = {"cpu": int(psutil.virtual_memory().available)} | found
    return dict(sorted(memory.items(), key=lambda item: (item[0] == "cpu", -item[1])))


def computes_bfloat16(device: str) -> bool:
    """Tell whether a device has bfloat16 units (CUDA: compute capability 8.0); emulation does not count.

    A CPU is asked through torch; one that an older torch cannot ask is taken to have them, as is any other device.
    """
    # torch is asked through accelerate: this room imports none. Its own is_bf16_supported counts emulation.
    from accelerate.utils import modeling

    if device == "cpu":
        ask = getattr(modeling.torch.cpu, "get_capabilities", None)
        found = ask() if ask else {"bf16": True}
        return any(bool(found.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    if not device.startswith("cuda"):
        return True
    major, _ = modeling.torch.cuda.get_device_capability(int(device.partition(":")[2] or 0))
    return bool(major >= 8)


def gigabytes(size: float) -> str:
    """Format bytes for people: ``16.1 GB`` (10⁹ bytes), ``3.2 MB`` or ``1.4 kB``."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if size >= scale * 0.95:
            return f"{size / scale:.1f} {unit}"
    return f"{size / 1e3:.1f} kB"
