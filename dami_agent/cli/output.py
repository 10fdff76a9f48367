"""Send results to stdout, as tables or JSON, and everything on the way to stderr.

Whatever comes from a ledger, a model or a task is made visible first: no foreign text reaches the terminal as an
escape sequence, and none can pass for a line of ours.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dami_agent.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

LINES = "\n\t"
"""What an error or a reply may hold beside text."""

# Invisible characters that reorder what follows, or end a line: "Trojan Source", CVE-2021-42574.
_REORDER = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029\ufeff")


def stdout() -> Console:
    """Open the console for tables: the terminal's width, or unlimited where a program reads."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 240
    return console


def visible(text: str, *, keep: str = "") -> str:
    r"""Return ``text`` with control characters as escapes (``\x1b``), so that a terminal shows and does not obey them.

    Args:
        text: of whatever origin.
        keep: characters that stay: ``"\n\t"`` where text may have lines.
    """
    if text.isprintable():
        return text
    return "".join(c if c in keep or not _obeyed(c) else ascii(c)[1:-1] for c in text)


def _obeyed(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or character in _REORDER


def print_json(value: Any) -> None:
    """Print one JSON document, readable: text as it is, control characters as escapes."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    if not text.isprintable():
        text = "".join(c if c == "\n" or not _obeyed(c) else json.dumps(c)[1:-1] for c in text)
    typer.echo(text)


def write_json(path: Path, value: Any) -> None:
    """Write one JSON document to a file, for people to read too."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def put_out(
    result: Mapping[str, Any], *, output: Path | None, as_json: bool, show: Callable[[Mapping[str, Any]], None]
) -> None:
    """Write what a measurement found to a file, if one is named, and print it.

    Args:
        result: plain JSON.
        output: the file.
        as_json: print JSON; else ``show`` prints it for people.
        show: prints tables.
    """
    if output is not None:
        write_json(output, result)
    if as_json:
        print_json(result)
    else:
        show(result)


def check_writable(path: Path) -> None:
    """Refuse a file that cannot be written, before hours of work.

    Raises:
        UsageError: it cannot.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writable = not path.is_dir() and os.access(path if path.exists() else path.parent, os.W_OK)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error}") from error
    if not writable:
        raise UsageError(f"cannot write {path}", hint="name a file in a folder of yours")
