"""From a verified pair to an engine: where it runs, in which dtype and mode, and which tokens bound a thought."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from dami_agent.errors import InvalidRequest
from dami_agent.runtime.thought import ThoughtMarkers
from dami_agent.types import EngineInfo, WeightsMode
from dami_agent.weights import Weights, load_weights, supports_mixed

if TYPE_CHECKING:
    from dami_agent.checkpoints import CheckpointPair
    from dami_agent.runtime.engine import LocalEngine

__all__ = ["find_markers", "open_engine"]

_UNKNOWN_CONTEXT = 4096  # where the configs name no context length


def open_engine(
    engine_class: type[LocalEngine],
    pair: CheckpointPair,
    *,
    device: str = "auto",
    dtype: str = "auto",
    mode: str = "auto",
    context_length: int | None = None,
    **options: Any,
) -> LocalEngine:
    """Choose, load the tokenizer, and make an engine that loads the weights when they are first needed.

    Args:
        engine_class: ``LocalEngine`` or a subclass.
        pair: verified.
        device, dtype, mode: ``auto`` or a choice; the reasons are in ``engine.info.reasons``.
        context_length: tokens of prompt and reply together; at most, and without it, what the pair was made for.
        options: of :class:`LocalEngine` (``max_batch_size``, ``max_batch_tokens``, ``max_queue``, ``loop_rule``).

    Raises:
        InvalidRequest: a context length the pair cannot have.
    """
    own = pair.context_length or _UNKNOWN_CONTEXT
    context = own if context_length is None else context_length
    if not 1 < context <= own:
        raise InvalidRequest(
            f"context_length={context} must lie in 2..{own}, the length both checkpoints were made for",
            hint="leave it out to use all of it",
        )
    reasons: dict[str, str] = {}
    chosen_device = _choose_device(device, reasons)
    chosen_dtype = _choose_dtype(dtype, chosen_device, reasons)
    chosen_mode = _choose_mode(mode, pair, reasons)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(pair.instruct.path, trust_remote_code=False)

    def load() -> Weights:
        return load_weights(
            pair.instruct.path, pair.thinking.path, mode=chosen_mode, device=chosen_device, dtype=chosen_dtype
        )

    return engine_class(
        load,
        tokenizer,
        info=EngineInfo(
            model=pair.name,
            fingerprint=pair.fingerprint,
            context_length=context,
            vocab_size=int(pair.config["vocab_size"]),
            weights_mode=chosen_mode,
            device=chosen_device,
            dtype=chosen_dtype,
            reasons=reasons,
        ),
        markers=find_markers(tokenizer),
        eos_token_ids=pair.eos_token_ids,
        generation_defaults={
            "instruct": pair.instruct.generation_config,
            "thinking": pair.thinking.generation_config,
        },
        **options,
    )


def find_markers(tokenizer: PreTrainedTokenizerBase) -> ThoughtMarkers:
    """The single tokens of the vocabulary around a thought; None for each that it lacks."""
    vocabulary = tokenizer.get_vocab()
    return ThoughtMarkers(
        open_id=vocabulary.get("<think>"),
        close_id=vocabulary.get("</think>"),
        tool_call_id=vocabulary.get("<tool_call>"),
        after_close_ids=tuple(tokenizer.encode("\n\n", add_special_tokens=False)),
    )


def _choose_device(asked: str, reasons: dict[str, str]) -> str:
    if asked != "auto":
        reasons["device"] = "asked for"
        return asked
    gpu = torch.cuda.is_available()
    reasons["device"] = "a CUDA device is there" if gpu else "no CUDA device"
    return "cuda" if gpu else "cpu"


def _choose_dtype(asked: str, device: str, reasons: dict[str, str]) -> str:
    if asked != "auto":
        reasons["dtype"] = "asked for"
        return asked
    reasons["dtype"] = "bfloat16 on a GPU, float32 on a CPU"
    return "float32" if device == "cpu" else "bfloat16"


def _choose_mode(asked: str, pair: CheckpointPair, reasons: dict[str, str]) -> WeightsMode:
    if asked != "auto":
        reasons["weights_mode"] = "asked for"
        return "mixed" if asked == "mixed" else "merged"
    mixable = supports_mixed(pair.config)
    reasons["weights_mode"] = (
        "every row of a batch can have its own λ" if mixable else "this architecture runs one λ per forward pass"
    )
    return "mixed" if mixable else "merged"
