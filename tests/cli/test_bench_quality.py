"""`dami bench quality` at its smallest, with the built-in pair."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cli.conftest import Dami

RIVALS = {"majority", "adaptive votes", "retry", "a2r", "a2r on doubt"}  # that take several replies


def without_rivals(result: dict[str, Any]) -> dict[str, Any]:
    """What the command says if it samples no more replies than the methods beside them take."""

    def kept(named: dict[str, Any]) -> dict[str, Any]:
        assert named.keys() >= RIVALS
        return {name: value for name, value in named.items() if name not in RIVALS}

    budgets = [budget | {"gains": kept(budget["gains"])} for budget in result["budgets"]]
    return result | {"budgets": budgets, "areas": kept(result["areas"]), "curves": kept(result["curves"])}


def test_the_command_keeps_its_samples_and_says_the_same_again(dami: Dami, tmp_path: Path) -> None:
    few = ("--learned", "150", "--questions", "20", "--lambdas", "0,1", "--max-tokens", "16")
    first = dami("bench", "quality", *few, "--samples", str(tmp_path / "kept"), "--json").json
    assert (first["questions"], first["learned"], first["lambdas"]) == (20, 150, [0, 1])
    assert {file.suffix for file in (tmp_path / "kept").iterdir()} == {".safetensors", ".jsonl"}
    again = ("--no-votes", "--no-syntheses", "--samples", str(tmp_path / "kept"), "-o", str(tmp_path / "again.json"))
    ended = dami("bench", "quality", *few, *again)
    assert json.loads((tmp_path / "again.json").read_text()) == without_rivals(first)
    assert "of the oracle's gain on fixed" in ended.out
    assert "done" not in ended.err  # nothing was sampled again
    answers, *told = sorted((tmp_path / "kept").glob("tested-*.jsonl"), key=lambda file: (len(file.name), file.name))
    replies = [json.loads(line)["label"] for line in answers.read_text().splitlines()]
    thinking = {f"1.0 thinking {number}" for number in range(3)}
    explored = {f"{value} thinking {number}" for value in (0.2, 0.6) for number in range(2)}
    assert set(replies) == {"0.0 instruct 0", *thinking, *explored}
    assert len(replies) == 8 * 20  # the first of Thinking's replies is the one at λ=1
    assert [file.name.removeprefix(answers.stem) for file in told] == ["-told-0.2.jsonl", "-told-0.6.jsonl"]
    assert [file.read_text().count("\n") for file in told] == [20, 20]
