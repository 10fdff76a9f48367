"""`make results` measures what is missing or older than what it rests on, and `make stale` says what that is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from builtin_pair.acceptance.publish import OPTIONAL, ROOT, SOURCES
from dami_agent.tasks import UNSEEN

UNSEEN_PARTS = tuple(f"unseen-{kind}" for kind in UNSEEN)
PARTS = (
    "sweep",
    "prefix",
    "heads",
    "bench",
    "budgets",
    *UNSEEN_PARTS,
    "calibrate",
    "bfcl",
    "freeform",
    "conversations",
)
WEIGHTS = "dami_agent/checkpoints/builtin/thinking/model.safetensors"

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout of which every part was measured in turn after the weights."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    for when, name in enumerate((WEIGHTS, *(f"results/{part}.json" for part in PARTS)), 1_700_000_000):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (when, when))
    return tmp_path


def make(folder: Path, *arguments: str) -> str:
    told = ("make", "--no-print-directory", *arguments)
    return subprocess.run(told, cwd=folder, capture_output=True, text=True, check=True).stdout


def stale(folder: Path) -> set[str]:
    return set(make(folder, "stale").split())


def test_what_is_newer_than_all_it_rests_on_is_not_stale(folder: Path) -> None:
    assert stale(folder) == set()
    (folder / "results/bfcl.json").unlink()
    assert stale(folder) == {"bfcl"}


def test_other_heads_make_stale_what_agents_do(folder: Path) -> None:
    (folder / "results/heads.json").touch()
    assert stale(folder) == set(PARTS) - {"sweep", "prefix", "heads", "calibrate", "bfcl"}


def test_other_weights_make_all_of_it_stale(folder: Path) -> None:
    (folder / WEIGHTS).touch()
    assert stale(folder) == set(PARTS)


def test_everything_that_is_published_is_measured_by_make_results(folder: Path) -> None:
    shutil.rmtree(folder / "results")
    assert {*SOURCES} - OPTIONAL - {"unseen"} <= set(PARTS)
    assert set(re.findall(r"results/(\w+)\.json", make(folder, "--dry-run", "rivals"))) >= OPTIONAL
    done = make(folder, "--dry-run", "results")
    for part in PARTS:
        assert f"results/{part}.json" in done, part
    for kind in UNSEEN:
        assert f"dami bench --unseen {kind} --tasks 102 --no-controls --workers 2 " in done
    assert "python -m builtin_pair accept results/sweep.json" in done
    assert f"--output {Path(WEIGHTS).parents[1]}/heads.safetensors" in done
    assert done.count(f"--frontier {Path(WEIGHTS).parents[1]}/frontier.json") == 2
    assert done.rstrip().splitlines()[-1].endswith("python -m builtin_pair publish")
