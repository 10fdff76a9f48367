"""The two constraint files say what pyproject.toml allows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]


def direct() -> dict[str, Requirement]:
    """Read the requirements of the package and of `make test`'s environment that no Python version switches off."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["agents"]]
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(each.name): each for each in found if each.marker is None}


def pinned(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(each.name): str(each.specifier).removeprefix("==") for each in found}


def test_the_oldest_versions_are_the_lower_bounds() -> None:
    bounds = {name: str(each.specifier).removeprefix(">=") for name, each in direct().items()}
    del bounds["torch"]
    assert pinned("constraints-oldest.txt") == bounds


@pytest.mark.parametrize("name", sorted(direct()))
def test_what_make_installs_is_allowed(name: str) -> None:
    assert direct()[name].specifier.contains(pinned("constraints.txt")[name])
