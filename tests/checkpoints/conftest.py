from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pairs import write_pair

Pair = tuple[Path, Path]


@pytest.fixture(scope="session")
def written(tmp_path_factory) -> Callable[..., Pair]:
    """Random pairs, written once per set of arguments. Not to be changed: see ``copied``."""
    made: dict[str, Pair] = {}

    def write(**kwargs) -> Pair:
        key = repr(sorted(kwargs.items()))
        if key not in made:
            made[key] = write_pair(tmp_path_factory.mktemp("pair"), **kwargs)
        return made[key]

    return write


@pytest.fixture
def copied(written, tmp_path) -> Callable[..., Pair]:
    """A copy of a random pair, for a test to break."""
    numbers = itertools.count()

    def copy(**kwargs) -> Pair:
        folder = tmp_path / f"copy{next(numbers)}"
        return tuple(shutil.copytree(path, folder / path.name) for path in written(**kwargs))  # type: ignore[return-value]

    return copy
