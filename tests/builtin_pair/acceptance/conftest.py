"""Results as `make results` leaves them, and a checkout to publish them in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builtin_pair.acceptance import publish
from dami_agent.tasks import UNSEEN
from tests.builtin_pair.acceptance.measured import (
    a_bench,
    a_bench_on,
    a_budget_curve,
    a_calibration,
    a_comparison,
    a_leaderboard,
    a_shared_prefix,
    a_sweep,
    block,
    some_conversations,
    some_heads,
    some_merges,
    some_requests,
)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    measured = {"sweep": a_sweep(), "bench": a_bench(), "calibrate": a_calibration(), "budgets": a_budget_curve()}
    measured |= {
        "heads": some_heads(),
        "bfcl": a_leaderboard(),
        "freeform": some_requests(),
        "conversations": some_conversations(),
        "prefix": a_shared_prefix(),
        "quality": a_comparison(),
        "merges": some_merges(),
    }
    for name, data in (measured | {f"unseen-{kind}": a_bench_on(kind) for kind in UNSEEN}).items():
        (folder / f"{name}.json").write_text(json.dumps(data), encoding="utf-8")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with the files and all the markers they must have."""
    folder = tmp_path / "checkout"
    for name, required in publish.REQUIRED.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        text = "\n".join(f"before {each}\n\n{block(each)}\nafter" for each in required)
        (folder / name).write_text(f"# Title\n\n{text}\n", encoding="utf-8")
    return folder
