"""Render the page: data as JSON, script and style from ``assets``, nothing from anywhere else."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dami_agent.errors import LedgerError
from dami_agent.files import write_whole
from dami_agent.ledger import CallRow, totals, unmatched_rules
from dami_agent.ledger.call_text import TEXTS
from dami_agent.policy import Frontier
from dami_agent.report.page_table import table

# In the order they need each other; the page holds them as one script.
SCRIPTS = (
    "data.js",
    "format.js",
    "dom.js",
    "colour.js",
    "select.js",
    "bars.js",
    "runs.js",
    "totals.js",
    "groups.js",
    "histogram.js",
    "frontier.js",
    "detail.js",
    "calls.js",
    "page.js",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSource:
    """Holds what the page says about where its numbers come from.

    Attributes:
        ledger: its name, without credentials or folders.
        scope: which of its calls these are, e.g. ``since 2h``; "" for all.
        made_at: UTC.
        skipped: rows of the ledger that are damaged and so not in the page.
    """

    ledger: str
    scope: str = ""
    skipped: int = 0
    made_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """Holds output tokens saved, which nobody may claim without saying against what.

    Attributes:
        tokens: of each row; negative where it cost more, None where nothing can be said.
        baseline: what they are saved against.
        method: how that is known.
    """

    tokens: Sequence[float | None]
    baseline: str
    method: str


def render(
    rows: Sequence[CallRow],
    source: ReportSource,
    frontier: Frontier | None = None,
    saved: Saved | None = None,
    *,
    text: bool = False,
) -> str:
    """Return the page. ``rows`` are oldest first, as :meth:`Ledger.rows` gives them.

    Args:
        rows: the calls.
        source: where they come from.
        frontier: the measured table to draw the calls on.
        saved: what they saved, and against what.
        text: put prompts, thoughts and answers into the page, as far as the rows hold them.
    """
    kept = any(getattr(row, name) is not None for row in rows for name in TEXTS)
    if not text:
        without: dict[str, Any] = dict.fromkeys(TEXTS)
        rows = [dataclasses.replace(row, **without) for row in rows] if kept else rows
    script, style = "\n".join(map(_asset, SCRIPTS)), _asset("report.css")
    script = f'"use strict";\n(() => {{\n{script}}})();\n'
    data = {
        **table(rows, saved=None if saved is None else saved.tokens),
        "ledger": source.ledger,
        "scope": source.scope,
        "skipped": source.skipped,
        "text": "included" if text and kept else "left out" if kept else "not kept",
        "made_at": round(source.made_at.timestamp() * 1000),
        "frontier": _frontier(frontier),
        "saved": None if saved is None else {"baseline": saved.baseline, "method": saved.method},
    }
    environment = Environment(
        loader=PackageLoader("dami_agent.report", "assets"), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("report.html.jinja").render(
        policy=f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        "base-uri 'none'; form-action 'none'",
        script=Markup(script),
        style=Markup(style),
        data=_embedded(data),
        source=source,
        totals=_totals(rows),
        unmatched_rules=unmatched_rules(rows),
    )


def write(
    path: Path,
    rows: Sequence[CallRow],
    source: ReportSource,
    frontier: Frontier | None = None,
    saved: Saved | None = None,
    *,
    text: bool = False,
) -> int:
    """Write the page to ``path``, a file whole or not at all; return its size in bytes.

    A link is followed, a device or pipe is written through, and ``-`` is stdout; see :func:`render` for the rest.

    Args:
        path: the file, or ``-``.
        rows, source, frontier, saved, text: as :func:`render` takes them.

    Raises:
        LedgerError: if the file cannot be written.
    """
    page = render(rows, source, frontier, saved, text=text).encode("utf-8")
    try:
        if str(path) == "-":
            sys.stdout.buffer.write(page)
            sys.stdout.buffer.flush()
        elif path.exists() and not (path.is_file() or path.is_dir()):  # replacing a device would make it a file
            with path.open("wb") as through:
                through.write(page)
        else:
            write_whole(path.resolve() if path.is_symlink() else path, page)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise LedgerError(f"cannot write the report to {path}: {why}", hint="name a writable file with -o") from error
    return len(page)


def _asset(name: str) -> str:
    """Read the text of a packaged file, with the line ends a browser hashes."""
    return (files("dami_agent.report") / "assets" / name).read_text(encoding="utf-8").replace("\r\n", "\n")


def _hash(text: str) -> str:
    """Compute the CSP hash source of an inline element's text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode()}'"


def _embedded(data: Any) -> Markup:
    """Encode JSON that no HTML parser can take for anything but text."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _frontier(frontier: Frontier | None) -> dict[str, Any] | None:
    if frontier is None or not frontier.rows:
        return None
    grid = set(frontier.grid)
    names = ("accuracy", "accuracy_ci", "tokens", "think_ratio")
    return {
        "pair": frontier.pair,
        "source": frontier.source,
        "rows": [
            {"lambda": float(row.intensity), "efficient": row.intensity in grid}
            | {name: getattr(row, name) for name in names}
            for row in frontier.rows
        ],
    }


def _totals(rows: Sequence[CallRow]) -> dict[str, str]:
    """Format the totals for a reader without scripts."""
    plain = {name: value for name, value in totals(rows).items() if isinstance(value, (int, float))}
    return {n.replace("_", " "): f"{v:,.2f}" if isinstance(v, float) else f"{v:,}" for n, v in plain.items()}
