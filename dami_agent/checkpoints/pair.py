"""Open and verify a pair of checkpoints from two folders or hub ids.

``CheckpointPair.open`` is the only way to a pair, and whatever it returns is proven to fit.
"""

from __future__ import annotations

import hashlib
import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dami_agent.checkpoints import hub
from dami_agent.checkpoints.builtin_folder import builtin_folder
from dami_agent.checkpoints.checkpoint import Checkpoint
from dami_agent.checkpoints.compatibility import Check, Inspection, compare
from dami_agent.checkpoints.layout import Layout
from dami_agent.errors import CheckpointNotFound, IncompatiblePair, InvalidRequest, UsageError
from dami_agent.types import BUILTIN

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

logger = logging.getLogger(__name__)

CARDS = ("card.md", "CARD.md", "MODEL_CARD.md", "README.md")


@dataclass(frozen=True, eq=False)
class CheckpointPair:
    """Holds an Instruct and a Thinking checkpoint, proven compatible; only a sample of their weights has been read.

    Attributes:
        instruct: λ=0.
        thinking: λ=1.
        name: short, for records and people.
        fingerprint: 16 hex digits; other weights, config, tokenizer or template give another.
        layout: the loaded module's parameters and ties.
        checks: what was compared, with notes.
        frontier_path: the ``frontier.json`` beside the pair, or None.
        heads_path: the ``heads.safetensors`` beside the pair, or None.
        card_path: the model card beside the pair, or None.
    """

    instruct: Checkpoint
    thinking: Checkpoint
    name: str
    fingerprint: str
    layout: Layout = field(repr=False)
    checks: tuple[Check, ...] = field(repr=False)
    frontier_path: Path | None = field(default=None, repr=False)
    heads_path: Path | None = field(default=None, repr=False)
    card_path: Path | None = field(default=None, repr=False)

    @classmethod
    def open(
        cls,
        instruct: str | Path,
        thinking: str | Path,
        *,
        revision: str | None = None,
        instruct_revision: str | None = None,
        thinking_revision: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool | None = None,
        token: str | bool | None = None,
        endpoint: str | None = None,
        allow_unrelated: bool | None = None,
    ) -> CheckpointPair:
        """Open and verify two local folders or hub ids.

        Args:
            instruct: folder or hub id of the Instruct checkpoint.
            thinking: folder or hub id of the Thinking checkpoint.
            revision: branch, tag or commit of both hub ids.
            instruct_revision: of the Instruct one alone; goes before ``revision``.
            thinking_revision: of the Thinking one alone.
            cache_dir: instead of the Hugging Face cache.
            local_files_only: never ask the hub; None: as ``HF_HUB_OFFLINE`` says.
            token: for private checkpoints; None: the saved login.
            endpoint: another hub than ``HF_ENDPOINT`` says.
            allow_unrelated: open two models without a common base too, with a warning; None: as the environment's
                ``DAMI_ALLOW_UNRELATED`` says.

        Raises:
            CheckpointNotFound: a folder, file, id or revision that is not there or not reachable.
            UnsupportedCheckpoint: quantised, GGUF, adapter, pickled, or an architecture of the checkpoint's own code.
            IncompatiblePair: they do not fit; every mismatch is listed.
            UsageError: a revision given for a local folder.
        """
        sources = CheckpointSource.of(
            (instruct, thinking), revision=revision, revisions=(instruct_revision, thinking_revision)
        )
        asked = hub.Hub(cache_dir=cache_dir, local_files_only=local_files_only, token=token, endpoint=endpoint)
        a, b = (source.open(asked, weights=False) for source in sources)
        if not (a.downloaded and b.downloaded):
            require_compatible(compare(a, b), a, b)  # before gigabytes are fetched
            a, b = (source.open(asked) for source in sources)
        pair = cls.of(a, b, inspection=compare(a, b, allow_unrelated=allow_unrelated))
        for check in pair.checks:
            if check.status == "warning":
                logger.warning("%s and %s: %s: %s", a.source, b.source, check.name, check.detail)
        return pair

    @classmethod
    def of(
        cls,
        instruct: Checkpoint,
        thinking: Checkpoint,
        *,
        name: str | None = None,
        inspection: Inspection | None = None,
    ) -> CheckpointPair:
        """Make a pair of two opened checkpoints, verifying that they fit.

        Args:
            instruct: the checkpoint at λ=0.
            thinking: the checkpoint at λ=1.
            name: for people and the ledger; None: of the checkpoints' names.
            inspection: what ``compare`` has said of them; None: compare now.

        Raises:
            IncompatiblePair: they do not fit; every mismatch is listed.
            UnsupportedCheckpoint: an architecture that transformers does not ship.
        """
        inspection = inspection or compare(instruct, thinking)
        layout = require_compatible(inspection, instruct, thinking)
        beside = _beside(instruct.path, thinking.path)
        return cls(
            instruct=instruct,
            thinking=thinking,
            name=name or f"{_short(instruct.source)}+{_short(thinking.source)}",
            fingerprint=fingerprint(instruct, thinking),
            layout=layout,
            checks=inspection.checks,
            frontier_path=_first(beside, ("frontier.json",)),
            heads_path=_first(beside, ("heads.safetensors",)),
            card_path=_first(beside, CARDS),
        )

    @classmethod
    def builtin(cls) -> CheckpointPair:
        """Open the small pair this package ships. Raises ``CheckpointNotFound`` when the installation lacks it."""
        return cls.of(*builtin_checkpoints(), name=BUILTIN)

    @classmethod
    def named(cls, instruct: str | None, thinking: str | None, *, revision: str | None = None) -> CheckpointPair:
        """Open two folders or hub ids, or the built-in pair where they are not given; raises what these raise."""
        both_or_neither(instruct, thinking)
        if instruct is None or thinking is None:
            return cls.builtin()
        return cls.open(instruct, thinking, revision=revision)

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """Collect the ids that end a sequence in either checkpoint, Instruct's first."""
        return tuple(dict.fromkeys(self.instruct.eos_token_ids + self.thinking.eos_token_ids))

    @property
    def config(self) -> Mapping[str, Any]:
        """Return the common config.json (Instruct's; where the two differ the computation does not depend on it)."""
        return self.instruct.config

    @cached_property
    def context_length(self) -> int | None:
        """Find the longest context both were made for, in tokens; None if the configs do not say."""
        lengths = [getattr(c.model_config(), "max_position_embeddings", None) for c in (self.instruct, self.thinking)]
        known = [int(n) for n in lengths if n]
        return min(known) if known else None

    def model_config(self) -> PreTrainedConfig:
        """Build a fresh config of transformers' own class with the common context length; runs no foreign code."""
        config = self.instruct.model_config()
        if self.context_length is not None and hasattr(config, "max_position_embeddings"):
            config.max_position_embeddings = self.context_length
        return config


@dataclass(frozen=True, slots=True)
class CheckpointSource:
    """Says where a checkpoint comes from: ``name`` as the user gave it, a folder or not, a revision on the hub."""

    name: str
    local: bool
    revision: str | None

    @classmethod
    def of(
        cls,
        names: Sequence[str | Path],
        *,
        revision: str | None = None,
        revisions: Sequence[str | None] = (None, None),
    ) -> tuple[CheckpointSource, ...]:
        """Tell folders from hub ids. Raises ``UsageError`` for a revision that no hub id can take."""
        local = [
            isinstance(name, Path) or Path(name).expanduser().exists() or not hub.looks_like_hub_id(name)
            for name in names
        ]
        for name, is_local, own in zip(names, local, revisions, strict=True):
            if is_local and (own or (revision and all(local))):
                raise UsageError(
                    f"{name} is a local folder, which has no revision {own or revision!r}", hint="leave revision out"
                )
        return tuple(
            cls(str(n), at, None if at else own or revision) for n, at, own in zip(names, local, revisions, strict=True)
        )

    def open(self, asked: hub.Hub, *, weights: bool = True) -> Checkpoint:
        """Open the checkpoint; with ``weights=False`` weights that are not in the cache stay on the hub."""
        if self.local:
            return Checkpoint.open(Path(self.name).expanduser().absolute(), source=self.name)
        if weights:
            folder, commit = asked.fetch(self.name, self.revision)
            return Checkpoint.open(folder, source=self.name, revision=commit)
        folder, commit, remote = asked.preview(self.name, self.revision)
        return Checkpoint.open(folder, source=self.name, revision=commit, remote=remote)


def both_or_neither(instruct: str | None, thinking: str | None, said: str = "instruct= and thinking=") -> None:
    """Refuse one checkpoint without the other.

    Args:
        instruct, thinking: as given; None: not given.
        said: how the caller's user names the two.

    Raises:
        InvalidRequest: one of them is given.
    """
    if (instruct is None) != (thinking is None):
        raise InvalidRequest("a pair needs both checkpoints", hint=f"give {said}, or neither for the built-in pair")


def require_compatible(inspection: Inspection, instruct: Checkpoint, thinking: Checkpoint) -> Layout:
    """Return the common layout, or raise ``IncompatiblePair`` with every mismatch."""
    if inspection.layout is None:
        raise IncompatiblePair(
            f"{instruct.source} and {thinking.source} cannot be interpolated: {len(inspection.mismatches)} mismatches",
            inspection.mismatches,
            hint="dami doctor INSTRUCT THINKING prints every check",
        )
    return inspection.layout


def fingerprint(instruct: Checkpoint, thinking: Checkpoint) -> str:
    """Compute the identity of the pair; swapping the two gives another."""
    return hashlib.sha256(f"{instruct.identity}\n{thinking.identity}".encode()).hexdigest()[:16]


def unmeasured(instruct: str, thinking: str) -> str:
    """Say what a pair without a frontier lacks, with the command that measures it."""
    return (
        "not measured: no frontier of it is known, so efforts and auto follow rules of thumb; "
        f"run: {calibrate_command(instruct, thinking)}"
    )


def calibrate_command(instruct: str, thinking: str) -> str:
    """Return the command that measures a pair."""
    return f"dami calibrate {shlex.quote(instruct)} {shlex.quote(thinking)}"


def _short(source: str) -> str:
    if hub.looks_like_hub_id(source) and not Path(source).exists():
        return source
    return Path(source).expanduser().absolute().name


def _beside(a: Path, b: Path) -> Path | None:
    """Find the folder that holds both, if they lie side by side."""
    return a.parent if a.parent == b.parent and a.parent.name != "snapshots" else None


def _first(folder: Path | None, names: tuple[str, ...]) -> Path | None:
    return next((folder / n for n in names if (folder / n).is_file()), None) if folder else None


def builtin_checkpoints() -> tuple[Checkpoint, Checkpoint]:
    """Open both sides of the small pair this package ships, unverified and without torch; Instruct first.

    Raises:
        CheckpointNotFound: the installation lacks them.
    """
    folder = builtin_folder()
    if not (folder / "instruct").is_dir() or not (folder / "thinking").is_dir():
        raise CheckpointNotFound(
            f"the built-in pair is not at {folder}", hint="reinstall dami-agent from its wheel, unpacked on disk"
        )
    sides = [Checkpoint.open(folder / side, source=f"{BUILTIN}/{side}") for side in ("instruct", "thinking")]
    return sides[0], sides[1]
