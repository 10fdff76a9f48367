"""Describe a served pair to those who ask a server, and read the description: all that is not weights.

An agent's machine needs tokenizer, chat templates and the measured frontier to render prompts, read replies and choose
λ; the server has them beside the weights. They are fetched once and kept, under the pair's fingerprint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_cache_path

from dami_agent.errors import DamiError, EngineClosed, InvalidRequest
from dami_agent.files import write_whole
from dami_agent.frontiers import frontier_data
from dami_agent.policy import Frontier
from dami_agent.runtime.factory import closing_words_of
from dami_agent.types import EngineInfo, Template

if TYPE_CHECKING:
    import httpx
    from transformers import PreTrainedTokenizerBase

    from dami_agent.checkpoints import CheckpointPair

__all__ = ["FILES_PATH", "PAIR_PATH", "PairDescription", "ServedPair", "describe_pair", "served_file"]

PAIR_PATH = "/v1/dami/pair"
FILES_PATH = "/v1/dami/files"

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairDescription:
    """Holds what a server says of its pair, but for the tokenizer's files.

    Attributes:
        files: name → SHA-256 (hex) of each file of the tokenizer.
        templates: chat template of each side.
        generation: ``generation_config`` of each side.
        frontier: as :meth:`Frontier.from_dict` reads it, or None.
    """

    name: str
    fingerprint: str
    vocab_size: int
    layers: int
    device: str
    dtype: str
    context_length: int
    eos_token_ids: tuple[int, ...]
    closing_words: str
    templates: Mapping[Template, str]
    generation: Mapping[Template, Mapping[str, Any]]
    files: Mapping[str, str]
    frontier: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PairDescription:
        """Read what :meth:`to_dict` wrote.

        Raises:
            TypeError, KeyError: something is missing.
        """
        return cls(**{**data, "eos_token_ids": tuple(data["eos_token_ids"])})

    def read_frontier(self) -> Frontier:
        """Return what was measured of the pair, as the server knows it; empty where nothing was."""
        data = self.frontier
        return Frontier.from_dict(data, source=str(data.get("published") or "the server")) if data else Frontier()

    @property
    def info(self) -> EngineInfo:
        """Return what an engine that asks this server runs on."""
        return EngineInfo(
            model=self.name,
            fingerprint=self.fingerprint,
            context_length=self.context_length,
            vocab_size=self.vocab_size,
            weights_mode="mixed",
            device=self.device,
            dtype=self.dtype,
            reasons={"device": "of the server"},
            masks_markers=True,
            layers=self.layers,
        )


def describe_pair(pair: CheckpointPair, *, context_length: int, device: str, dtype: str) -> PairDescription:
    """Describe a pair that is served here, with the frontier that this machine knows of it."""
    config = pair.model_config().get_text_config()
    return PairDescription(
        name=pair.name,
        fingerprint=pair.fingerprint,
        vocab_size=int(config.vocab_size),
        layers=int(config.num_hidden_layers),
        device=device,
        dtype=dtype,
        context_length=context_length,
        eos_token_ids=pair.eos_token_ids,
        closing_words=closing_words_of(pair),
        templates={"instruct": pair.instruct.chat_template or "", "thinking": pair.thinking.chat_template or ""},
        generation={"instruct": pair.instruct.generation_config, "thinking": pair.thinking.generation_config},
        files={
            name: _digest(path.read_bytes())
            for name in _TOKENIZER_FILES
            if (path := pair.instruct.path / name).is_file()
        },
        frontier=frontier_data(pair),
    )


def served_file(pair: CheckpointPair, name: str) -> Path | None:
    """Return a file of the tokenizer that clients may have; None for any other name."""
    path = pair.instruct.path / name
    return path if name in _TOKENIZER_FILES and path.is_file() else None


@dataclass(frozen=True, slots=True)
class ServedPair:
    """Holds what a client has fetched of a served pair.

    Attributes:
        description: as the server gave it.
        folder: where the tokenizer's files lie on this machine.
    """

    description: PairDescription
    folder: Path

    @classmethod
    def fetch(cls, client: httpx.Client) -> ServedPair:
        """Ask a server what it serves, and fetch the files that are not on this machine yet.

        Args:
            client: whose base URL is the server's.

        Raises:
            EngineClosed: the server cannot be reached.
            InvalidRequest: it serves no pair, or refuses the key.
        """
        description = _described(_get(client, PAIR_PATH))
        folder = user_cache_path("dami-agent") / "served" / description.fingerprint
        folder.mkdir(parents=True, exist_ok=True)
        for name, digest in description.files.items():
            if name not in _TOKENIZER_FILES:
                raise InvalidRequest(f"{client.base_url} offers a file named {name!r}", hint="it is no dami server")
            path = folder / name
            if not path.is_file() or _digest(path.read_bytes()) != digest:
                write_whole(path, _get(client, f"{FILES_PATH}/{name}"))
        return cls(description, folder)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Build the pair's tokenizer, of a class that transformers ships."""
        from transformers import AutoTokenizer

        load: Any = AutoTokenizer.from_pretrained  # untyped in transformers
        tokenizer: PreTrainedTokenizerBase = load(self.folder, trust_remote_code=False, local_files_only=True)
        return tokenizer


def _get(client: httpx.Client, path: str) -> bytes:
    import httpx

    try:
        response = client.get(path)
    except httpx.HTTPError as error:
        raise EngineClosed(
            f"{client.base_url} cannot be reached: {type(error).__name__}: {error}",
            hint="is `dami serve` running there, and is base_url its address without /v1?",
        ) from error
    if response.status_code in (401, 403):
        raise InvalidRequest(f"{client.base_url} refuses the API key", hint="give api_key=, or set DAMI_API_KEY")
    if response.status_code != 200:
        raise InvalidRequest(
            f"{client.base_url} serves no pair ({path}: {response.status_code})", hint="start it with `dami serve`"
        )
    return response.content


def _described(text: bytes) -> PairDescription:
    try:
        return PairDescription.from_dict(json.loads(text))
    except DamiError:
        raise
    except Exception as error:
        raise InvalidRequest(
            f"the server describes its pair in a way that this version cannot read: {type(error).__name__}: {error}",
            hint="use the same version of dami-agent on both sides",
        ) from error


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
