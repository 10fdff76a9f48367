"""Read from the environment where the ledger is, whether it keeps text, and its prices.

Where: an argument, else ``DAMI_LEDGER``, else a file in the user's data directory.
"""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from dami_agent.errors import LedgerError
from dami_agent.files import data_folder
from dami_agent.ledger.database import LOCATION_HINT, first_line

VARIABLE = "DAMI_LEDGER"
TEXT_VARIABLE = "DAMI_LEDGER_TEXT"
PRICES_VARIABLE = "DAMI_LEDGER_PRICES"
OFF = frozenset({"off", "none", "disabled", "0", "no", "false"})
ON = frozenset({"on", "1", "yes", "true"})


def default_location() -> str:
    """Return ``DAMI_LEDGER`` (a path, an SQLAlchemy URL, or ``off``) or else a file in the user's data directory."""
    said = os.environ.get(VARIABLE, "").strip()
    if said and said.lower() not in ON:
        return said
    return str(data_folder() / "ledger.sqlite")


def text_wanted() -> bool:
    """Tell whether ``DAMI_LEDGER_TEXT`` turns the keeping of text on.

    Raises:
        LedgerError: if it says neither yes nor no: whether text is kept is not to be guessed.
    """
    said = os.environ.get(TEXT_VARIABLE, "").strip().lower()
    if said not in {"", "0", "1", "true", "false", "yes", "no", "on", "off"}:
        raise LedgerError(f"{TEXT_VARIABLE}={said!r} is not a yes or no value", hint="1 keeps texts, 0 does not")
    return said in {"1", "true", "yes", "on"}


def prices_file() -> str | None:
    """Return the price table that ``DAMI_LEDGER_PRICES`` names."""
    return os.environ.get(PRICES_VARIABLE) or None


def resolve(location: str | Path | None) -> URL | None:
    """Return the database's URL; None for ``off``. Without a location: :func:`default_location`. Writes nothing.

    Raises:
        LedgerError: for text that looks like a URL and is none, or a path that no file can have.
    """
    text = default_location() if location is None else str(location)
    if text.lower() in OFF:
        return None
    if location is not None and text.lower() in ON:
        text = default_location()
    if "://" in text:
        try:
            url = make_url(text)
            # Both schemes are in use for PostgreSQL; psycopg is the driver that the extra `postgres` installs.
            plain = url.drivername in ("postgresql", "postgres")
            return url.set(drivername="postgresql+psycopg") if plain else url
        except (ArgumentError, ValueError) as e:  # the latter of a port that is not a number
            raise LedgerError(
                f"the ledger's location {text!r} is not a valid database URL: {first_line(e)}", hint=LOCATION_HINT
            ) from e
    if text == ":memory:":
        return URL.create("sqlite", database=":memory:")
    try:
        path = Path(text).expanduser()
        path.exists()  # looks, and so finds what is not a path at all
    except (OSError, RuntimeError, ValueError) as e:
        raise LedgerError(
            f"the ledger's location {text!r} is not a usable path: {first_line(e)}", hint=LOCATION_HINT
        ) from e
    return URL.create("sqlite", database=str(path))
