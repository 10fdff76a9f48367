from __future__ import annotations

from collections.abc import Iterator

import pytest

from dami_agent.runtime import LocalEngine
from tests.pairs import write_pair
from tests.runtime.support import CONTEXT, VOCAB, Lab


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("pair")
    instruct, thinking = write_pair(folder, seed=7, vocab=VOCAB, context=CONTEXT, dtype="float32")
    return Lab(instruct, thinking, tmp_path_factory.mktemp("merged"))


@pytest.fixture(scope="session", params=["merged", "mixed"])
def engine(lab: Lab, request: pytest.FixtureRequest) -> Iterator[LocalEngine]:
    with lab.engine(request.param) as engine:
        yield engine


@pytest.fixture(scope="session")
def mixed(lab: Lab) -> Iterator[LocalEngine]:
    with lab.engine("mixed") as engine:
        yield engine
