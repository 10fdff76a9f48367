"""The frontier that ships: measured on the pair that ships, and as good as is said of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from dami_agent.checkpoints import CheckpointPair
from dami_agent.policy import Frontier


@pytest.fixture(scope="module")
def shipped() -> tuple[CheckpointPair, dict[str, Any]]:
    pair = CheckpointPair.builtin()
    assert pair.frontier_path is not None
    return pair, json.loads(Path(pair.frontier_path).read_text(encoding="utf-8"))


def test_it_was_measured_on_these_weights(shipped: tuple[CheckpointPair, dict[str, Any]]) -> None:
    pair, data = shipped
    assert data["fingerprint"] == pair.fingerprint, "measure it anew: dami sweep -o .../builtin/frontier.json"
    assert data["questions"] >= 2000
    assert data["seeds"] >= 3
    assert data["temperature"] == 0.7
    assert [row["lambda"] for row in data["rows"]] == [i / 10 for i in range(11)]


def test_the_pair_is_what_the_card_says(shipped: tuple[CheckpointPair, dict[str, Any]]) -> None:
    rows = shipped[1]["rows"]
    instruct, thinking = rows[0], rows[-1]
    assert thinking["accuracy"] - instruct["accuracy"] >= 0.15
    assert instruct["by_level"]["1"] >= 0.90
    assert instruct["tokens_by_level"]["1"] <= 0.25 * thinking["tokens_by_level"]["1"]
    for place, row in enumerate(rows):
        assert row["finished"] >= 0.97
        assert row["errors"] == 0
        assert all(row["accuracy"] >= earlier["accuracy"] - 0.03 for earlier in rows[:place])


def test_its_tool_calls(shipped: tuple[CheckpointPair, dict[str, Any]]) -> None:
    exact = {(row["setting"], row["lambda"]): row["exact"] for row in shipped[1]["tools"]}
    assert exact["one unseen tool", 0.0] >= 0.90
    assert exact["one of three demo tools", 0.0] >= 0.95
    assert exact["one of three demo tools", 1.0] >= 0.95


def test_the_policy_finds_both_ends_in_its_grid(shipped: tuple[CheckpointPair, dict[str, Any]]) -> None:
    frontier = Frontier.from_dict(shipped[1])
    assert {0.0, 1.0} <= {float(value) for value in frontier.grid}
    assert frontier.for_effort("none") == 0.0
    efforts = [frontier.for_effort(name) for name in ("none", "minimal", "low", "medium", "high", "max")]
    assert efforts == sorted(efforts)
