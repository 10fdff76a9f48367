"""Two checkpoint folders on disk -> :class:`~dami_agent.weights.Weights`.

Both endpoints go through transformers' own loader, so that names and layouts are those of the loaded module
(transformers 5 fuses the experts of a mixture into one 3-D tensor, for example).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import get_max_memory
from transformers import PreTrainedModel

from dami_agent.checkpoints import loading
from dami_agent.errors import UsageError
from dami_agent.types import WeightsMode
from dami_agent.weights.base import Weights
from dami_agent.weights.endpoints import load_endpoint, pair_slots
from dami_agent.weights.merged import MergedWeights
from dami_agent.weights.mixed import MixedWeights, require_mixed_support
from dami_agent.weights.norms import fuse_norms

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_weights(
    instruct: Path,
    thinking: Path,
    *,
    mode: WeightsMode,
    device: str = "cpu",
    dtype: str | torch.dtype = "float32",
    device_map: str | Mapping[str, Any] | None = None,
    attn_implementation: str | None = None,
) -> Weights:
    """Load both endpoints of a verified pair.

    On the CPU, tensors whose dtype is that of the file stay memory-mapped: the files must not be changed while the
    weights are in use, and their pages cost no memory that the operating system could not take back.

    Args:
        instruct: folder of the Instruct checkpoint (safetensors).
        thinking: folder of the Thinking checkpoint.
        mode: ``merged`` or ``mixed``.
        device: a torch device; both endpoints (and the working copy) live there. Ignored when ``device_map`` is given.
        dtype: ``float32``, ``bfloat16`` or ``float16``; what the model computes in.
        device_map: accelerate's placement (module name -> device, or ``"auto"``), merged only; offloading to CPU
            memory works, offloading to disk is refused.
        attn_implementation: transformers' choice when None.

    Raises:
        UsageError: unknown mode, dtype or device; a placement or an architecture the mode does not support.
        CheckpointNotFound: a folder without ``config.json``.
        UnsupportedCheckpoint: NaN or infinity (file and tensor are named), missing tensors.
        IncompatiblePair: the loaded modules do not have the same parameters, or fixed buffers differ.
    """
    if mode not in ("merged", "mixed"):
        raise UsageError(f"unknown weights mode {mode!r}", hint="choose 'merged' or 'mixed'")
    torch_dtype, torch_device = _parse_dtype(dtype), _parse_device(device)
    if mode == "mixed":
        if device_map is not None:
            raise UsageError(
                "mixed weights run on one device and take no device_map",
                hint="pass device=..., or choose mode='merged' for a model spread over devices",
            )
        require_mixed_support(Path(instruct))
    options: dict[str, Any] = {"dtype": torch_dtype, "attn_implementation": attn_implementation}
    options |= _placement(torch_device, device_map)
    with loading.exclusively():  # the mixed modules are made in it too: accelerate patches how modules are made
        model = load_endpoint(Path(instruct), **options)
        if isinstance(device_map, str):  # chosen for the first endpoint; the second goes where the first went
            options["device_map"] = getattr(model, "hf_device_map", {"": _home(model)})
        other = load_endpoint(Path(thinking), **options)
        slots = pair_slots(model, other, instruct=Path(instruct), thinking=Path(thinking))
        home = torch_device if device_map is None else _home(model)
        if mode == "merged":
            if device_map is None:  # accelerate's hooks sit on the modules that it has spread
                fuse_norms(model)
            return MergedWeights(model, slots, device=home, dtype=torch_dtype)
        return MixedWeights(model, other, device=home, dtype=torch_dtype)


def _placement(device: torch.device, device_map: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """Return ``from_pretrained``'s placement arguments; none for the plain CPU, where tensors stay memory-mapped."""
    if device_map is None:
        return {} if device.type == "cpu" else {"device_map": {"": device}}
    if not isinstance(device_map, str):
        return {"device_map": dict(device_map)}
    # Every device will hold three tensors where transformers plans for one: two endpoints and the working copy.
    return {"device_map": device_map, "max_memory": {key: size // 3 for key, size in get_max_memory().items()}}


def _home(model: PreTrainedModel) -> torch.device:
    """Return where a placed model takes its inputs: the device its embedding runs on."""
    embedding = model.get_input_embeddings()
    hook = getattr(embedding, "_hf_hook", None)
    for candidate in getattr(hook, "hooks", (hook,)):  # accelerate wraps several hooks of one module in one
        device = getattr(candidate, "execution_device", None)
        if device is not None:
            return torch.device(device)
    return next(embedding.parameters()).device


def _parse_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """Return the torch dtype meant, if it is one that weights can be merged and run in."""
    parsed = _DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if parsed is None or parsed not in _DTYPES.values():
        raise UsageError(f"weights cannot be loaded as {dtype!r}", hint=f"choose one of {', '.join(_DTYPES)}")
    return parsed


def _parse_device(device: str) -> torch.device:
    """Return the torch device meant, if this machine has it."""
    try:
        parsed = torch.device(device)
        torch.empty(0, device=parsed)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"device {device!r} cannot be used here: {error}", hint="pass 'cpu', or 'cuda' on a GPU machine"
        ) from error
    if parsed.type == "meta":
        raise UsageError("device 'meta' holds no weights", hint="pass 'cpu' or 'cuda'")
    return parsed
