"""Find the frontier of a pair: the user's own, else the one beside the checkpoints, else a published one."""

from __future__ import annotations

import json
import logging
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dami_agent.errors import InvalidPolicy
from dami_agent.files import data_folder
from dami_agent.policy import Frontier

if TYPE_CHECKING:
    from dami_agent.checkpoints import CheckpointPair

__all__ = [
    "answers_folder",
    "candidates",
    "find_frontier",
    "frontier_data",
    "frontier_path",
    "published_frontier",
    "read_frontier",
]

log = logging.getLogger(__name__)

_PUBLISHED = ("qwen3-4b-2507.json", "qwen3-30b-a3b-2507.json")
_SHAPE = ("hidden_size", "num_hidden_layers", "vocab_size")


def frontier_path(fingerprint: str) -> Path:
    """Return where the frontier of a pair is kept for this user: in the data folder, under the pair's fingerprint."""
    return data_folder() / "frontiers" / f"{fingerprint}.json"


def answers_folder() -> Path:
    """Return where calibrations keep the answers they have, so that one that broke off can go on."""
    return data_folder() / "calibrations"


def find_frontier(pair: CheckpointPair) -> Frontier:
    """Read the frontier that λ is chosen by for a pair: what was measured last by its user goes first.

    A file that is no frontier, or that was measured on another pair, is warned about and passed over, so that the pair
    can be used, and be measured anew. An empty frontier is returned where there is none.
    """
    path, frontier = _measured(pair)
    return (frontier if path is not None else published_frontier(pair)) or Frontier()


def frontier_data(pair: CheckpointPair) -> dict[str, Any] | None:
    """Return the frontier that :func:`find_frontier` reads as :meth:`Frontier.from_dict` takes it; None for none."""
    path, _ = _measured(pair)
    if path is not None:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return data
    return _published_data(pair)


def _measured(pair: CheckpointPair) -> tuple[Path | None, Frontier | None]:
    """Return the first file that holds a frontier of the pair, and the frontier."""
    for path in candidates(pair):
        frontier, why = read_frontier(path, pair)
        if frontier is not None:
            return path, frontier
        log.warning("%s is passed over: %s", path, why)
    return None, None


def candidates(pair: CheckpointPair) -> list[Path]:
    """Return the files that hold a frontier for a pair, if they do: the user's own, then the one beside it."""
    own = frontier_path(pair.fingerprint)
    return [path for path in (own, pair.frontier_path) if path is not None and path.is_file()]


def read_frontier(path: Path, pair: CheckpointPair) -> tuple[Frontier | None, str]:
    """Read a file that is to be the frontier of a pair.

    Returns:
        The frontier, and ""; or None, and why not: it is no frontier, or was measured on another pair.
    """
    try:
        return Frontier.from_file(path).of_pair(pair.fingerprint), ""
    except InvalidPolicy as error:
        return None, f"{error.message}; {error.hint}"


def published_frontier(pair: CheckpointPair) -> Frontier | None:
    """Return what others published of a pair of these names and of this shape; None if nothing did.

    Fine-tuned descendants have names of their own, and so no published frontier.
    """
    data = _published_data(pair)
    return None if data is None else Frontier.from_dict(data, source=data["published"])


def _published_data(pair: CheckpointPair) -> dict[str, Any] | None:
    for name in _PUBLISHED:
        text = resources.files("dami_agent.policy").joinpath("published", name).read_text(encoding="utf-8")
        data: dict[str, Any] = json.loads(text)
        if _names(pair) == (data["instruct"], data["thinking"]) and _shape(pair) == data["shape"]:
            return data
    return None


def _names(pair: CheckpointPair) -> tuple[str, str]:
    """Return the last part of both checkpoints' names: of a hub id, and of a folder that was named after it."""
    return Path(pair.instruct.source).name, Path(pair.thinking.source).name


def _shape(pair: CheckpointPair) -> dict[str, Any]:
    return {key: pair.config.get(key) for key in _SHAPE}
