"""Know where heads lie: the user's own in the data folder, others beside the checkpoints of their pair."""

from __future__ import annotations

from pathlib import Path

from dami_agent.files import data_folder

__all__ = ["heads_path", "offer_heads", "offered_heads"]

_offered: dict[str, Path] = {}


def heads_path(fingerprint: str) -> Path:
    """Return where the head of a pair is kept for this user: in the data folder, under the pair's fingerprint."""
    return data_folder() / "heads" / f"{fingerprint}.safetensors"


def offer_heads(fingerprint: str, path: Path) -> None:
    """Have a head that lies beside its pair found in this process, where the user has none of their own."""
    _offered[fingerprint] = path


def offered_heads(fingerprint: str) -> Path | None:
    """Return the head that lies beside the pair, as :func:`offer_heads` was told."""
    return _offered.get(fingerprint)
