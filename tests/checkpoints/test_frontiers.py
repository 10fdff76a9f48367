"""Which frontier a pair gets: the user's own, the one beside it, a published one, and never another pair's."""

from __future__ import annotations

import json
import re
import shutil
from types import SimpleNamespace
from typing import Any

import pytest

from dami_agent import ChatDAMI
from dami_agent.checkpoints import CheckpointPair
from dami_agent.errors import InvalidPolicy
from dami_agent.frontiers import candidates, find_frontier, frontier_path, published_frontier, read_frontier
from dami_agent.policy import Frontier, ReasoningPolicy


def table(pair: CheckpointPair | None = None, *, tokens: float = 100) -> dict[str, Any]:
    rows = [{"lambda": 0, "accuracy": 0.5, "tokens": 10}, {"lambda": 1, "accuracy": 0.9, "tokens": tokens}]
    return {"rows": rows, "pair": "some"} | ({"fingerprint": pair.fingerprint} if pair else {})


@pytest.fixture
def pair(copied, tmp_path, monkeypatch) -> CheckpointPair:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return CheckpointPair.open(*copied())


def keep(pair: CheckpointPair, data: dict[str, Any]) -> None:
    path = frontier_path(pair.fingerprint)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


def lay_beside(pair: CheckpointPair, data: dict[str, Any]) -> CheckpointPair:
    (pair.instruct.path.parent / "frontier.json").write_text(json.dumps(data))
    return CheckpointPair.open(pair.instruct.path, pair.thinking.path)


def test_the_users_own_goes_before_the_one_beside_the_pair(pair):
    assert find_frontier(pair) == Frontier()
    pair = lay_beside(pair, table(tokens=200))
    assert find_frontier(pair).rows[-1].tokens == 200
    keep(pair, table(pair, tokens=300))
    assert find_frontier(pair).rows[-1].tokens == 300


def test_a_model_finds_it_by_the_fingerprint(pair):
    keep(pair, table(pair, tokens=300))
    model = ChatDAMI(instruct=str(pair.instruct.path), thinking=str(pair.thinking.path))
    assert model.pipeline().policy.frontier.rows[-1].tokens == 300
    model.close()


@pytest.mark.parametrize("where", [keep, lay_beside])
@pytest.mark.parametrize(
    ("text", "why"),
    [
        (json.dumps(table(CheckpointPair.builtin())), f"another pair .*{CheckpointPair.builtin().fingerprint}"),
        ('{"rows": [', "cannot read the frontier"),
        ("{}", "KeyError"),
    ],
)
def test_what_is_no_frontier_of_this_pair_is_passed_over(pair, where, text, why, caplog):
    """So that the pair can be used, and measured anew; the warning names the file."""
    pair = where(pair, {}) or pair
    (path,) = candidates(pair)
    path.write_text(text)
    assert find_frontier(pair) == Frontier()
    (record,) = caplog.records
    assert str(path) in record.getMessage()
    assert re.search(why, record.getMessage())
    frontier, said = read_frontier(path, pair)
    assert frontier is None
    assert re.search(why, said)


def test_a_broken_one_of_the_users_leaves_the_one_beside_the_pair(pair):
    keep(pair, {})
    pair = lay_beside(pair, table(tokens=200))
    assert find_frontier(pair).rows[-1].tokens == 200


def test_a_policy_with_another_pairs_is_refused_too(pair):
    other = Frontier.from_dict(table(pair))
    with pytest.raises(InvalidPolicy, match="another pair"):
        ChatDAMI(policy=ReasoningPolicy(frontier=other)).pipeline()
    unknown = Frontier.from_dict(table())  # a hand-written table says of no pair that it is its
    assert ChatDAMI(policy=ReasoningPolicy(frontier=unknown)).pipeline().policy.frontier == unknown


def test_a_policy_file_names_one_seen_from_its_own_folder(tmp_path, monkeypatch):
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "mine.json").write_text(json.dumps(table(tokens=77)))
    (folder / "careful.yaml").write_text("frontier: mine.json\ndefault: {effort: low}\n")
    policy = ReasoningPolicy.from_file(folder / "careful.yaml")
    assert (policy.name, policy.frontier.rows[-1].tokens) == ("careful", 77)
    assert (
        policy.fingerprint == ReasoningPolicy.from_dict({"name": "careful", "default": {"effort": "low"}}).fingerprint
    )
    given = Frontier.from_dict(table(tokens=78))
    assert ReasoningPolicy.from_file(folder / "careful.yaml", frontier=given).frontier == given
    monkeypatch.chdir(folder)
    assert ReasoningPolicy.from_dict({"frontier": "mine.json"}).frontier.rows[-1].tokens == 77
    with pytest.raises(InvalidPolicy, match=r"cannot read the frontier .*gone\.json"):
        ReasoningPolicy.from_dict({"frontier": "gone.json"})


class TestPublished:
    SHAPES = ({"hidden_size": 2560, "num_hidden_layers": 36}, {"hidden_size": 2048, "num_hidden_layers": 48})

    def pair(self, instruct: str, thinking: str, shape: dict[str, int]) -> Any:
        """Stand in for a pair of gigabytes: its names and its config are all that is asked."""
        config = shape | {"vocab_size": 151936}
        return SimpleNamespace(
            instruct=SimpleNamespace(source=instruct), thinking=SimpleNamespace(source=thinking), config=config
        )

    @pytest.mark.parametrize(("size", "shape"), [*zip(("4B", "30B-A3B"), SHAPES, strict=True)])
    def test_the_valley_is_fenced_off(self, size, shape):
        names = f"Qwen/Qwen3-{size}-Instruct-2507", f"Qwen/Qwen3-{size}-Thinking-2507"
        found = published_frontier(self.pair(*names, shape))
        assert found is not None
        assert found.published == found.source == "arXiv 2510.10977"
        assert all(value == 0 or value >= 0.55 for value in found.grid)
        assert {0.0, 0.6, 0.8, 1.0} <= set(map(float, found.grid))
        efforts = [float(found.for_effort(name)) for name in ("none", "minimal", "low", "medium", "high", "max")]
        assert efforts == sorted(efforts)
        assert efforts[:3] == [0, 0, 0.6]

    @pytest.mark.parametrize(
        ("instruct", "thinking", "found"),
        [
            ("/models/Qwen3-4B-Instruct-2507", "/models/Qwen3-4B-Thinking-2507/", True),
            ("me/Qwen3-4B-Instruct-2507-tuned", "Qwen/Qwen3-4B-Thinking-2507", False),
            ("Qwen/Qwen3-4B-Thinking-2507", "Qwen/Qwen3-4B-Instruct-2507", False),
            ("Qwen/Qwen3-30B-A3B-Instruct-2507", "Qwen/Qwen3-30B-A3B-Thinking-2507", False),  # not of this shape
        ],
    )
    def test_names_and_shape_must_both_be_right(self, instruct, thinking, found):
        assert (published_frontier(self.pair(instruct, thinking, self.SHAPES[0])) is not None) == found

    def test_means_are_those_of_the_cells(self):
        for shape, size in zip(self.SHAPES, ("4B", "30B-A3B"), strict=True):
            names = f"Qwen3-{size}-Instruct-2507", f"Qwen3-{size}-Thinking-2507"
            frontier = published_frontier(self.pair(*names, shape))
            assert frontier is not None
            assert frontier.reply_limit == 3 * max(row.longest for row in frontier.rows)
            for row in frontier.rows:
                assert 0.5 < row.accuracy < 0.85
                assert row.longest > row.tokens > 3000

    def test_a_folder_of_that_name_with_other_weights_gets_none(self, copied, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
        named = [
            shutil.move(path, path.parent / f"Qwen3-4B-{side}-2507")
            for path, side in zip(copied(), ("Instruct", "Thinking"), strict=True)
        ]
        assert find_frontier(CheckpointPair.open(*named)) == Frontier()
