"""Refuse checkpoints that cannot be interpolated, naming their kind, before a byte of weights is read.

Interpolation needs both endpoints' own floating-point weights. Nothing here, or anywhere, executes code that comes
with a checkpoint: an ``auto_map`` is only looked at to say that it was ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dami_agent.checkpoints.headers import FLOATS, INDEX, SINGLE, TensorEntry
from dami_agent.errors import CheckpointError, CheckpointNotFound, UnsupportedCheckpoint

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5")
METHODS = {
    "fp8": "FP8",
    "fbgemm_fp8": "FP8 (fbgemm)",
    "awq": "AWQ",
    "gptq": "GPTQ",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed-tensors",
}
_SUFFIX = re.compile(
    r"[-_.](fp8|awq|gptq|gguf|bnb|int[48]|[48]bit|w\dA\d+|mlx|nf4|dynamic|unsloth)\b.*$", re.IGNORECASE
)
_LAYERS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers")
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
MOST_EXPERTS = 4096
_READ = frozenset(
    "config.json generation_config.json tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json "
    f"chat_template.jinja chat_template.json {INDEX} {SINGLE}".split()
)
_SUFFIXES = (".json", ".jinja", ".txt", ".model", ".safetensors")  # of files that this package or transformers reads
_WEIGHT = re.compile(r"(weight|_proj|embed\w*)$")
_PACKED = re.compile(r"\.(qweight|qzeros|g_idx|weight_scale|weight_scale_inv|weight_packed|absmax|SCB|quant_map)\b")


def bf16_source(source: str) -> str:
    """Guess the name of the checkpoint ``source`` was quantised from, for a hint."""
    name = _SUFFIX.sub("", source.rstrip("/"))
    if name == source.rstrip("/"):
        return "the bf16 checkpoint it was made from"
    return f"the bf16 checkpoint it was made from, probably {name}"


def refuse_files(names: Iterable[str], source: str) -> None:
    """Refuse by the names of a checkpoint's files (top level), whether on disk or listed by the hub.

    Raises:
        UnsupportedCheckpoint: an adapter, GGUF or pickled weights.
        CheckpointNotFound: no config.json, or no weights at all.
    """
    files = set(names)
    if "adapter_config.json" in files:
        raise UnsupportedCheckpoint(
            f"{source} is a PEFT adapter (adapter_config.json), not a full checkpoint",
            hint="merge it into its base first: PeftModel.from_pretrained(...).merge_and_unload().save_pretrained(...)",
        )
    if any(name.endswith(".safetensors") for name in files):
        if "config.json" in files:
            return
        raise CheckpointNotFound(f"{source} has no config.json", hint="a folder as save_pretrained writes it is needed")
    gguf = sorted(name for name in files if name.endswith(".gguf"))
    if gguf:
        raise UnsupportedCheckpoint(
            f"{source} holds GGUF weights ({gguf[0]}), which are quantised for another runtime",
            hint=f"use {bf16_source(source)} in safetensors format",
        )
    pickles = sorted(name for name in files if name.endswith(PICKLES) and name != "training_args.bin")
    if pickles:
        raise UnsupportedCheckpoint(
            f"{source} holds its weights as {pickles[0]}, which can run code when opened; only safetensors is read",
            hint="use a safetensors revision, or convert it on a machine you can spare: "
            "AutoModelForCausalLM.from_pretrained(...).save_pretrained(...)",
        )
    missing = "no safetensors file" if "config.json" in files else "neither config.json nor a safetensors file"
    raise CheckpointNotFound(f"{source} has {missing}", hint="a folder as save_pretrained writes it is needed")


def refuse_path(path: Path) -> None:
    """Refuse a file given in place of a folder.

    Raises:
        UnsupportedCheckpoint: it is one; GGUF files by their kind.
    """
    if path.suffix == ".gguf":
        refuse_files([path.name], str(path))
    if path.is_file():
        raise UnsupportedCheckpoint(
            f"{path} is a file; a checkpoint is a folder", hint=f"did you mean its folder, {path.parent}?"
        )


def refuse_config(config: Mapping[str, Any], source: str) -> None:
    """Refuse by config.json.

    Raises:
        UnsupportedCheckpoint: it has a ``quantization_config`` (the method is named), or keeps its weights elsewhere.
    """
    if config.get("transformers_weights") not in (None, SINGLE, INDEX):
        raise UnsupportedCheckpoint(
            f"{source} keeps its weights in {config['transformers_weights']!r} (config.json: transformers_weights)",
            hint="save it again with save_pretrained",
        )
    quantised = config.get("quantization_config") or config.get("compression_config")
    if not quantised:
        return
    method = str(quantised.get("quant_method", "")) if isinstance(quantised, Mapping) else ""
    if not method and isinstance(quantised, Mapping) and ("load_in_4bit" in quantised or "load_in_8bit" in quantised):
        method = "bitsandbytes"
    name = METHODS.get(method.lower(), repr(method) if method else "an unnamed method")
    raise UnsupportedCheckpoint(
        f"{source} is quantised with {name} (config.json: quantization_config), which cannot be interpolated",
        hint=f"use {bf16_source(source)}",
    )


def refuse_tensors(tensors: Mapping[str, TensorEntry], source: str) -> None:
    """Refuse weights that are packed or of a quantised dtype although the config keeps silent about it.

    Raises:
        UnsupportedCheckpoint: naming the first such tensor.
    """
    for name, entry in tensors.items():
        if _PACKED.search(name) or entry.dtype.startswith(("F8", "F6", "F4")):
            raise UnsupportedCheckpoint(
                f"{source}: tensor {name} ({entry}, {entry.file}) is quantised", hint=f"use {bf16_source(source)}"
            )
        if entry.dtype not in FLOATS and _WEIGHT.search(name):
            raise _not_floating(name, entry, source)


def refuse_integers(parameters: Iterable[str], tensors: Mapping[str, TensorEntry], source: str) -> None:
    """Refuse stored tensors that fill a parameter of the model and hold no floating-point numbers."""
    for name in parameters:
        if name in tensors and tensors[name].dtype not in FLOATS:
            raise _not_floating(name, tensors[name], source)


def _not_floating(name: str, entry: TensorEntry, source: str) -> UnsupportedCheckpoint:
    return UnsupportedCheckpoint(
        f"{source}: tensor {name} ({entry}, {entry.file}) is quantised: it holds no floating-point numbers, and "
        "config.json has no quantization_config that says what they stand for",
        hint=f"use {bf16_source(source)}",
    )


def refuse_counts(config: Mapping[str, Any], tensors: int, path: Path) -> None:
    """Refuse counts of layers that the stored tensors cannot fill: building so many would take for ever.

    Raises:
        CheckpointError: naming the field.
    """
    for part in (config, *(value for value in config.values() if isinstance(value, Mapping))):
        for key, most in (*((key, tensors) for key in _LAYERS), *((key, MOST_EXPERTS) for key in _EXPERTS)):
            value = part.get(key)
            if isinstance(value, (int, float)) and value > most:
                raise CheckpointError(
                    f"{path}: {key} is {value}, and the checkpoint has {tensors} tensors",
                    hint="the weights do not belong to this config.json; download or save the checkpoint again",
                )


def refuse_irregular(folder: Path) -> None:
    """Refuse pipes and devices, which could hang whoever reads them, and checkpoint files that are not regular files.

    Raises:
        CheckpointNotFound: naming the file.
    """
    for path in folder.iterdir():
        harmless = path.is_file() or (path.name not in _READ and (path.is_dir() or not path.exists()))
        if path.suffix in _SUFFIXES and not harmless:
            raise CheckpointNotFound(
                f"{path} is not a regular file", hint="a file, or a link to one, is needed there; or remove it"
            )


def refuse_foreign_code(config: Mapping[str, Any], native: str | None, source: str) -> str | None:
    """Refuse an architecture that only code from the checkpoint could build; return a note on code that was ignored.

    Args:
        config: the checkpoint's config.json.
        native: name of the class that transformers itself has for this ``model_type``, or None.
        source: as the user named it.

    Raises:
        UnsupportedCheckpoint: transformers itself has no causal language model of this architecture.
    """
    model_type, auto_map = config.get("model_type"), config.get("auto_map")
    named = config.get("architectures") or [native]
    if native is None:
        code = f"; its config names code of its own ({auto_map}), which is never run" if auto_map else ""
        raise UnsupportedCheckpoint(
            f"{source}: transformers has no causal language model for model_type {model_type!r}{code}",
            hint="use a family that transformers ships (trust_remote_code is never on), or a newer transformers",
        )
    if native not in named:
        raise UnsupportedCheckpoint(
            f"{source} is a {named[0]!r}, not the causal language model {native} of its model_type {model_type!r}",
            hint="use the checkpoint of the text-generating model",
        )
    return f"{source}: auto_map in config.json ignored, transformers' own {native} is used" if auto_map else None
