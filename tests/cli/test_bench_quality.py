"""`dami bench quality` at its smallest, with the built-in pair."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Dami


def test_the_command_keeps_its_samples_and_says_the_same_again(dami: Dami, tmp_path: Path) -> None:
    few = ("--learned", "150", "--questions", "20", "--lambdas", "0,1", "--max-tokens", "16")
    first = dami("bench", "quality", *few, "--samples", str(tmp_path / "kept"), "--json").json
    assert (first["questions"], first["learned"], first["lambdas"]) == (20, 150, [0, 1])
    assert {file.suffix for file in (tmp_path / "kept").iterdir()} == {".safetensors", ".jsonl"}
    ended = dami("bench", "quality", *few, "--samples", str(tmp_path / "kept"), "-o", str(tmp_path / "again.json"))
    assert json.loads((tmp_path / "again.json").read_text()) == first
    assert "of the oracle's gain on fixed" in ended.out
    assert "done" not in ended.err  # nothing was sampled again
