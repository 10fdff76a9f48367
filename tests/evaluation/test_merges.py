"""Static merges answer the same questions as the path does, and λ=1 of it is Thinking itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dami_agent.checkpoints import CheckpointPair
from dami_agent.cli.app import app
from dami_agent.evaluation import merges as module
from dami_agent.evaluation.call_batches import BatchRunner, PairSource, QuestionBatch
from dami_agent.evaluation.consensus import MEANS
from dami_agent.evaluation.merges import MergePlan, compare_merges
from dami_agent.evaluation.sweep import held_out
from dami_agent.types import Intensity
from dami_agent.weights.static_merges import MERGES

BASE = Path("builtin_pair/base")
FEW = tuple(
    merge for merge in MERGES if merge.name in ("linear λ=0.4", "linear λ=1", "slerp t=0.4", "ties density=0.5 t=0.8")
)


def test_the_end_of_the_path_is_thinking_and_ways_without_their_base_are_left_out() -> None:
    plan = MergePlan(questions=12, seeds=2, merges=FEW, consensus=False, max_tokens=200)
    found = compare_merges(plan, PairSource())
    assert found["fingerprint"] == CheckpointPair.builtin().fingerprint
    assert [row["method"] for row in found["rows"]] == ["linear", "linear", "slerp"]
    assert found["left_out"] == ["ties"]
    asked = list(held_out(12, 2))
    batch = QuestionBatch(name="λ=1", asked=asked, intensity=Intensity(1), temperature=0.7, max_tokens=200)
    with BatchRunner(PairSource()) as runner:
        (thinking,) = runner.run([batch])
    row = found["rows"][1]
    assert row["accuracy"] == pytest.approx(sum(each.right for each in thinking) / 12, abs=1e-4)
    assert row["tokens"] == pytest.approx(sum(each.tokens for each in thinking) / 12, abs=0.06)
    assert "gain" not in row
    assert {"gain", "gain_ci"} <= found["rows"][2].keys()


def test_the_command_prints_a_row_for_each_and_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.MergePlan, "__init__", _few(module.MergePlan.__init__))
    file = tmp_path / "merges.json"
    arguments = ["bench", "merges", "--questions", "10", "--seeds", "1", "--max-tokens", "60", "--base", str(BASE)]
    done = CliRunner().invoke(app, [*arguments, "-o", str(file)])
    assert done.exit_code == 0, done.output
    assert "slerp" in done.output
    assert "ties" in done.output
    assert "left out" not in done.output
    assert "acm-like" in done.output
    assert len(json.loads(file.read_text())["rows"]) == len(FEW) + len(MEANS)


def _few(init):  # type: ignore[no-untyped-def]
    return lambda self, **given: init(self, **(given | {"merges": FEW}))
