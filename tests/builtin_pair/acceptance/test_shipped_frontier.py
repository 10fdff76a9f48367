"""The frontier that ships: measured on the pair that ships, and as good as is said of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from builtin_pair.acceptance import publish
from builtin_pair.acceptance.tables import BLOCKS
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


def test_every_criterion_it_must_meet_is_met(shipped: tuple[CheckpointPair, dict[str, Any]]) -> None:
    criteria = {each["name"]: each for each in (shipped[1].get("criteria") or shipped[1]["bars"])}
    missed = {name: each["value"] for name, each in criteria.items() if not each["met"]}
    assert not missed
    assert all(row["errors"] == 0 for row in (*shipped[1]["rows"], *shipped[1]["tools"]))


def test_the_card_says_what_was_measured(shipped: tuple[CheckpointPair, dict[str, Any]]) -> None:
    pair, data = shipped
    assert pair.card_path is not None
    text = pair.card_path.read_text(encoding="utf-8")
    found = {"sweep": data, "pair": publish.facts(pair)}
    here = [name for name, (source, _) in BLOCKS.items() if source in found and f"<!-- results:{name} -->" in text]
    assert set(here) == {name for name in publish.REQUIRED[publish.CARD] if BLOCKS[name][0] in found}
    for name in here:
        source, write = BLOCKS[name]
        assert f"<!-- results:{name} -->\n{write(found[source])}\n<!-- /results" in text, f"{name}: run `make publish`"


def test_the_policy_finds_both_ends_in_its_grid(shipped: tuple[CheckpointPair, dict[str, Any]]) -> None:
    frontier = Frontier.from_dict(shipped[1])
    assert {0.0, 1.0} <= {float(value) for value in frontier.grid}
    assert frontier.for_effort("none") == 0.0
    efforts = [frontier.for_effort(name) for name in ("none", "minimal", "low", "medium", "high", "max")]
    assert efforts == sorted(efforts)
