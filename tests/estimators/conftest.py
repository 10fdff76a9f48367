"""Heads that were fitted once, for all tests that ask them."""

from __future__ import annotations

import pytest

from dami_agent.estimators.fit import fit_heads
from dami_agent.estimators.head import Head
from dami_agent.estimators.heads import Heads
from tests.estimators.support import drawn


@pytest.fixture(scope="session")
def heads() -> Heads:
    return fit_heads(drawn(600), "pair-1")


@pytest.fixture(params=["states", "probe", "joint", "entropy"])
def head(request: pytest.FixtureRequest, heads: Heads) -> Head:
    found = heads.get(request.param, "plain")
    assert found is not None
    return found
