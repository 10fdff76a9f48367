"""Find the folder of the small pair that this package ships, without reading anything in it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

__all__ = ["builtin_folder"]


def builtin_folder() -> Path:
    """Return the folder that holds ``instruct``, ``thinking`` and ``frontier.json``; an installation may lack it."""
    return Path(str(resources.files("dami_agent.checkpoints"))) / "builtin"
