"""Read a ledger where nothing can be written: an archived file on a read-only disk or in a read-only folder."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import URL, Engine
from sqlalchemy.exc import SQLAlchemyError

from dami_agent.ledger.database import immutable, make_engine
from dami_agent.ledger.schema import migrate

log = logging.getLogger("dami_agent.ledger")


@contextmanager
def archived(file: Path | None, engine: Engine) -> Iterator[Engine]:
    """Yield ``engine`` itself if it can open its database, else one that reads ``file`` without writing beside it.

    SQLite reads a file in WAL mode only with two files beside it, which it cannot make on a read-only disk. Without
    unfinished log the file is read as it stands; with one, or with an older schema, a temporary copy is read.
    """
    if file is None or not os.path.exists(file) or _writable(file) or _opens(engine):
        yield engine
        return
    frozen = make_engine(immutable(file))
    try:
        if not _has_log(file) and _opens(frozen):
            yield frozen
            return
    finally:
        frozen.dispose()
    with TemporaryDirectory(prefix="dami-ledger-") as folder:
        copy = Path(folder) / "ledger.sqlite"
        for suffix in ("", "-wal"):
            if os.path.exists(f"{file}{suffix}"):
                shutil.copyfile(f"{file}{suffix}", f"{copy}{suffix}")
        thawed = make_engine(URL.create("sqlite", database=str(copy)))
        try:
            yield thawed
        finally:
            thawed.dispose()


def _writable(file: Path) -> bool:
    return os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)


def _has_log(file: Path) -> bool:
    log_file = Path(f"{file}-wal")
    return log_file.exists() and log_file.stat().st_size > 0


def _opens(engine: Engine) -> bool:
    """Tell whether the database can be opened and has the newest schema, or can be given it."""
    try:
        with engine.connect() as connection:
            migrate(connection)
    except SQLAlchemyError:
        return False
    return True
