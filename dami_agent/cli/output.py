"""Where output goes: results to stdout, as tables or JSON; everything on the way to stderr."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console


def stdout() -> Console:
    """For tables: the terminal's width, or unlimited where a program reads."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 240
    return console


def print_json(value: Any) -> None:
    """One JSON document, readable; text as it is, not as escapes."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
