"""Know where this user's files lie, and write a file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["data_folder", "write_whole"]


def data_folder() -> Path:
    """Return the folder of this user's data: ledger, frontiers, heads, answers of calibrations."""
    import platformdirs  # here: a bare GPU machine may lack it, and writes no user's data

    return Path(platformdirs.user_data_dir("dami-agent", appauthor=False))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file in one go: who reads it meanwhile, or after a crash, finds the old one or the new one.

    Args:
        path: in a folder that exists; a file that is there is replaced.
        content: all of it.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(content)
            Path(file.name).chmod(0o666 & ~_umask())
            os.replace(file.name, path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _umask() -> int:
    """Read the process's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
