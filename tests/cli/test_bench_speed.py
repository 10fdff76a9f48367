"""`dami bench speed` from end to end, with a pair of random weights."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dami_agent.cli.app import app
from tests.cli.conftest import Dami
from tests.pairs import write_pair

UNITS = {
    "switch_floor": "s",
    "switch_vs_reload": "s",
    "decode_single": "tokens/s",
    "batch_one_lambda": "tokens/s",
    "batch_many_lambda": "tokens/s",
    "mixed_overhead": "s/token",
    "prefix_reuse": "s",
    "overhead": "s/step",
    "ttft_tail": "s",
}
REVERSED = ("switch_vs_reload", "prefix_reuse")  # seconds that the reference takes more of


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What the command prints for people, and what it writes."""
    file = tmp_path_factory.mktemp("speed") / "speed.json"
    ended = CliRunner().invoke(app, ["bench", "speed", "--shape", "tiny", "--quick", "-o", str(file)])
    assert ended.exit_code == 0, ended.exception
    return ended.stdout, json.loads(file.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_row_is_there_and_its_ratio_is_the_quotient(measured: tuple[str, dict[str, Any]]) -> None:
    rows = measured[1]["rows"]
    assert {row["name"]: row["unit"] for row in rows} == UNITS
    assert [row["name"] for row in rows] == list(UNITS)
    for row in rows:
        assert list(row) == ["pair", "name", "ours", "reference", "ratio", "unit", "note"]
        assert row["pair"] == "random-tiny"
        ours, reference = row["ours"], row["reference"]
        assert min(ours, reference) > 0
        quotient = reference / ours if row["name"] in REVERSED else ours / reference
        assert row["ratio"] == pytest.approx(quotient, rel=1e-4)
        assert row["note"]


@pytest.mark.slow
def test_the_table_says_what_was_to_be_reached(measured: tuple[str, dict[str, Any]]) -> None:
    out, result = measured
    said = {"aim": "aim met", "must": "must met", "missed": "MISSED", None: "–"}
    for row, goal in zip(result["rows"], result["goals"], strict=True):
        assert goal["name"] == row["name"]
        assert re.search(
            rf"^{row['name']} .* [≤≥] {goal['must']:g} +[≤≥] {goal['aim']:g} +{said[goal['met']]}", out, re.MULTILINE
        )
    assert result["goals"][list(UNITS).index("overhead")]["met"] is None
    assert f"random-tiny: cpu, float32, {result['threads']} thread" in out


@pytest.mark.slow
def test_the_curves_grow_over_requests_and_lambdas(measured: tuple[str, dict[str, Any]]) -> None:
    points = measured[1]["curves"]
    assert all(list(point) == ["pair", "name", "requests", "lambdas", "tokens_per_second"] for point in points)
    assert all(point["tokens_per_second"] > 0 for point in points)
    shapes = [(point["name"], point["requests"], point["lambdas"]) for point in points]
    assert shapes == [
        ("throughput_over_concurrency", 1, 1),
        ("throughput_over_concurrency", 8, 8),
        ("throughput_over_concurrency", 32, 8),
        ("throughput_over_concurrency", 128, 8),
        ("throughput_over_lambdas", 32, 1),
        ("throughput_over_lambdas", 32, 8),
        ("throughput_over_lambdas", 32, 32),
    ]


@pytest.mark.slow
def test_notes_name_the_reference_and_what_was_done(measured: tuple[str, dict[str, Any]]) -> None:
    notes = {row["name"]: row["note"] for row in measured[1]["rows"]}
    assert re.search("padded generate|generate_batch", notes["batch_one_lambda"])
    # Five of the six prompts begin with one that was read before: 256 + 304 + … + 448 tokens, cut to whole blocks.
    reused = re.search(r"(\d+) of (\d+) tokens not read again", notes["prefix_reuse"])
    assert reused is not None
    assert int(reused[2]) == sum(range(256, 497, 48))
    assert 0.9 * sum(range(256, 449, 48)) < int(reused[1]) <= sum(range(256, 449, 48))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--instruct", "somewhere"), "a pair needs both checkpoints"),
        (("--shape", "7b"), "unknown shape '7b'"),
        (("--shape", "tiny", "--instruct", "a", "--thinking", "b"), "--shape makes a pair of its own"),
        (("--instruct", "/nowhere/a", "--thinking", "/nowhere/b"), "/nowhere/a"),
    ],
)
def test_bad_input_is_refused(dami: Dami, arguments: tuple[str, ...], words: str) -> None:
    ended = dami("bench", "speed", "--quick", *arguments)
    assert ended.status != 0
    assert words in ended.err


def test_a_context_that_is_too_short_is_refused(dami: Dami, tmp_path: Path) -> None:
    instruct, thinking = write_pair(tmp_path, context=256)
    ended = dami("bench", "speed", "--quick", "--instruct", str(instruct), "--thinking", str(thinking))
    assert ended.status == 2
    assert "has a context of 256 tokens here, 512 are needed" in ended.err


def test_a_file_that_cannot_be_written_is_refused_before_work(dami: Dami, tmp_path: Path) -> None:
    ended = dami("bench", "speed", "--quick", "-o", str(tmp_path))
    assert ended.status == 2
    assert "cannot write" in ended.err
