"""A small real sweep of the built-in pair, accepted by the command: what is added, written and printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from builtin_pair.acceptance.accept import accepted, measure_unseen, shipped
from builtin_pair.acceptance.criteria import criteria
from builtin_pair.cli import app
from dami_agent.errors import UsageError
from dami_agent.evaluation import outcomes, sweep
from dami_agent.evaluation.call_batches import BatchRunner, PairSource
from dami_agent.types import Intensity
from tests.evaluation.outcomes import found

PLAN = sweep.SweepConfig(
    questions=20, seeds=2, lambdas=(0, 1), max_tokens=40, switch_questions=0, control_questions=0, tool_dialogues=2
)


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    return json.loads(json.dumps(sweep.sweep(PLAN, PairSource(batch=32))))  # type: ignore[no-any-return]


def test_criteria_read_from_json_are_those_of_the_outcomes_themselves(measured: dict[str, Any]) -> None:
    asked = list(sweep.held_out(300, 3))
    answered = found(asked)
    whole = measured | {"questions": 300, "seeds": 3, "outcomes": json.loads(json.dumps(outcomes.packed(answered)))}
    whole["rows"] = [{"lambda": float(value), "template": "thinking"} for value in answered]
    result = accepted(whole)
    assert result["criteria"] == [each.to_dict() for each in criteria(asked, answered, result)]
    assert len(result["criteria"]) == 17
    assert result["criteria"][0]["value"] == round(sum(each.right for each in answered[Intensity(1)]) / 300, 4)


def test_the_command_adds_criteria_and_writes_the_frontier_that_ships(measured: dict[str, Any], tmp_path: Path) -> None:
    path, frontier = tmp_path / "sweep.json", tmp_path / "frontier.json"
    path.write_text(json.dumps(measured))
    arguments = ["accept", str(path), "--unseen-questions", "2", "--frontier", str(frontier)]
    ended = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert ended.exit_code == 0
    result = json.loads(path.read_text())
    assert {name: result[name] for name in measured} == measured
    assert [(row["kind"], row["lambda"], row["questions"]) for row in result["unseen"]] == [
        (kind, value, 2) for kind in ("template", "name", "length") for value in (0.0, 1.0)
    ]
    verdicts = {each["name"]: each["met"] for each in result["criteria"]}
    assert len(verdicts) == 17
    assert {name for name, met in verdicts.items() if met is None} >= {"oracle", "standard_suites"}
    assert json.loads(frontier.read_text()) == shipped(result)
    assert "outcomes" not in shipped(result)


def test_a_sweep_of_other_weights_or_without_outcomes_is_refused(measured: dict[str, Any], tmp_path: Path) -> None:
    with BatchRunner(PairSource(batch=32)) as runner, pytest.raises(UsageError, match="other weights"):
        measure_unseen(runner, measured | {"fingerprint": "other"}, 1)
    path = tmp_path / "sweep.json"
    path.write_text(json.dumps(shipped(measured)))
    ended = CliRunner().invoke(app, ["accept", str(path), "--unseen-questions", "0"])
    assert ended.exit_code == 1
    assert json.loads(path.read_text()) == shipped(measured)
