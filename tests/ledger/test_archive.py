"""A ledger where nothing can be written: on a read-only disk, and in a read-only folder of somebody else's."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dami_agent.errors import LedgerError
from dami_agent.ledger import Ledger
from tests.ledger.records import make_record

FOLDER = Path(__file__).parent


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A folder that :func:`freeze` makes read-only, really: as another mount, or by its rights."""
    folder = tmp_path / "archive"
    folder.mkdir()
    yield folder
    if os.geteuid() == 0:
        subprocess.run(["umount", str(folder)], stderr=subprocess.DEVNULL, check=False)
    folder.chmod(0o700)


def freeze(folder: Path) -> None:
    if os.geteuid() != 0:  # for others the rights of the folder are enough
        for file in folder.iterdir():
            file.chmod(0o400)
        folder.chmod(0o500)
        return
    for command in (["--bind", str(folder), str(folder)], ["-o", "remount,ro,bind", str(folder)]):
        if subprocess.run(["mount", *command], stderr=subprocess.DEVNULL, check=False).returncode:
            pytest.skip("root may not mount here")
    assert not os.access(folder, os.W_OK)


def ids(ledger: Ledger) -> list[str]:
    return [row.call_id for row in ledger.rows()]


def test_a_closed_ledger(disk: Path) -> None:
    path = disk / "ledger.sqlite"
    written = Ledger.open(path)
    for seed in range(5):
        written.record(make_record(seed, started_at=float(seed)))
    expected = ids(written)
    written.close()
    assert [file.name for file in disk.iterdir()] == ["ledger.sqlite"]  # without its -wal and -shm
    freeze(disk)
    ledger = Ledger.open(path)
    assert ids(ledger) == expected
    assert ledger.verify().whole
    ledger.record(make_record(7))  # no answer is lost where none can be kept
    assert ledger.waiting == 1
    ledger.forget_waiting()


@pytest.mark.parametrize("shared_memory", [True, False])
def test_a_ledger_with_unfinished_log(tmp_path: Path, disk: Path, shared_memory: bool) -> None:
    """As a killed process or a copy of a running one leaves it: the rows are still in the log."""
    path = tmp_path / "live.sqlite"
    live = Ledger.open(path)
    for seed in range(5):
        live.record(make_record(seed, started_at=float(seed)))
    expected = ids(live)
    for suffix in ("", "-wal", *(["-shm"] if shared_memory else [])):
        shutil.copy(f"{path}{suffix}", disk / f"ledger.sqlite{suffix}")
    assert (disk / "ledger.sqlite-wal").stat().st_size > 0
    live.close()
    freeze(disk)
    ledger = Ledger.open(disk / "ledger.sqlite")
    assert ids(ledger) == expected
    assert ledger.verify().whole


@pytest.mark.parametrize("schema", [1, 2, 3, 4, 5, 6, 7])
def test_a_ledger_of_an_older_release(disk: Path, schema: int) -> None:
    path = disk / "ledger.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript((FOLDER / f"ledger_v{schema}.sql").read_text(encoding="utf-8"))
        expected = connection.execute("select count(*) from calls").fetchone()[0]
    connection.close()
    before = path.read_bytes()
    freeze(disk)
    ledger = Ledger.open(path)
    assert len(ledger.rows()) == expected > 0
    assert ledger.verify().schema == 8
    assert (None in {row.cost for row in ledger.rows()}) == (schema < 4)  # only that file's calls are all priced
    assert path.read_bytes() == before


def test_what_is_no_ledger_stays_an_error_of_ours(disk: Path) -> None:
    path = disk / "ledger.sqlite"
    path.write_bytes(b"this is not a database" * 500)
    freeze(disk)
    with pytest.raises(LedgerError, match="cannot read the ledger"):
        Ledger.open(path).rows()
