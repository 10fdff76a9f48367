"""`dami demo`, `sweep` and `bench` at their smallest, with the built-in pair; how well it does is not judged here."""

from __future__ import annotations

import dataclasses
import json
from inspect import signature
from pathlib import Path

import pytest

from dami_agent import ChatDAMI
from dami_agent.cli.sweep import sweep
from dami_agent.evaluation.sweep import SweepConfig
from tests.cli.conftest import Dami
from tests.demo_fields import STEP_FIELDS


def test_demo_as_json_adds_up(dami: Dami) -> None:
    shown = dami("demo", "--json", "--tasks", "2", "--seed", "5").json
    assert set(shown["totals"]) == {"dami", "instruct", "thinking"}
    for total in shown["totals"].values():
        assert total["tasks"] == 2
        assert 0 <= total["solved"] <= 2
    steps = shown["steps"]
    assert all(set(step) >= STEP_FIELDS for step in steps)
    assert {step["task"] for step in steps} <= {0, 1, 2}
    rows = dami("logs", "--json").json
    assert len(rows) >= len(steps)
    spent = sum(total["output_tokens"] for total in shown["totals"].values())
    assert spent == sum(row["output_tokens"] for row in rows)


def test_demo_for_people(dami: Dami) -> None:
    ended = dami("demo", "--tasks", "1")
    assert ended.status == 0
    for word in ("λ 0.", "tokens", "dami", "instruct", "thinking", "output tokens", "dami logs"):
        assert word in ended.out


def test_sweep_writes_what_it_prints(dami: Dami, tmp_path: Path) -> None:
    few = (
        "--questions",
        "10",
        "--seeds",
        "1",
        "--switch-questions",
        "0",
        "--tool-dialogues",
        "0",
        "--control-questions",
        "2",
        "--max-tokens",
        "24",
    )
    ended = dami("sweep", "--json", "--lambdas", "0,1", "-o", str(tmp_path / "frontier.json"), *few)
    assert json.loads((tmp_path / "frontier.json").read_text()) == ended.json
    assert (ended.json["questions"], ended.json["seeds"]) == (10, 1)
    assert [row["lambda"] for row in ended.json["rows"]] == [0, 1]
    for row in ended.json["rows"]:
        assert set(row) >= {"lambda", "accuracy", "accuracy_ci", "tokens", "think_ratio", "finished", "by_level"}


def test_sweep_for_people_shows_tables_and_no_criterion(dami: Dami) -> None:
    few = ("--questions", "5", "--seeds", "1", "--switch-questions", "0", "--tool-dialogues", "1", "--max-tokens", "8")
    out = dami("sweep", "--lambdas", "0,1", "--control-questions", "1", *few).out
    for words in ("oracle, smallest right of", "one unseen tool", "held-out questions"):
        assert words in out
    assert "must" not in out  # what the built-in pair has to reach says nothing about another one


def test_what_sweep_measures_unasked_is_the_plan_that_ships() -> None:
    defaults = {name: parameter.default for name, parameter in signature(sweep).parameters.items()}
    plan = dataclasses.asdict(SweepConfig())
    assert tuple(float(part) for part in defaults.pop("lambdas").split(",")) == plan.pop("lambdas")
    assert {name: defaults[name] for name in plan} == plan


def test_sweep_refuses_what_is_no_list(dami: Dami) -> None:
    ended = dami("sweep", "--lambdas", "0,much")
    assert ended.status == 2
    assert "--lambdas" in ended.err


def test_bench_compares(dami: Dami) -> None:
    shown = dami("bench", "--tasks", "2", "--no-controls", "--json").json
    assert set(shown["modes"]) >= {"dami", "instruct", "thinking"}
    assert all(mode["tasks"] == 2 for mode in shown["modes"].values())


def test_heads_are_trained_kept_and_used(dami: Dami, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    ended = dami(
        "train-estimator",
        "--json",
        "--count",
        "100",
        "--tasks",
        "0",
        "--test",
        "20",
        "--lambdas",
        "0,1",
        "--max-tokens",
        "24",
    )
    said = ended.json
    assert Path(said["heads"]).is_file()
    for cards, prompts in ((said["cards"], 100), (said["test"], 20)):
        assert [(card["reads"], card["kind"], card["prompts"]) for card in cards] == [
            ("states", "plain", prompts),
            ("probe", "plain", prompts),
            ("joint", "plain", prompts),
            ("entropy", "plain", prompts),
        ]
        assert [row["lambda"] for row in cards[0]["fixed"]] == [0, 1]
    assert said["cards"][0]["auc"][0] > 0.9  # Instruct answers within 24 tokens: the prompt tells how well
    model = ChatDAMI(estimator="preference", ledger="off", max_tokens=24)
    decided = model.invoke("What is 3 + 4?").response_metadata
    assert decided["estimate"]["estimator"] == "preference"
    assert decided["intensity"] in (0, 1)
    assert 0 <= decided["estimate"]["features"]["right@0"] <= 1


def test_heads_are_trained_on_own_questions_or_they_are_refused(dami: Dami, tmp_path: Path) -> None:
    mine, heads = tmp_path / "mine.jsonl", tmp_path / "heads.safetensors"
    asked = [{"question": f"What is {n} + {n + 3}?", "answer": 2 * n + 3} for n in range(130)]
    mine.write_text("\n".join(map(json.dumps, asked)))
    few = ("--lambdas", "0,1", "--max-tokens", "16", "-o", str(heads))
    ended = dami("train-estimator", "--questions", str(mine), "--test", "30", *few)
    assert ended.status == 0
    shown = " ".join(ended.out.split())
    for words in (
        "100 prompts it learned from",
        "30 prompts it never saw",
        "against fixed λs",
        "prompts without tools",
    ):
        assert words in shown
    kept = tmp_path / "samples.safetensors"
    for _ in range(2):  # the second time nothing is decoded to learn from
        again = dami("train-estimator", "--json", "--questions", str(mine), "--test", "0", "--samples", str(kept), *few)
        assert [card["prompts"] for card in again.json["cards"]] == [130, 130, 130, 130], "states, probe, both, entropy"
        assert kept.is_file()
    assert "λ=1" not in again.err
    for given, said in (
        (("--test", "31"), "99 prompts of 130, 31 of which"),
        (("--count", "100"), "--count and --tasks are of synthetic prompts"),
        (("--test", "20", "--samples", str(kept)), "of other prompts"),
        (("--test", "0", "--samples", str(tmp_path)), "cannot write"),
    ):
        ended = dami("train-estimator", "--questions", str(mine), *given, *few)
        assert ended.status == 2
        assert said in ended.err
    mine.write_text('{"question": "?"}')
    ended = dami("train-estimator", "--questions", str(mine), *few)
    assert ended.status == 2
    assert "line 1" in ended.err
