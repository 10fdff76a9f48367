"""Where the ledger is: an argument, else ``DAMI_LEDGER``, else a file in the user's data directory."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from dami_agent.errors import LedgerError

VARIABLE = "DAMI_LEDGER"
OFF = frozenset({"off", "none", "disabled"})


def default_location() -> str:
    """``DAMI_LEDGER`` (a path, an SQLAlchemy URL, or ``off``) if set, else a file in the user's data directory."""
    return os.environ.get(VARIABLE) or str(
        Path(platformdirs.user_data_dir("dami-agent", appauthor=False)) / "ledger.sqlite"
    )


def resolve(location: str | Path | None) -> URL | None:
    """The database's URL; None for ``off``. Without a location: :func:`default_location`. Touches no disk.

    Raises:
        LedgerError: for text that looks like a URL and is none.
    """
    text = default_location() if location is None else str(location)
    if text.lower() in OFF:
        return None
    if "://" in text:
        try:
            return make_url(text)
        except ArgumentError as e:
            raise LedgerError(
                f"the ledger's location {text!r} is no database URL: {e}",
                hint="a file path, an SQLAlchemy URL such as sqlite:////home/me/ledger.sqlite, or 'off'",
            ) from e
    if text == ":memory:":
        return URL.create("sqlite", database=":memory:")
    return URL.create("sqlite", database=str(Path(text).expanduser()))
