"""Load one endpoint, and pair the tensors of two: each live tensor of the model with its two immutable ends."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as progress

from dami_agent.checkpoints import loading
from dami_agent.checkpoints.guard import said
from dami_agent.errors import (
    CheckpointNotFound,
    DamiError,
    IncompatiblePair,
    InsufficientMemory,
    Mismatch,
    UnsupportedCheckpoint,
    UsageError,
)


@dataclass(slots=True)
class Slot:
    """One tensor of the loaded model and the two ends it moves between.

    Tied parameters are one tensor under several names, hence one slot.

    Attributes:
        names: all names of the tensor in the model.
        targets: the modules' own parameters or buffers, whose ``.data`` is pointed at the weights in use.
        stored: for parameters offloaded to CPU memory: the mappings accelerate fetches them from, and their keys.
        instruct: λ=0; never written to.
        thinking: λ=1; never written to.
        working: the merged tensor; None until a λ between the ends is asked for.
    """

    names: tuple[str, ...]
    targets: list[Tensor]
    stored: list[tuple[dict[str, Tensor], str]]
    instruct: Tensor
    thinking: Tensor
    working: Tensor | None = None

    def point_to(self, tensor: Tensor) -> None:
        """Make the model compute with ``tensor`` from now on (no copy)."""
        for target in self.targets:
            target.data = tensor
        for store, key in self.stored:
            store[key] = tensor


def read_config(folder: Path) -> dict[str, Any]:
    """Read a checkpoint's ``config.json``. Raises :class:`CheckpointNotFound` if it is not there."""
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointNotFound(
            f"{folder}: no readable config.json: {error}", hint="pass a folder as save_pretrained writes it"
        ) from error
    return config


_pid = os.getpid()


def _renew_thread_pool() -> None:
    """Make torch's thread pool anew in a forked child, while one thread asks for it.

    torch replaces the pool that a child inherits at its first use, and a second thread that asks meanwhile gets none
    ("Invalid thread pool!", aten/src/ATen/ParallelOpenMP.cpp); transformers reads tensors on several threads.
    """
    global _pid
    if os.getpid() != _pid:
        torch.set_num_threads(torch.get_num_threads())
        _pid = os.getpid()


def load_endpoint(folder: Path, **options: Any) -> PreTrainedModel:
    """Load one checkpoint for inference and check that it is whole and finite.

    Args:
        folder: a folder with ``config.json`` and safetensors.
        options: ``dtype``, ``device_map``, ``max_memory``, ``attn_implementation`` as ``from_pretrained`` takes them.

    Raises:
        CheckpointNotFound: no such folder, or no ``config.json`` in it.
        UnsupportedCheckpoint: unreadable files, missing parameters, shapes that do not fit, NaN or infinity.
        InsufficientMemory: the device has no room for it.
    """
    read_config(folder)
    loader: Any = cast(Any, AutoModelForCausalLM)  # typed without the second result of output_loading_info
    safe = {"use_safetensors": True, "trust_remote_code": False, "local_files_only": True}

    def read() -> Any:
        _renew_thread_pool()
        with _quiet_if_small(folder):
            return loader.from_pretrained(folder, output_loading_info=True, **safe, **options)

    try:
        model, info = loading.load(read)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise InsufficientMemory(
            f"{folder}: no room to load it: {error}", hint="choose dtype 'bfloat16', another device or a device_map"
        ) from error
    except DamiError:
        raise
    except Exception as error:  # strangers' files: whatever they make the loader raise
        raise UnsupportedCheckpoint(
            f"{folder}: transformers cannot load it: {said(error)}",
            hint="`dami doctor` checks a pair's files; weights must be safetensors of an architecture in transformers",
        ) from error
    for what in ("missing_keys", "mismatched_keys", "error_msgs"):
        if info.get(what):
            raise UnsupportedCheckpoint(
                f"{folder}: {what.replace('_', ' ')} while loading: {', '.join(sorted(map(str, info[what])))}",
                hint="the model would run with random numbers there; download the checkpoint again",
            )
    model.eval().requires_grad_(False)
    refuse_non_finite(model, folder)
    return cast(PreTrainedModel, model)


@contextmanager
def _quiet_if_small(folder: Path) -> Iterator[None]:
    """Hide the progress bar of checkpoints that load at once; transformers has only a global switch, hence the lock."""
    small = sum(file.stat().st_size for file in folder.glob("*.safetensors")) < 2**29
    with loading.exclusively():
        if not (small and progress.is_progress_bar_enabled()):
            yield
            return
        progress.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            progress.enable_progress_bar()  # type: ignore[no-untyped-call]


def refuse_non_finite(model: nn.Module, folder: Path) -> None:
    """Raise :class:`UnsupportedCheckpoint` naming every tensor (and its file) that holds NaN or infinity."""
    bad = sorted({name for name, tensor, *_ in _tensors(model) if not is_finite(tensor)})
    if not bad:
        return
    in_files = [f"{file.name}: {name}" for file, name in _non_finite_in_files(folder)]
    if in_files:
        raise UnsupportedCheckpoint(
            f"{folder}: NaN or infinity in {', '.join(in_files)}",
            hint="the file is damaged or the training diverged; download it again or use another revision",
        )
    raise UnsupportedCheckpoint(
        f"{folder}: finite in the files, but not as {model.dtype}: {', '.join(bad)}",
        hint="load with dtype 'bfloat16' or 'float32'",
    )


def is_finite(tensor: Tensor) -> bool:
    """Return whether a tensor of any shape holds neither NaN nor infinity: one pass (no temporary of its size)."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    low, high = torch.aminmax(tensor)  # both carry NaN through
    return bool(torch.isfinite(low) & torch.isfinite(high))


def _non_finite_in_files(folder: Path) -> Iterator[tuple[Path, str]]:
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as handle:
            for name in handle.keys():  # noqa: SIM118  (safe_open is no mapping)
                if not is_finite(handle.get_tensor(name)):
                    yield file, name


def pair_slots(model: nn.Module, other: nn.Module, *, instruct: Path, thinking: Path) -> list[Slot]:
    """Pair every tensor of ``model`` (Instruct) with that of ``other`` (Thinking).

    Parameters and persistent floating-point buffers become slots. Integer tensors, and buffers that are computed
    from the configuration (rotary frequencies), cannot be interpolated and must be equal.

    Args:
        model: Instruct's.
        other: Thinking's.
        instruct, thinking: folders, named in errors.

    Raises:
        IncompatiblePair: names, ties, shapes or dtypes differ, or a fixed tensor is not equal; lists all.
        UsageError: a parameter is offloaded to disk.
    """
    ours, theirs = _by_tensor(model), _by_tensor(other)
    wrong: list[Mismatch] = []
    for names in sorted(ours.keys() ^ theirs.keys()):
        have = ("tied or present", "absent or tied otherwise")
        wrong.append(_mismatch(names, *(have if names in ours else have[::-1])))
    slots = []
    for names in ours.keys() & theirs.keys():
        group, mine, yours = ours[names], ours[names][0].tensor, theirs[names][0].tensor
        if (mine.shape, mine.dtype) != (yours.shape, yours.dtype):
            wrong.append(_mismatch(names, _describe(mine), _describe(yours)))
        elif group[0].fixed or not mine.is_floating_point():
            if not torch.equal(mine, yours.to(mine.device)):
                wrong.append(_mismatch(names, "fixed values", "other fixed values"))
        else:
            targets = [found.tensor for found in group if found.store is None]
            stored = [(found.store, found.key) for found in group if found.store is not None]
            slots.append(Slot(names, targets, stored, mine.detach(), yours.detach()))
    if wrong:
        raise IncompatiblePair(
            f"{instruct} and {thinking} load into models with different tensors",
            wrong,
            hint="both checkpoints must be fine-tuned from one base, without changing its layout",
        )
    return sorted(slots, key=lambda slot: slot.names)


class _Found(NamedTuple):
    """One parameter or buffer in a model; ``store`` and ``key`` as in :class:`Slot`; ``fixed``: made from config."""

    name: str
    tensor: Tensor
    fixed: bool
    store: dict[str, Tensor] | None
    key: str


def _by_tensor(model: nn.Module) -> dict[tuple[str, ...], list[_Found]]:
    """Return all tensors of a model by the tuple of their names; tied ones (one storage) are one entry."""
    groups: dict[object, list[_Found]] = {}
    for found in _tensors(model):
        tensor = found.tensor
        shared = (tensor.device, tensor.data_ptr(), tensor.shape) if tensor.numel() else found.name
        groups.setdefault(shared, []).append(found)
    return {tuple(found.name for found in group): group for group in groups.values()}


def _tensors(model: nn.Module) -> Iterator[_Found]:
    """Yield every parameter and buffer of every module, tied ones under each of their names."""
    for prefix, module in model.named_modules():
        own: dict[str, Tensor | None] = {**module._parameters, **module._buffers}
        for key, tensor in own.items():
            name = f"{prefix}.{key}" if prefix else key
            fixed = key in module._buffers and key in module._non_persistent_buffers_set
            if tensor is None:
                continue
            if not tensor.is_meta:
                yield _Found(name, tensor, fixed, None, "")
                continue
            store, full = _offload_store(module, key)
            if full not in store:
                raise UsageError(
                    f"{name} is offloaded to disk: it cannot be merged there",
                    hint="give the device_map more CPU memory, or choose a smaller model or dtype",
                )
            yield _Found(name, store[full], fixed, store, full)


def _offload_store(module: nn.Module, key: str) -> tuple[dict[str, Tensor], str]:
    """Return the mapping that accelerate's hook fetches an offloaded tensor from, and the tensor's key there."""
    hook: Any = getattr(module, "_hf_hook", None)
    for candidate in getattr(hook, "hooks", (hook,)):
        weights_map = getattr(candidate, "weights_map", None)
        if weights_map is not None:
            dataset, full = getattr(weights_map, "dataset", weights_map), getattr(weights_map, "prefix", "") + key
            return cast("dict[str, Tensor]", getattr(dataset, "state_dict", dataset)), full
    return {}, key


def _mismatch(names: tuple[str, ...], instruct: str, thinking: str) -> Mismatch:
    remedy = "use two fine-tunings of one base"
    return Mismatch(file="safetensors", field=" = ".join(names), instruct=instruct, thinking=thinking, remedy=remedy)


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
