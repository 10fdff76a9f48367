"""Run by ``make test-vllm`` in an environment of their own; elsewhere these tests skip."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from dami_agent.checkpoints import CheckpointPair
from tests.pairs import write_pair
from tests.runtime.support import Lab

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

CONTEXT = 512
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder; vLLM's own warnings are not ours to mend."""
    missing = pytest.mark.skip(reason="vLLM is not installed: make test-vllm")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.vllm)
            item.add_marker(pytest.mark.filterwarnings("default"))
            if find_spec("vllm") is None:
                item.add_marker(missing)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Return a tiny random pair whose heads are of a size that vLLM's kernels have."""
    instruct, thinking = write_pair(
        tmp_path_factory.mktemp("pair"), seed=7, hidden=64, head_dim=32, dtype="float32", context=CONTEXT
    )
    return Lab(instruct, thinking, tmp_path_factory.mktemp("merged"))


@pytest.fixture(scope="session")
def open_vllm() -> Callable[..., Any]:
    """Return what opens an engine for two folders."""
    from dami_agent.integrations.vllm import VllmEngine

    def open_engine(instruct: Path, thinking: Path, **options: Any) -> VllmEngine:
        options = {"dtype": "float32", "context_length": CONTEXT - 1, "enforce_eager": True, **options}
        return VllmEngine.open(CheckpointPair.open(str(instruct), str(thinking)), **options)

    return open_engine


@pytest.fixture(scope="session")
def engine(lab: Lab, open_vllm: Callable[..., Any]) -> Iterator[Any]:
    """Open the tiny pair once for all tests."""
    with open_vllm(lab.instruct, lab.thinking) as engine:
        yield engine
