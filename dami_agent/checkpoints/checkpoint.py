"""Open one checkpoint on disk: its configuration, its chat template and the headers of its weights.

Knows nothing of a second checkpoint, and reads no weight.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dami_agent.checkpoints import generation_settings, layout, refusals, tokenizer_file
from dami_agent.checkpoints.guard import AGAIN, guarded, read_json, read_text, refuse_numbers
from dami_agent.checkpoints.headers import TensorEntry, complete, identity, read_tensors, weight_files
from dami_agent.errors import CheckpointNotFound, UnsupportedCheckpoint

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

DTYPES = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}
NO_TOKENIZER = "save one into the folder: AutoTokenizer.from_pretrained(...).save_pretrained(...)"


@dataclass(frozen=True)
class RemoteWeights:
    """Describes weights not downloaded yet: ``tensors``, and file name → identity as :func:`identity` gives it."""

    tensors: Mapping[str, TensorEntry] = field(repr=False)
    identities: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Represents an opened checkpoint, of which no weight has been read.

    Attributes:
        path: the folder its files lie in (a hub checkpoint's: in the cache).
        source: what the user gave: a path or a hub id.
        revision: the hub commit it was resolved to; None for a folder.
        config: config.json. Read-only by agreement.
        generation_config: generation_config.json, ``{}`` if there is none.
        chat_template: the Jinja text of the default chat template, or None.
        tensors: name → entry of every stored tensor.
        identity: SHA-256 (hex) over everything that makes it this checkpoint and no other.
        downloaded: False while the weights lie on the hub still and only the small files in ``path``.
    """

    path: Path
    source: str
    revision: str | None
    config: Mapping[str, Any] = field(repr=False)
    generation_config: Mapping[str, Any] = field(repr=False)
    chat_template: str | None = field(repr=False)
    tensors: Mapping[str, TensorEntry] = field(repr=False)
    identity: str = field(repr=False)
    downloaded: bool = True

    @classmethod
    def open(
        cls, path: Path, *, source: str | None = None, revision: str | None = None, remote: RemoteWeights | None = None
    ) -> Checkpoint:
        """Open the folder ``path``; no weight is read.

        Args:
            path: the folder.
            source: what the user called it.
            revision: hub commit.
            remote: what the hub says about the weights, when only the small files are in ``path`` yet.

        Raises:
            CheckpointNotFound: the folder, its config, its tokenizer or a shard is not there.
            UnsupportedCheckpoint: quantised, GGUF, adapter or pickled weights.
            CheckpointError: a file is damaged.
        """
        source = source or str(path)
        refusals.refuse_path(path)
        with guarded(f"{source} cannot be opened", hint=AGAIN):
            return cls._open(path, source, revision, remote)

    @classmethod
    def _open(cls, path: Path, source: str, revision: str | None, remote: RemoteWeights | None) -> Checkpoint:
        if not path.is_dir():
            raise CheckpointNotFound(
                f"{source}: no such folder",
                hint="give an existing folder, or a hub id like Qwen/Qwen3-4B-Instruct-2507",
            )
        refusals.refuse_files([*(p.name for p in path.iterdir()), *(remote.identities if remote else ())], source)
        refusals.refuse_irregular(path)
        config = read_json(path / "config.json")
        refuse_numbers(config, path / "config.json")
        refusals.refuse_config(config, source)
        if not (path / "tokenizer.json").is_file():
            raise CheckpointNotFound(f"{source} has no tokenizer.json", hint=NO_TOKENIZER)
        tensors = complete(path, remote.tensors) if remote else read_tensors(path)
        refusals.refuse_tensors(tensors, source)
        refusals.refuse_counts(config, len(tensors), path / "config.json")
        beside = path / generation_settings.FILE
        generation_config = generation_settings.checked(read_json(beside), beside) if beside.is_file() else {}
        template = _chat_template(path)
        files = remote.identities if remote else {name: identity(path / name) for name in weight_files(path)}
        digest = _digest(path, files, config, generation_config, template)
        known = remote is None
        made = cls(path, source, revision, config, generation_config, template, tensors, digest, downloaded=known)
        _ = made.eos_token_ids  # refused now rather than later
        return made

    @cached_property
    def eos_token_ids(self) -> tuple[int, ...]:
        """Collect all ids that end a sequence, from generation_config.json or config.json; texts are looked up."""

        def vocabulary() -> dict[str, int]:
            return tokenizer_file.token_ids(read_json(self.path / tokenizer_file.FILE))

        return generation_settings.end_ids(self.generation_config, self.config, self.path, vocabulary)

    @property
    def files(self) -> tuple[Path, ...]:
        """List the safetensors files."""
        return tuple(self.path / name for name in sorted({entry.file for entry in self.tensors.values()}))

    @property
    def dtype(self) -> str:
        """Name the dtype that most weights are stored in: ``bfloat16``, ``float16``, ``float32`` or ``float64``."""
        sizes: dict[str, int] = {}
        for entry in self.tensors.values():
            sizes[entry.dtype] = sizes.get(entry.dtype, 0) + entry.nbytes
        return DTYPES.get(max(sizes, key=lambda name: sizes[name], default="F32"), "float32")

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Build the checkpoint's tokenizer, of a class that transformers ships; code beside it is never run.

        Raises:
            UnsupportedCheckpoint: only code of its own could build it.
        """
        from transformers import AutoTokenizer

        load: Any = AutoTokenizer.from_pretrained  # untyped in transformers
        beside = self.path / "tokenizer_config.json"
        if beside.is_file():
            refuse_numbers(read_json(beside), beside, beyond=("model_max_length", "max_length"))
        with guarded(f"{self.source}: tokenizer cannot be built", hint=NO_TOKENIZER, kind=UnsupportedCheckpoint):
            tokenizer: PreTrainedTokenizerBase = load(self.path, trust_remote_code=False, local_files_only=True)
            if not tokenizer.is_fast:
                raise UnsupportedCheckpoint(f"{self.source}: its tokenizer is not a fast one", hint=NO_TOKENIZER)
            tokenizer.encode("a <b> 1\n", add_special_tokens=False)
        return tokenizer

    def model_config(self) -> PreTrainedConfig:
        """Build a fresh transformers config of the *native* class from config.json without its ``auto_map``.

        Raises:
            UnsupportedCheckpoint: transformers has no causal language model of this ``model_type``.
        """
        return layout.model_config(self.config, self.source)


def _chat_template(path: Path) -> str | None:
    """Read the template from the newest place: chat_template.jinja, then tokenizer_config.json (text or list)."""
    if (path / "chat_template.jinja").is_file():
        return read_text(path / "chat_template.jinja")
    for name in ("chat_template.json", "tokenizer_config.json"):
        if not (path / name).is_file():
            continue
        template = read_json(path / name).get("chat_template")
        if isinstance(template, list):
            named = [t.get("template") for t in template if isinstance(t, dict) and t.get("name") == "default"]
            template = named[-1] if named else None
        if isinstance(template, str):
            return template
    return None


def _digest(
    path: Path, files: Mapping[str, str], config: Mapping[str, Any], generation: Mapping[str, Any], template: str | None
) -> str:
    parts: dict[str, Any] = {"config": config, "generation_config": generation, "chat_template": template}
    parts["files"] = {**files, "tokenizer.json": identity(path / "tokenizer.json")}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
