"""Say what parts run on: device, versions, commit, and what the machine lacks."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dami_agent.evaluation.gpu_check.setting import PartFailed, Setting

NEEDED = ("torch", "transformers", "accelerate")
"""Without accelerate transformers puts no model on a GPU."""


def missing() -> list[str]:
    """Return the packages that no part runs without and that are not installed."""
    return [name for name in NEEDED if find_spec(name) is None]


def commit_of(repository: Path) -> str | None:
    """Return the commit that is checked out, ``-dirty`` behind it where files were changed; None outside git."""
    command = ["git", "-C", str(repository), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def look(setting: Setting) -> Iterator[dict[str, Any]]:
    """Yield the name of the device, its memory and the versions.

    Raises:
        PartFailed: torch sees no CUDA device.
    """
    import torch
    import transformers

    found: dict[str, Any] = {"torch": torch.__version__, "transformers": transformers.__version__}
    found |= {"python": platform.python_version(), "device": platform.processor() or platform.machine()}
    if setting.device == "cuda":
        if not torch.cuda.is_available():
            raise PartFailed(
                f"torch {torch.__version__} sees no CUDA device",
                hint="--device cpu --shape tiny rehearses all parts without one",
            )
        of = torch.cuda.get_device_properties(0)
        free, total = torch.cuda.mem_get_info()
        found |= {"device": of.name, "cuda": torch.version.cuda, "capability": f"{of.major}.{of.minor}"}
        found |= {"memory_gib": round(total / 2**30, 1), "free_gib": round(free / 2**30, 1)}
    yield found
