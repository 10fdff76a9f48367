"""For all tests: no user's ledger is touched, and no setting of the terminal or of a tracing service has a say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import chance

pytest_plugins = ["pytester"]

# Before anything imports transformers or torch: they read these once.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")
for name in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2", "FORCE_COLOR"):
    os.environ.pop(name, None)

settings.register_profile("dami", derandomize=not chance.FUZZ, deadline=None)
settings.load_profile("dami")


def pytest_report_header() -> str:
    """Say how to have this run's chance again."""
    return f"DAMI_SEED={chance.SEED}"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Let no test depend on those before it."""
    chance.reset()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run files with slow tests first: workers get whole files, and a long one at the end leaves the others idle."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(scope="session", autouse=True)
def _ledger_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Calls made by tests go on record in a file of their own."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAMI_LEDGER", str(path))
        patch.setenv("XDG_DATA_HOME", str(path.parent))  # nor the user's own heads of the built-in pair
        yield path
