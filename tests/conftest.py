"""For all tests: no user's ledger is touched, and no setting of the terminal or of a tracing service has a say."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import chance

pytest_plugins = ["pytester"]

# Before anything imports transformers or torch: they read these once.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")
for name in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2", "FORCE_COLOR"):
    os.environ.pop(name, None)

with contextlib.suppress(ImportError):  # a bare GPU machine, where `make gpu-check` runs tests too, has pytest alone
    from hypothesis import HealthCheck, settings

    unhurried = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
    settings.register_profile("dami", derandomize=not chance.FUZZ, **unhurried)
    settings.load_profile("dami")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how to have this run's chance again."""
    if chance.FUZZ:
        terminalreporter.write_line(f"the same chance again: DAMI_SEED={chance.SEED}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Begin every test from the same chance, whatever ran before."""
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
