"""Publishing: idempotent, honest about what changed, and clear about what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builtin_pair.acceptance import publish
from dami_agent.checkpoints import CheckpointPair
from dami_agent.errors import UsageError
from tests.builtin_pair.acceptance.measured import a_bench, a_bench_on, a_budget_curve, block


def read(root: Path) -> dict[str, str]:
    return {
        name: (root / name).read_text(encoding="utf-8")
        for name in (*publish.REQUIRED, publish.PICTURE, publish.BUDGETS)
    }


def test_publishing_twice_changes_nothing(results: Path, root: Path) -> None:
    assert publish.publish(results, root) == [*publish.REQUIRED, publish.PICTURE, publish.BUDGETS]
    first = read(root)
    assert publish.publish(results, root) == []
    assert read(root) == first
    assert "old" not in first["README.md"]
    assert first["README.md"].startswith("# Title\n\nbefore frontier\n\n<!-- results:frontier -->\n|")
    assert first["README.md"].endswith("after\n")


def test_a_changed_number_changes_the_text_it_stands_in_and_no_other(results: Path, root: Path) -> None:
    publish.publish(results, root)
    first = read(root)
    data = json.loads((results / "bench.json").read_text())
    data["modes"]["dami"] = data["modes"]["dami"] | {"output_tokens": 54321}
    (results / "bench.json").write_text(json.dumps(data))
    assert publish.publish(results, root) == ["README.md", publish.CARD]
    second = read(root)
    assert second["README.md"] == first["README.md"].replace("12,345", "54,321", 1)
    data = json.loads((results / "sweep.json").read_text())
    data["rows"][2]["accuracy"] = 0.123
    (results / "sweep.json").write_text(json.dumps(data))
    assert publish.PICTURE in publish.publish(results, root)
    assert "0.123" in read(root)["README.md"]


@pytest.mark.parametrize("name", [*publish.REQUIRED])
def test_a_missing_marker_is_named_and_nothing_is_written(results: Path, root: Path, name: str) -> None:
    gone = publish.REQUIRED[name][-1]
    text = (root / name).read_text(encoding="utf-8").replace(block(gone), "")
    (root / name).write_text(text, encoding="utf-8")
    before = {each: (root / each).read_text(encoding="utf-8") for each in publish.REQUIRED}
    with pytest.raises(UsageError, match=f"(?s){name} lacks markers.*results:{gone} -->"):
        publish.publish(results, root)
    assert {each: (root / each).read_text(encoding="utf-8") for each in publish.REQUIRED} == before
    assert not (root / publish.PICTURE).exists()


@pytest.mark.parametrize(
    "text",
    [
        "<!-- results:bars -->\nno end",
        "no begin\n<!-- /results:bars -->",
        block("poems"),
        block("bars", "<!-- results:agents -->"),
        "<!-- results:bars -->\n<!-- /results:agents -->",
    ],
)
def test_markers_that_do_not_pair_are_errors(text: str) -> None:
    with pytest.raises(UsageError, match="without partner or of unknown name"):
        publish.filled("page.md", text, {})


def test_results_that_do_not_belong_here_are_refused(results: Path, root: Path) -> None:
    data = json.loads((results / "bench.json").read_text())
    (results / "bench.json").write_text(json.dumps(data | {"fingerprint": "other"}))
    with pytest.raises(UsageError, match="measured on other weights"):
        publish.publish(results, root)
    (results / "bench.json").unlink()
    (results / "unseen-name.json").write_text("{")
    with pytest.raises(UsageError, match=r"(?s)bench\.json.*dami bench --json.*unseen-name\.json.*make results"):
        publish.publish(results, root)


def test_what_is_not_measured_is_kept_and_marked_where_that_is_asked_for(results: Path, root: Path) -> None:
    publish.publish(results, root)
    first = read(root)
    data = json.loads((results / "bench.json").read_text())
    (results / "bench.json").write_text(json.dumps(data | {"fingerprint": "other"}))
    (results / "budgets.json").unlink()
    changed = {"README.md", "docs/training.md", "docs/results.md", publish.CARD}
    assert set(publish.publish(results, root, partial=True)) == changed
    second = read(root)
    note = "*Not measured on the weights that ship; `dami bench --json` does.*\n\n"
    assert second["README.md"].count(note) == 2  # agents, depth
    assert "*Not measured on the weights that ship; `dami bench --budgets --json` does.*" in second["README.md"]
    assert second["README.md"].replace(note, "").count("12,345") == first["README.md"].count("12,345")
    assert second[publish.BUDGETS] == first[publish.BUDGETS]
    assert publish.publish(results, root, partial=True) == []
    (results / "bench.json").write_text(json.dumps(data))
    (results / "budgets.json").write_text(json.dumps(a_budget_curve()))
    publish.publish(results, root)
    assert read(root) == first


def test_a_block_that_never_was_measured_says_so(results: Path, root: Path) -> None:
    (results / "bfcl.json").unlink()
    publish.publish(results, root, partial=True)
    text = read(root)["builtin_pair/README.md"]
    assert "\nNot measured yet: `python -m builtin_pair bfcl --output results/bfcl.json` does.\n" in text
    with pytest.raises(UsageError, match=r"bfcl\.json"):
        publish.publish(results, root)


def test_a_result_without_a_figure_says_which(results: Path, root: Path) -> None:
    data = json.loads((results / "sweep.json").read_text())
    del data["controls"]["oracle"]
    (results / "sweep.json").write_text(json.dumps(data))
    with pytest.raises(UsageError, match="lack what controls shows"):
        publish.publish(results, root)


def test_criteria_are_read_under_either_name_and_computed_where_there_are_none(results: Path, root: Path) -> None:
    whole = json.loads((results / "sweep.json").read_text())
    publish.publish(results, root)
    first = read(root)
    kept = {name: value for name, value in whole.items() if name not in ("criteria", "outcomes")}
    (results / "sweep.json").write_text(json.dumps(kept | {"bars": whole["criteria"]}))  # as older files have it
    assert publish.publish(results, root) == []
    raw = {name: value for name, value in kept.items() if name not in ("unseen", "parity", "suites")}
    (results / "sweep.json").write_text(json.dumps(raw | {"outcomes": whole["outcomes"]}))
    publish.publish(results, root)
    again = publish.read_results(results, CheckpointPair.builtin())[0]["sweep"]["criteria"]
    unjudged = {each["name"] for each in again if each["met"] is None}
    assert unjudged == {"unseen_template", "unseen_name", "unseen_length", "standard_suites"}
    assert [each for each in again if each["name"] not in unjudged] == [
        each for each in whole["criteria"] if each["name"] not in unjudged
    ]
    assert "| Thinking over all |" in read(root)[publish.CARD]
    assert first[publish.CARD] != read(root)[publish.CARD]
    (results / "sweep.json").write_text(json.dumps(kept))
    with pytest.raises(UsageError, match="what became of every question"):
        publish.publish(results, root)


def test_the_command_says_what_it_did(
    results: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = publish.publish
    monkeypatch.setattr(publish, "publish", lambda folder, partial: whole(folder, root, partial=partial))
    publish.main(results)
    assert "rewrote README.md" in capsys.readouterr().out
    publish.main(results)
    assert capsys.readouterr().out == "nothing has changed\n"
    with pytest.raises(SystemExit):
        publish.main(results / "nowhere")
    assert "hint:" in capsys.readouterr().err


def test_agents_on_unseen_tasks_are_not_published_as_the_usual_ones(results: Path, root: Path) -> None:
    (results / "bench.json").write_text(json.dumps(a_bench() | {"unseen": "name"}), encoding="utf-8")
    with pytest.raises(UsageError, match=r"unseen name, not of the usual tasks(?s:.*)`dami bench --json`"):
        publish.publish(results, root)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"unseen": None}, "of the usual tasks, not of tasks with an unseen length"),
        ({"unseen": "name"}, "of tasks with an unseen name, not of tasks with an unseen length"),
        ({"fingerprint": "other"}, "measured on other weights"),
        (None, "cannot read"),
    ],
)
def test_every_result_on_unseen_tasks_must_be_what_its_name_says(
    results: Path, root: Path, change: dict[str, Any] | None, told: str
) -> None:
    path = results / "unseen-length.json"
    path.unlink()
    if change is not None:
        path.write_text(json.dumps(a_bench_on("length") | change), encoding="utf-8")
    before = {each: (root / each).read_text(encoding="utf-8") for each in publish.REQUIRED}
    with pytest.raises(UsageError) as caught:
        publish.publish(results, root)
    assert "unseen-length.json" in str(caught.value)
    assert told in str(caught.value)
    assert "`dami bench --unseen length --tasks 102 --no-controls --json`" in str(caught.value)
    assert {each: (root / each).read_text(encoding="utf-8") for each in publish.REQUIRED} == before
    assert not (root / publish.PICTURE).exists()


def test_a_result_on_unseen_tasks_without_a_mode_says_so(results: Path, root: Path) -> None:
    data = a_bench_on("name")
    del data["modes"]["policy"]
    (results / "unseen-name.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(UsageError, match=r"--unseen WHAT.* lack what agents_unseen shows: KeyError 'policy'"):
        publish.publish(results, root)


def test_rivals_that_nobody_has_measured_keep_nothing_else_from_being_published(results: Path, root: Path) -> None:
    for name in publish.OPTIONAL:
        (results / f"{name}.json").unlink()
    assert "README.md" in publish.publish(results, root)
    text = (root / "docs/results.md").read_text(encoding="utf-8")
    assert "Not measured yet: `dami bench quality --json` does." in text
    assert "(`dami bench --budgets`)" in text


def test_a_list_that_cannot_be_written_anew_is_kept_and_marked_once(results: Path, root: Path) -> None:
    publish.publish(results, root)
    (results / "quality.json").unlink()
    for _ in range(2):
        publish.publish(results, root)
        text = (root / "docs/results.md").read_text(encoding="utf-8")
        note = "*Not measured on the weights that ship; `dami bench quality --json` does.*\n\n"
        assert f"<!-- results:limits_questions -->\n{note}- **fixed**: " in text
        assert text.count(note) == 2  # the table's too
