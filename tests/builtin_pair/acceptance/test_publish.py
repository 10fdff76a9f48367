"""Publishing: idempotent, honest about what changed, and clear about what is missing."""

from __future__ import annotations

import itertools
import json
import random
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from builtin_pair.acceptance import publish
from builtin_pair.acceptance.accept import accepted
from builtin_pair.acceptance.tables import BLOCKS
from builtin_pair.acceptance.talk_tables import KINDS, TALK
from dami_agent.checkpoints import CheckpointPair
from dami_agent.errors import UsageError
from dami_agent.evaluation import confidence_rule, controls, rows
from dami_agent.evaluation.confidence_rule import Observation
from dami_agent.evaluation.outcomes import packed
from dami_agent.tasks import FAMILIES, LEVELS, UNSEEN, Unseen
from dami_agent.types import Intensity
from tests.evaluation.outcomes import asked, found, outcome

FINGERPRINT = CheckpointPair.builtin().fingerprint


def a_sweep() -> dict[str, Any]:
    """A sweep's JSON from random outcomes, through the functions that a real one goes through."""
    rng = random.Random(3)
    questions = asked(300)
    outcomes = found(questions)
    tries = [[outcome(rng.random() < 0.6, rng.randint(9, 99), logprob=-rng.random()) for _ in range(30)]] * 5
    tools = [
        {"setting": name, "lambda": at, "exact": 0.9, "exact_ci": 0.03, "dialogues": 300}
        for name in ("one unseen tool", "one of three unseen tools")
        for at in (0.0, 1.0)
    ]
    unseen = [
        {"kind": kind, "lambda": 1.0, "accuracy": 0.8, "seen": 0.85, "gap": 0.05, "gap_ci": 0.04, "finished": 1.0}
        | {"questions": 300}
        for kind in ("template", "name", "length")
    ]
    accuracy = {"accuracy": 0.5, "tokens": 20.0}
    result: dict[str, Any] = {
        "rows": [rows.summary(value, questions, each) for value, each in outcomes.items()],
        "questions": 300,
        "seeds": 3,
        "switch_point": 0.0,
        "pair": "dami-builtin",
        "fingerprint": FINGERPRINT,
        "temperature": 0.7,
        "families": list(FAMILIES),
        "levels": list(LEVELS),
        "switch": [{"lambda": 0.5, "instruct": accuracy, "thinking": accuracy, "gain": 0.0, "gain_ci": 0.1}],
        "tools": tools,
        "controls": controls.compare([Intensity(v) for v in (0, 0.5, 1)], tries),
        "outcomes": packed(outcomes),
    }
    return json.loads(json.dumps(accepted(result, unseen)))


def a_leaderboard() -> dict[str, Any]:
    row = {"items": 100, "valid": 0.12, "valid_ci": 0.064, "name": 0.5, "name_ci": 0.097, "tokens": 61.2}
    row |= {"unreadable": 3, "errors": {}}
    by_category = {name: row | {"valid": at / 10} for at, name in enumerate(("simple_python", "multiple", "parallel"))}
    rows = [row | {"lambda": at, "items": 300, "by_category": by_category, "faults": {}} for at in (0.0, 0.5, 1.0)]
    rows[1] = rows[1] | {"errors": {"ContextOverflow": 2}}
    return {"fingerprint": FINGERPRINT, "seed": 0, "max_tokens": 1024, "items": 300, "rows": rows}


AGAINST = {"solved": -0.02, "solved_ci": [-0.05, 0.01], "tokens": 0.41, "tokens_ci": [0.38, 0.44]}


def a_bench() -> dict[str, Any]:
    by_depth = {depth: {"steps": 10, "tokens": 20.0, "mean_lambda": 0.1} for depth in ("0", "4")}
    mode = {
        "solved": 150,
        "tasks": 201,
        "solved_ci": 11.8,
        "output_tokens": 12345,
        "against_thinking": AGAINST,
        "by_depth": by_depth,
        "empty": 0,
        "errors": {"GraphRecursionError": 1},
    }
    changed = {"steps": 9, "ruled": 1, "lambda_changed": 0, "capped": 0, "changed": 0, "tokens_saved": 0.0}
    return {
        "tasks": 201,
        "seeds": [0, 1, 2],
        "unseen": None,
        "modes": dict.fromkeys(("dami", "instruct", "thinking", "lambda=0.5", "shuffled", "oracle"), mode),
        "policy": {"against_auto": changed},
        "best_static": AGAINST | {"mode": "lambda=0.5"},
        "depths": {"0": 0.7, "4": 0.3},
        "lambda_by_depth": 0.61,
        "lambdas": {"0": 800, "0.4": 60, "0.8": 60, "1": 80},
        "fingerprint": FINGERPRINT,
    }


def some_requests() -> dict[str, Any]:
    row = {"solved": 120, "solved_ci": 13.4, "cases": 200, "tokens": 4321, "empty": 0}
    rows = [row | {"lambda": at, "by_kind": dict.fromkeys(KINDS, "9/20")} for at in ("auto", 0.0)]
    return {"fingerprint": FINGERPRINT, "seed": 0, "rows": rows}


def some_conversations() -> dict[str, Any]:
    row = {f"{kind}, {words} words": "18/20" for kind in TALK for words in ("known", "new")} | {"empty": 1}
    rows = [row | {"lambda": at} for at in ("auto", 0.0)]
    return {"fingerprint": FINGERPRINT, "seed": 0, "questions": 60, "rows": rows}


def a_shared_prefix() -> dict[str, Any]:
    ends = {"accuracy": 0.5, "tokens": 20.0}, {"accuracy": 0.52, "tokens": 21.0}
    row = {"lambda": 0.2, "exact": ends[0], "shared": ends[1], "difference": 0.02, "difference_ci": [-0.01, 0.05]}
    row |= {"tokens_ratio": 1.05, "tokens_ratio_ci": [1.0, 1.1]}
    solved = {"solved": 60, "output_tokens": 12_345}
    agents = {"mode": "dami", "exact": solved, "shared": solved | {"solved": 57}, **AGAINST, "solved_ci": [-0.12, 0.02]}
    agents |= {"solved": -0.05}
    return {
        "intensity": 1.0,
        "free": False,
        "rows": [row, row | {"lambda": 0.4, "tokens_ratio": 1.2}],
        "agents": [agents],
        "questions": 2100,
        "tasks": 402,
        "seeds": 3,
        "fingerprint": FINGERPRINT,
    }


def a_budget_curve() -> dict[str, Any]:
    arm = {"solved": 100, "solved_ci": 12.2, "thought_per_task": 70.0}
    point = {
        "scope": "run",
        "share": 0.5,
        "budget": 71.0,
        "arms": {"auto": arm, "thinking": arm | {"solved": 90}, "lambda=0.5": arm},
        "auto_against_thinking": AGAINST | {"solved": 0.05},
        "auto_against_free": AGAINST | {"solved": -0.04},
    }
    return {
        "tasks": 201,
        "auto": arm | {"thought_per_task": 142.0},
        "points": [point, point | {"scope": "tool"}],
        "pair": "dami-builtin",
        "fingerprint": FINGERPRINT,
    }


def a_bench_on(unseen: Unseen) -> dict[str, Any]:
    """A result of agents on tasks with something unseen, in which every mode has a number of its own."""
    modes = {
        name: {"solved": 40 + 3 * place + UNSEEN.index(unseen), "tasks": 102, "solved_ci": 9.4}
        for place, name in enumerate(("dami", "instruct", "thinking", "policy"))
    }
    return a_bench() | {"tasks": 102, "unseen": unseen, "modes": modes}


def a_calibration() -> dict[str, Any]:
    rng = random.Random(5)
    observed = [
        Observation(
            kind=rng.choice(("question", "call")),
            own=(-rng.random(),),
            scored=(-rng.random(),),
            probe_tokens=1,
            right=(rng.random() < 0.5, True, True),
            tokens=(1, 20, 40),
        )
        for _ in range(60)
    ]
    return confidence_rule.report(observed, (0.0, 0.5, 1.0)) | {"fingerprint": FINGERPRINT}


def some_heads() -> dict[str, Any]:
    """Two heads for each kind of prompt; each has numbers of its own."""
    ends = [{"lambda": 0.0, "accuracy": 0.6, "tokens": 19.0}, {"lambda": 1.0, "accuracy": 0.85, "tokens": 270.0}]
    cards = []
    for place, (kind, reads) in enumerate(itertools.product(("plain", "tools"), ("states", "probe"))):
        prices = [
            {
                "price": price,
                "accuracy": 0.8 + place / 100,
                "tokens": 100.0 + place,
                "gain": -price,
                "gain_ci": 0.01,
                "static_gain": 0.05 + place / 100,
                "static_gain_ci": 0.02,
            }
            for price in (0.0, 0.1, 0.2)
        ]
        cards.append({"kind": kind, "reads": reads, "prompts": 300, "fixed": ends, "prices": prices, "price": 0.1})
    return {"fingerprint": FINGERPRINT, "cards": [card | {"prompts": 500} for card in cards], "test": cards}


def a_comparison() -> dict[str, Any]:
    """A result of ``dami bench quality``."""
    gain = {"gain": -0.012, "ci": 0.02}
    budget = {"accuracy": 0.77, "tokens": 100.0, "share": 0.35, "gains": {"fixed": gain, "caps": gain | {"gain": 0.3}}}
    budget |= {"oracle_share": 0.5, "other_families_over_fixed": gain}
    return {
        "fingerprint": FINGERPRINT,
        "method": "head on states",
        "questions": 2100,
        "learned": 700,
        "thinking": {"accuracy": 0.843, "tokens": 270.0},
        "budgets": [budget, budget | {"tokens": 135.0, "oracle_share": None}],
        "areas": {"fixed": 0.75, "oracle": 0.9},
        "curves": {
            "fixed": [{"accuracy": 0.843, "tokens": 270.0}],
            "majority": [{"accuracy": 0.85, "tokens": 540.0}, {"accuracy": 0.86, "tokens": 810.0}],
        },
        "at_most_thinking": gain | {"tokens": 0.9},
        "even": gain | {"tokens": 0.6},
    }


def some_merges() -> dict[str, Any]:
    row = {"method": "linear", "settings": "λ=0.2", "accuracy": 0.7, "tokens": 109.4, "finished": 0.999}
    rows = [row, row | {"method": "slerp", "settings": "t=0.2", "gain": 0.004, "gain_ci": 0.02}]
    return {"fingerprint": FINGERPRINT, "questions": 600, "seeds": 3, "rows": rows}


def block(name: str, text: str = "old") -> str:
    return f"<!-- results:{name} -->\n{text}\n<!-- /results:{name} -->\n"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    measured = {"sweep": a_sweep(), "bench": a_bench(), "calibrate": a_calibration(), "budgets": a_budget_curve()}
    measured |= {
        "heads": some_heads(),
        "bfcl": a_leaderboard(),
        "freeform": some_requests(),
        "conversations": some_conversations(),
        "prefix": a_shared_prefix(),
        "quality": a_comparison(),
        "merges": some_merges(),
    }
    for name, data in (measured | {f"unseen-{kind}": a_bench_on(kind) for kind in UNSEEN}).items():
        (folder / f"{name}.json").write_text(json.dumps(data), encoding="utf-8")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with the files and all the markers they must have."""
    folder = tmp_path / "checkout"
    for name, required in publish.REQUIRED.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        text = "\n".join(f"before {each}\n\n{block(each)}\nafter" for each in required)
        (folder / name).write_text(f"# Title\n\n{text}\n", encoding="utf-8")
    return folder


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


def test_what_a_shared_prefix_costs_is_shown_with_its_verdict(results: Path, root: Path) -> None:
    publish.publish(results, root)
    lines = (root / "docs/policy.md").read_text(encoding="utf-8").splitlines()
    shown = [line for line in lines if line.startswith(("| questions", "| agents"))]
    assert shown == [
        "| questions, λ=0.2 | 0.500 at 20 | 0.520 at 21 | +2.0 (−1.0 to +5.0) | 1.05 (1.00 to 1.10) | yes |",
        "| questions, λ=0.4 | 0.500 at 20 | 0.520 at 21 | +2.0 (−1.0 to +5.0) | 1.20 (1.00 to 1.10) | **no** |",
        "| agents, λ per step | 60 at 12,345 | 57 at 12,345 | −5.0 (−12.0 to +2.0) | 0.41 (0.38 to 0.44) | **no** |",
    ]


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


def test_every_block_is_a_well_formed_table_or_a_list(results: Path) -> None:
    read_back, stale = publish.read_results(results, CheckpointPair.builtin())
    assert not stale
    assert len(BLOCKS) == 26
    for name, (source, write) in BLOCKS.items():
        if name.startswith("limits_"):
            items, blank, last = write(read_back[source]).rpartition("\n\n")
            assert items.startswith(("- **", "- Under none")), name
            assert blank, name
            assert last.startswith("(`dami bench"), name
            continue
        lines = [line for line in write(read_back[source]).splitlines() if line.startswith("|")]
        assert len(lines) >= 3, name
        assert len({line.count("|") for line in lines}) == 1, name


def test_runs_without_an_answer_are_told() -> None:
    assert "Of all 1,206 runs 0 ended with a blank answer, 6 with an error." in BLOCKS["agents"][1](a_bench())


def test_strangers_tools_are_shown_by_category_with_what_failed() -> None:
    text = BLOCKS["bfcl"][1](a_leaderboard())
    assert "| λ=0.5 | valid | 0.120 ± 0.064 | 0.000 ± 0.064 | 0.100 ± 0.064 | 0.200 ± 0.064 |" in text
    assert "100 simple_python, 100 multiple" in text
    assert "Requests that raised an error: 2 ContextOverflow." in text
    assert "3 at λ=0, 3 at λ=0.5, 3 at λ=1." in text


def test_bars_show_a_missed_one(results: Path) -> None:
    data = json.loads((results / "sweep.json").read_text())
    assert data["criteria"][0]["name"] == "thinking"
    shown = BLOCKS["bars"][1](
        data | {"criteria": [data["criteria"][0] | {"met": False, "value": 0.5, "interval": None}]}
    )
    assert "| Thinking over all | 75 to 92 % | **no** |" in shown
    assert "| 50.0 % |" in shown


def test_the_pair_is_described_from_its_files() -> None:
    pair = CheckpointPair.builtin()
    found_facts = publish.facts(pair)
    size = (pair.instruct.path / "model.safetensors").stat().st_size
    assert 0 < size - found_facts["bytes"] < 100_000
    assert found_facts["bytes"] == 2 * found_facts["parameters"]
    assert str(found_facts["num_hidden_layers"]) in BLOCKS["pair"][1](found_facts)


def test_the_picture_is_an_opaque_svg_without_a_date(results: Path) -> None:
    data = json.loads((results / "sweep.json").read_text())
    drawn = publish.plot.picture(data)  # type: ignore[attr-defined]
    assert drawn == publish.plot.picture(data)  # type: ignore[attr-defined]
    assert ET.fromstring(drawn).tag.endswith("svg")
    assert "dc:date" not in drawn
    assert "fill: #ffffff" in drawn
    moved = data | {"rows": [row | {"tokens": row["tokens"] + 1} for row in data["rows"]]}
    assert publish.plot.picture(moved) != drawn  # type: ignore[attr-defined]


def test_the_picture_of_budgets_moves_with_what_was_solved() -> None:
    curve = a_budget_curve()
    drawn = publish.plot.budget_picture(curve)  # type: ignore[attr-defined]
    assert drawn == publish.plot.budget_picture(curve)  # type: ignore[attr-defined]
    text = "".join(ET.fromstring(drawn).itertext())
    assert "a budget per run" in text
    assert "a budget per tool" in text
    assert "λ=0.5" in text
    moved = curve | {"auto": curve["auto"] | {"solved": 120}}
    assert publish.plot.budget_picture(moved) != drawn  # type: ignore[attr-defined]


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


def test_agents_on_unseen_tasks_stand_under_their_modes(results: Path) -> None:
    found = publish.read_results(results, CheckpointPair.builtin())[0]["unseen"]
    text = BLOCKS["agents_unseen"][1](found)
    header, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    assert [row[:2] for row in rows] == [["template", "102"], ["name", "102"], ["length", "102"]]
    assert header[2:] == [
        "always Instruct (λ=0)",
        "always Thinking (λ=1)",
        "**λ per step** (`auto`)",
        "**a policy file with budgets per tool**",
    ]
    assert [row[2:] for row in rows] == [[f"{first + place} ± 9" for first in (43, 46, 40, 49)] for place in range(3)]
    assert "seeds 0 to 2;" in text
    assert "seeds 0 to 2 and seed 7;" in BLOCKS["agents_unseen"][1](found | {"name": found["name"] | {"seeds": [7]}})


def test_bars_of_agents_are_judged_by_what_was_measured() -> None:
    def met(bench: dict[str, Any]) -> list[str]:
        lines = BLOCKS["agent_bars"][1](bench).splitlines()[2:]
        return [line.strip("|").split("|")[-1].strip() for line in lines if line.startswith("|")]

    bench = a_bench()
    assert met(bench) == ["**no**", "**no**", "**no**", "**no**", "yes", "yes"]  # 74.6 % each, -2 points at 41 %
    good = {
        "instruct": {"solved": 100},
        "thinking": {"solved": 190},
        "dami": {"against_thinking": AGAINST | {"solved": -0.01, "tokens": 0.45}},
        "oracle": {"against_thinking": AGAINST | {"solved": 0.0, "tokens": 0.4}},
    }
    modes = {name: mode | good.get(name, {}) for name, mode in bench["modes"].items()}
    assert met(bench | {"modes": modes}) == ["yes"] * 6
    few = {"lambdas": {"0": 800, "0.4": 49, "0.8": 71, "1": 80}}
    blank = {"modes": modes | {"instruct": modes["instruct"] | {"empty": 2}}}
    assert met(bench | few | blank)[-2:] == ["**no**", "**no**"]


def test_heads_are_shown_at_the_price_they_are_used_at_beside_both_ends() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in BLOCKS["heads"][1](some_heads()).splitlines()
    ]
    shown = [row[1:] for row in rows[2:] if len(row) == 6]
    assert [row[0].split(":")[0] for row in shown] == 2 * ["λ=0", "λ=1", "`preference`", "`confidence`"]
    assert shown[1] == ["λ=1", "0.850", "270.0", "-", "-"]
    assert shown[3][1:] == ["0.810", "101.0", "-10.0 ± 1.0", "+6.0 ± 2.0"]
    assert shown[6][1:] == ["0.820", "102.0", "-10.0 ± 1.0", "+7.0 ± 2.0"]


def test_lambda_per_question_and_its_rivals_are_shown(results: Path, root: Path) -> None:
    publish.publish(results, root)
    lines = (root / "docs/results.md").read_text(encoding="utf-8").splitlines()
    for line in (
        "| at this share of Thinking's tokens | 37% | 50% |",
        "| more than fixed | −1.2 ± 2.0 | −1.2 ± 2.0 |",
        "| more than caps | +30.0 ± 2.0 | +30.0 ± 2.0 |",
        "| of the oracle's gain on fixed λs | 50% | – |",
        "| linear | λ=0.2 | 0.700 | 109 | 99.9% | – |",
        "| slerp | t=0.2 | 0.700 | 109 | 99.9% | +0.4 ± 2.0 |",
    ):
        assert line in lines
    assert any("beyond Thinking's tokens: majority 0.860 at 300%. (" in line for line in lines)


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


def test_what_does_as_well_as_lambda_per_step_is_said() -> None:
    """The cheapest fixed λ that solves no fewer tasks is named, not the best; Thinking's lead under budgets too."""
    bench = a_bench()
    own = bench["modes"]["dami"]
    modes = {
        "lambda=0.3": own | {"solved": 149, "output_tokens": 1},
        "lambda=0.5": own | {"output_tokens": 20_000},
        "lambda=0.8": own | {"solved": 160, "output_tokens": 30_000},
        "router": own | {"solved": 151},
        "thinking": own | {"solved": 155},
        "oracle": own | {"solved": 170, "output_tokens": 9_000},
    }
    said = BLOCKS["limits_agents"][1](bench | {"modes": bench["modes"] | modes})
    for words in (
        "A router between λ=0 and λ=1 solves 151 of 201 at 12,345 tokens, λ per step 150 of 201 at 12,345 tokens.",
        "λ=0.5 throughout solves 150 of 201 at 20,000 tokens",
        "(70% of all) take 20 tokens, of Instruct 20",
        "would solve 170 of 201 at 9,000 tokens; λ per step is 20 tasks from that, always-Thinking 15.",
    ):
        assert words in said

    said = BLOCKS["limits_questions"][1](a_comparison())
    assert said.startswith("- **fixed**: −1.2 ± 2.0 at 37%, −1.2 ± 2.0 at 50% of Thinking's tokens.\n\n")  # not caps
    above = a_comparison()
    for budget in above["budgets"]:
        budget["gains"]["fixed"] = {"gain": 0.021, "ci": 0.02}
    assert "λ per question is clearly above every rival." in BLOCKS["limits_questions"][1](above)

    curve = a_budget_curve()
    assert "Under none of the budgets does Thinking solve more." in BLOCKS["limits_budgets"][1](curve)
    behind = {**curve["points"][0], "share": 4.0, "auto_against_thinking": AGAINST}
    said = BLOCKS["limits_budgets"][1](curve | {"points": [*curve["points"], behind]})
    assert said.count("per run") == 1
    assert "per run 400%, −2.0 (−5.0 to +1.0)." in said

    benches = {kind: a_bench_on(kind) for kind in UNSEEN}  # of a template auto 40, Thinking 46, the file 49
    said = BLOCKS["limits_unseen"][1](benches)
    assert "**An unseen template.** Of 102 tasks Thinking solves 46, **λ per step** (`auto`) 40." in said
    level = {kind: bench | {"modes": {key: {"solved": 9} for key in bench["modes"]}} for kind, bench in benches.items()}
    assert "Of none of the unseen kinds does Thinking solve more." in BLOCKS["limits_unseen"][1](level)
