"""Open the tables that token savings are estimated with: a file the user names, or the built-in pair's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dami_agent.types import BUILTIN

if TYPE_CHECKING:
    from dami_agent.ledger import Savings


def builtin_frontier() -> Path | None:
    """Return the built-in pair's frontier file; None where it is not installed."""
    from dami_agent.checkpoints.builtin_folder import builtin_folder

    path = builtin_folder() / "frontier.json"
    return path if path.is_file() else None


def open_savings(frontier: Path | None) -> Savings:
    """Estimate savings by a frontier file, for calls of every model; None: by the built-in pair's, for its calls alone.

    Raises:
        InvalidPolicy: if the file is not a frontier.
    """
    from dami_agent.ledger import Savings
    from dami_agent.policy import Frontier

    file, model = (builtin_frontier(), BUILTIN) if frontier is None else (frontier, None)
    if file is None:
        return Savings(None)
    return Savings(Frontier.from_file(file), Frontier.from_file(file, of="tools"), model=model)
