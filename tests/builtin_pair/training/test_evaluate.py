"""Measurements in training run on the product's engine, on checkpoints and on states that no folder holds yet."""

import json
from pathlib import Path
from random import Random

import pytest

import builtin_pair
import dami_agent
from builtin_pair.training import command, documents, evaluate, export, self_mistakes, serving
from builtin_pair.training import tokenizer as tokens
from builtin_pair.training.render import TrainingDialogue, Turn
from dami_agent.evaluation.runner import MAX_TOKENS
from dami_agent.tasks import questions

BASE = Path(builtin_pair.__file__).parent / "base"
BUILTIN = Path(dami_agent.__file__).parent / "checkpoints" / "builtin"


@pytest.fixture(scope="module")
def tokenizer():
    return tokens.load(BASE)


def test_the_command_measures_every_part_of_the_pair_in_its_folder(capsys):
    parts = ("instruct_path", "confidence", "tools")
    arguments = ["evaluate", "--pair", str(BUILTIN), "--count", "2", "--parts", ",".join(parts), "--threads", "1"]
    command.main([*arguments, "--device", "cpu"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert tuple(dict.fromkeys(row["part"] for row in rows)) == parts
    path = [row for row in rows if row["part"] == "instruct_path"]
    assert [row["lambda"] for row in path] == list(evaluate.INSTRUCT_PATH)
    assert all(row["template"] == "instruct" and row["tokens"] > 0 and row["errors"] == 0 for row in path)
    assert all(row["dialogues"] == 2 and row["tokens"] > 0 for row in rows if row["part"] == "tools")


@pytest.mark.filterwarnings("ignore:temperature=0")
def test_states_are_measured_at_their_own_intensity(tokenizer, monkeypatch):
    monkeypatch.setattr(evaluate, "TEMPERATURE", 0.0)  # the two ends have sampling defaults of their own
    instruct, thinking = (export.load_state(BUILTIN / role) for role in ("instruct", "thinking"))
    asked = [(0, each) for each in questions("calibration", 4, levels=(1,))]
    with serving.open_states(instruct, thinking, tokenizer, device="cpu") as session:
        ends = [evaluate.on_path(session, asked, at, template="thinking", max_tokens=64) for at in (0.0, 1.0)]
    with serving.open_states(thinking, instruct, tokenizer, device="cpu") as session:
        turned = [evaluate.on_path(session, asked, at, template="thinking", max_tokens=64) for at in (1.0, 0.0)]
    assert [row["tokens"] for row in ends] == [row["tokens"] for row in turned]
    assert ends[0]["tokens"] != ends[1]["tokens"]


def test_a_thought_goes_on_from_the_documents_own_prompt(tokenizer):
    state = export.load_state(BUILTIN / "thinking")
    asked = [TrainingDialogue([Turn("user", each.prompt)], template="thinking") for each in questions("calibration", 3)]
    with serving.open_states(state, state, tokenizer, device="cpu") as session:
        first, again, short = (
            serving.think(session, tokenizer, asked, temperature=0.7, limit=limit, seed=1) for limit in (60, 60, 20)
        )
    assert first == again
    assert len(first) == 3
    assert all(whole and whole.startswith(part) for whole, part in zip(first, short, strict=True))
    assert any(len(part) < len(whole) for whole, part in zip(first, short, strict=True))
    assert not any("think>" in thought for thought in first)


def test_the_cap_of_a_reply_and_of_a_mistakes_thought_is_above_every_thought_in_training(tokenizer):
    rng = Random(8)
    longest = max(
        len(tokenizer.encode(turn.thought or "", add_special_tokens=False).ids)
        for family in ("question", "work")
        for _ in range(300)
        for turn in documents.draw(rng, family, "thinking", 1.0).turns
    )
    assert 500 < longest < self_mistakes.LIMIT < MAX_TOKENS
