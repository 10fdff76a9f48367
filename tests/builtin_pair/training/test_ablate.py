"""Ablations: each variant changes one thing, is measured once, and its table says what plain counting says."""

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch

import builtin_pair
from builtin_pair.training import ablate, command, export, loop, mixtures, proxy, recipe, thoughts
from builtin_pair.training import tokenizer as tokens
from builtin_pair.training.ablate import AblationJob, Variant
from builtin_pair.training.proxy import Proxy
from builtin_pair.training.render import segments

BASE = Path(builtin_pair.__file__).parent / "base"
SMALL = {"tokens": 512, "pool_size": 8}


@pytest.fixture(scope="module")
def tokenizer():
    return tokens.load(BASE)


def _differs(variant, other):
    return {name for name in ("replay", "lr", "proxy") if getattr(variant, name) != getattr(other, name)}


def test_a_variant_changes_one_thing_and_the_recipe_is_among_them():
    for what, field in (("replay", "replay"), ("lr", "lr")):
        named = ablate.WHAT[what]
        assert Variant() in named.values()
        assert all(_differs(variant, Variant()) == {field} for variant in named.values() if variant != Variant())
        assert len(set(named.values())) == len(named) == 3
    for what, field in (("style", "graded"), ("size", "size")):
        assert len(set(ablate.WHAT[what].values())) == len(ablate.WHAT[what]) > 1
        for variant in ablate.WHAT[what].values():
            assert replace(variant.proxy, **{field: getattr(Proxy(), field)}) == Proxy()
    assert Variant().lr == recipe.CONFIGS["instruct"].lr == recipe.CONFIGS["thinking"].lr


def test_the_proxys_mixture_replays_its_base_and_knows_no_middle_unless_graded():
    for stage in ("instruct", "thinking"):
        for graded in (True, False):
            parts = proxy.mixture(stage, 0.3, graded=graded)
            own = [part for part in parts if part not in proxy.mixture(stage, 0.0, graded=graded)]
            assert sum(part.weight for part in parts) == pytest.approx(1)
            replayed = parts[-len(proxy.mixture("base", 0.3, graded=graded)) :]
            assert sum(part.weight for part in replayed) == pytest.approx(0.3)
            assert own
    base = proxy.mixture("base", 0.0, graded=True)
    ends = proxy.mixture("base", 0.0, graded=False)
    assert {(part.low, part.high) for part in base if part.template == "thinking"} == {(0.0, 1.0)}
    assert {(part.low, part.high) for part in ends if part.template == "thinking"} == {(0.0, 0.0), (1.0, 1.0)}
    for template in ("instruct", "thinking"):
        weights = [sum(part.weight for part in parts if part.template == template) for parts in (base, ends)]
        assert weights[0] == pytest.approx(weights[1])
    questions = [part for part in mixtures.LAST if part.family == "question"]
    assert len(base) == len(questions)


@pytest.mark.parametrize("graded", [True, False])
def test_the_proxys_documents_are_easy_training_questions(graded):
    rng, styles = Random(2), set()
    for part in proxy.mixture("base", 0.0, graded=graded) * 60:
        dialogue = proxy.draw_document(rng, part)
        (_, (reply, learned)) = segments(dialogue)
        assert learned
        thought = reply.split("</think>")[0].strip() if part.template == "thinking" else ""
        styles.add("Check" if "Check:" in thought or "First" in thought else "some" if thought else "none")
    assert styles == ({"none", "some", "Check"} if graded else {"none", "Check"})
    families = {proxy.draw_train_question(rng).family for _ in range(40)}
    items = [proxy.draw_train_question(rng) for _ in range(80)]
    assert families == set(proxy.FAMILIES)
    assert {item.level for item in items} == set(proxy.LEVELS)
    assert {item.split for item in items} == {"train"}
    assert thoughts.EMPTY > 0


@pytest.mark.parametrize(("size", "millions"), [("0.6 M", 0.6), ("1.2 M", 1.2), ("2.4 M", 2.4)])
def test_sizes_are_what_they_are_called(tokenizer, size, millions):
    model = export.fresh(tokenizer, 0, proxy.SHAPES[size])
    assert sum(value.numel() for value in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.08)


@pytest.fixture
def small(monkeypatch):
    """Plans of a batch or two."""
    for stage in ("instruct", "thinking"):
        monkeypatch.setitem(recipe.CONFIGS, stage, replace(recipe.CONFIGS[stage], **SMALL))
    monkeypatch.setattr(proxy, "_PRETRAIN", replace(proxy._PRETRAIN, **SMALL))
    monkeypatch.setattr(ablate, "MAX_TOKENS", 8)
    monkeypatch.setattr(proxy, "LIMIT", 8)


def _configs(folder):
    logs = sorted(folder.glob("*/log.jsonl"))
    return {log.parent.name: json.loads(log.read_text().splitlines()[0])["config"] for log in logs}


def test_a_variant_is_tuned_from_the_base_with_its_own_rate_and_measured_on_the_path(small, tmp_path):
    job = AblationJob(Variant(replay=0.0, lr=1e-3), BASE.parent, tmp_path, total=600, count=5, compile=False)
    row = ablate.run(job)
    assert [each["lambda"] for each in row["path"]] == list(ablate.PATH)
    assert row["key"] == job.key()
    seconds = sum(json.loads(log.read_text().splitlines()[-1])["seconds"] for log in tmp_path.glob("*/*/log.jsonl"))
    assert row["minutes"]["training"] == pytest.approx(seconds / 60, abs=0.1)
    assert row["parameters"] == sum(value.numel() for value in export.load_state(BASE).values())
    configs = _configs(tmp_path / job.key())
    assert set(configs) == {"instruct", "thinking"}
    assert all((config["lr"], config["total"], config["compile"]) == (1e-3, 600, False) for config in configs.values())
    assert configs["thinking"]["mistake_share"] > configs["instruct"]["mistake_share"] == 0


def test_a_proxy_is_pretrained_then_tuned_from_its_own_base(small, tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr(proxy, "_PRETRAIN", replace(proxy._PRETRAIN, warmup=1))
    states = proxy.train(Proxy("0.6 M"), tokenizer, tmp_path, 0.1, recipe.Changes(0, total=1200, compile=False))
    configs = _configs(tmp_path)
    assert {stage: config["total"] for stage, config in configs.items()} == {
        "base": 1200,
        "instruct": 100,
        "thinking": 100,
    }
    start = dict(export.fresh(tokenizer, 0, proxy.SHAPES["0.6 M"]).state_dict())
    name = "model.layers.2.mlp.up_proj.weight"
    moved = {stage: (state[name] - start[name]).norm() for stage, state in states.items()}
    apart = (states["instruct"][name] - states["base"][name]).norm()
    assert 0 < apart < moved["base"]
    again = proxy.train(Proxy("0.6 M"), tokenizer, tmp_path, 0.1, recipe.Changes(0, total=1200, compile=False))
    assert all(torch.equal(again[stage][name], states[stage][name]) for stage in states), "it was done before"


def _pretend(job):
    """Stands in for training; leaves a mark that it ran."""
    (job.run / f"ran-{job.variant.lr:g}").touch(exist_ok=False)
    return {"key": job.key(), **job.settings(), "minutes": {"training": 1.0}, "path": _path()}


def _path(*accuracies, lengths=(10, 20, 40, 70, 110)):
    found = accuracies or (0.2, 0.4, 0.3, 0.6, 0.5)
    rows = zip(ablate.PATH, found, lengths, strict=True)
    return [
        {
            "lambda": at,
            "accuracy": right,
            "tokens": long,
            "thinking_tokens": long if at else None,
            "finished": 1 - at / 50,
        }
        for at, right, long in rows
    ]


def test_a_finished_variant_is_not_measured_again_unless_what_it_depends_on_changed(tmp_path):
    jobs = [AblationJob(variant, BASE.parent, tmp_path) for variant in ablate.WHAT["lr"].values()]
    first = list(ablate.measure(jobs[:2], 1, _pretend))
    assert sorted(row["key"] for row in first) == sorted(job.key() for job in jobs[:2])
    both = list(ablate.measure(jobs, 1, _pretend))  # `_pretend` fails where it ran before
    assert sorted(row["key"] for row in both) == sorted(job.key() for job in jobs)
    assert len((tmp_path / "ablate.jsonl").read_text().splitlines()) == 3
    other = [replace(jobs[0], count=7), replace(jobs[0], total=9), replace(jobs[0], seed=1)]
    other.append(replace(jobs[0], self_mistakes=Path(__file__)))
    assert len({job.key() for job in [*jobs, *other]}) == 7
    assert replace(jobs[0], run=tmp_path / "elsewhere").key() == jobs[0].key()


def test_the_largest_dip_and_step_are_those_of_plain_counting():
    rng = Random(4)
    for _ in range(200):
        right = [rng.random() for _ in ablate.PATH]
        worst = max(max(right[: i + 1]) - right[i] for i in range(len(right)))
        assert ablate.dip(_path(*right)) == pytest.approx(worst)
        lengths = [rng.choice([None, rng.randint(1, 90)]) for _ in ablate.PATH]
        known = [length for length in lengths if length is not None]
        found = ablate.step(lengths)
        if len(known) < 2 or len(set(known)) == 1:
            assert found is None
        else:
            steps = [abs(known[i + 1] - known[i]) for i in range(len(known) - 1)]
            assert found == pytest.approx(max(steps) / (max(known) - min(known)))


def test_the_table_has_the_finished_variants_in_order(tmp_path):
    jobs = {name: AblationJob(variant, BASE.parent, tmp_path) for name, variant in ablate.WHAT["lr"].items()}
    rows = {job.key(): {"path": _path(), "minutes": {"training": 2.5}} for job in list(jobs.values())[1:]}
    head, rule, *lines, _, note = ablate.table("lr", rows, jobs).splitlines()
    assert head.count("|") == rule.count("|") == lines[0].count("|") == lines[1].count("|")
    assert [line.split("|")[1].strip() for line in lines] == ["0.0006", "0.0018"]
    assert "| 0.200 / 10 | 0.400 / 20 |" in lines[0]
    assert lines[0].endswith("| 98.0 % | 10.0 points | 40 % | 44 % | 2.5 |")
    assert "200 calibration questions (± 6.9 points at most" in note
    assert "proxy" not in note
    sizes = {name: AblationJob(variant, BASE.parent, tmp_path) for name, variant in ablate.WHAT["size"].items()}
    assert "proxy" in ablate.table("size", {}, sizes)


@pytest.mark.parametrize("given", [["--run", "r"], ["--what", "lr"], ["--run", "r", "--what", "lr,speed"]])
def test_the_command_wants_a_folder_and_something_to_change(monkeypatch, capsys, given):
    with pytest.raises(SystemExit):
        command.main(["ablate", "--pair", "p", *given])
    assert "replay, lr, style, size" in capsys.readouterr().err


def test_the_command_measures_what_it_is_asked_to(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(ablate, "measure", lambda jobs, processes: (_pretend(job) for job in dict.fromkeys(jobs)))
    arguments = [
        "--pair",
        str(BASE.parent),
        "--run",
        str(tmp_path),
        "--what",
        "lr",
        "--count",
        "50",
        "--threads",
        "1",
    ]
    command.main(["ablate", *arguments])
    said = capsys.readouterr().out
    assert len(list(tmp_path.glob("ran-*"))) == 3
    assert said.count("| 0.200 / 10 |") == 3
    assert "50 calibration questions" in said


def test_minutes_are_those_of_all_stages_before_and_after_an_interruption(tmp_path):
    stages = {"base": [{"seconds": 60.0}, {"config": 1}, {"seconds": 90.0}], "thinking": [{"seconds": 30.0}]}
    for stage, rows in stages.items():
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "log.jsonl").write_text("\n".join(json.dumps(row) for row in [{"config": 0}, *rows]))
    assert ablate.training_minutes(tmp_path) == 2.0


def test_plans_stay_loops_plans():
    assert isinstance(proxy.config("base", recipe.Changes()), loop.TrainingConfig)
    assert proxy.config("base", recipe.Changes()).total == proxy.PRETRAINED
    assert proxy.config("thinking", recipe.Changes()).total == proxy.PRETRAINED // proxy.TUNED
