"""`dami bench prefix` at its smallest, with the built-in pair."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Dami


def test_it_says_whether_one_prefix_for_every_lambda_is_free(dami: Dami, tmp_path: Path) -> None:
    few = ("--questions", "10", "--seeds", "1", "--tasks", "0", "--lambdas", "0,1", "--max-tokens", "64")
    said = dami("bench", "prefix", *few, "-o", str(tmp_path / "prefix.json"))
    assert said.status == 0
    assert "prompts read at λ=1 for every λ" in said.out
    result = json.loads((tmp_path / "prefix.json").read_text(encoding="utf-8"))
    assert [row["lambda"] for row in result["rows"]] == [0.0]
    assert ("costs nothing" in said.out) == result["free"]


def test_lambda_one_alone_is_refused(dami: Dami) -> None:
    said = dami("bench", "prefix", "--lambdas", "1", "--questions", "10")
    assert said.status == 2
    assert "at λ = 1 a shared prefix is the exact one" in said.err
