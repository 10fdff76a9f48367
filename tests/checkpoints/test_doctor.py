"""``dami doctor``: what a person reads and what a script parses, for pairs that run, do not fit, or are none."""

from __future__ import annotations

import json

import pytest
import torch
import typer
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from dami_agent.checkpoints import CheckpointPair
from dami_agent.cli.doctor import doctor
from dami_agent.errors import InvalidRequest
from tests.pairs import QWEN3_4B, edit_json, write_sparse_pair

GB = 10**9


@pytest.fixture
def run(monkeypatch):
    app = typer.Typer()
    app.command()(doctor)
    monkeypatch.setenv("COLUMNS", "120")

    def invoke(*args, memory=None):
        if memory:
            monkeypatch.setattr("dami_agent.checkpoints.memory.free_memory", lambda: memory)
        return CliRunner().invoke(app, [str(a) for a in args])

    return invoke


def test_a_pair_that_fits(run, written):
    done = run(*written())
    assert done.exit_code == 0, done.output
    pair = CheckpointPair.open(*written())
    for word in (pair.fingerprint, "architecture", "Qwen3ForCausalLM", "vocabulary", "chat template", "differ"):
        assert word in done.stdout
    for word in ("mixed", "merged", "KV/token", "float32", "context length", "small enough"):
        assert word in done.stdout


def test_as_json(run, written):
    done = run(*written(), "--json", "--mode", "merged", "--context", "100")
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    assert data["ok"] is True
    assert data["mismatches"] == []
    assert {c["status"] for c in data["checks"] if c["name"] != "frontier"} <= {"ok", "note"}
    assert data["plan"]["mode"] == "merged"
    assert data["plan"]["context_length"] == 100
    assert data["plan"]["total_bytes"] == sum(
        (data["plan"]["needs"]["merged"]["resident"], data["plan"]["kv_bytes"], data["plan"]["activation_bytes"])
    )
    assert data["instruct"]["bytes"] == sum(e.nbytes for e in CheckpointPair.open(*written()).instruct.tensors.values())


def test_the_builtin_pair_without_arguments(run):
    done = run("--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["name"] == "dami-builtin"


def test_a_pair_without_a_frontier_is_warned_about_with_the_command(run, copied):
    paths = copied()
    done = run(*paths, "--json")
    (check,) = [c for c in json.loads(done.stdout)["checks"] if c["name"] == "frontier"]
    assert check["status"] == "warning"
    assert f"run: dami calibrate {paths[0]} {paths[1]}" in check["detail"]
    assert done.exit_code == 0
    (paths[0].parent / "frontier.json").write_text('{"rows": [{"lambda": 1, "accuracy": 1, "tokens": 9}]}')
    (check,) = [c for c in json.loads(run(*paths, "--json").stdout)["checks"] if c["name"] == "frontier"]
    assert check == {"name": "frontier", "status": "ok", "detail": "1 λs measured (frontier.json)"}
    assert "not measured" not in run().stdout  # the built-in pair's is beside it
    (paths[0].parent / "frontier.json").write_text("{}")
    (check,) = [c for c in json.loads(run(*paths, "--json").stdout)["checks"] if c["name"] == "frontier"]
    assert check["status"] == "warning"
    assert "frontier.json is passed over: frontier frontier.json: KeyError" in check["detail"]


@pytest.mark.parametrize("mode", ["merged", "mixed"])
def test_speed(run, written, monkeypatch, mode):
    monkeypatch.setattr("dami_agent.cli.speed.SECONDS", 0.05)
    monkeypatch.setattr("dami_agent.cli.speed.TOKENS", 4)
    done = run(*written(), "--speed", "--json", "--mode", mode)
    assert done.exit_code == 0, done.output
    speed = json.loads(done.stdout)["speed"]
    assert speed["load_seconds"] > 0
    assert speed["switch_seconds"] > 0
    assert speed["tokens_per_second"].keys() == {"1", "8"}
    assert all(rate > 0 for rate in speed["tokens_per_second"].values())
    assert json.loads(run(*written(), "--json").stdout)["speed"] is None
    shown = run(*written(), "--speed", "--mode", mode).stdout
    for word in ("load both checkpoints", "switch λ", "tokens/s at batch 1", "tokens/s at batch 8"):
        assert word in shown


def test_two_unrelated_models_are_refused_and_can_be_forced(run, written):
    paths = written(seed=1)[0], written(seed=2)[1]
    done = run(*paths)
    assert done.exit_code == 1
    for word in ("refused", "kinship", "unrelated models", "DAMI_ALLOW_UNRELATED=1"):
        assert word in " ".join(done.stdout.split())
    forced = run(*paths, "--allow-unrelated")
    assert forced.exit_code == 0, forced.output
    assert "warning" in forced.stdout


@pytest.mark.parametrize(("order", "word"), [((1, 0), "look swapped"), ((0, 0), "one folder is given twice")])
def test_swapped_and_equal_are_warned_about_by_name(run, written, order, word):
    done = run(*(written()[side] for side in order))
    assert done.exit_code == 0
    assert word in " ".join(done.stdout.split())
    assert "warning" in done.stdout


NASTY = "a\x1b[31mred\x1b]0;title\x07\x9b2J\u202ereversed\r\nforged line[bold]x[/bold]"


def _name_a_tensor(folder):
    file = folder / "model.safetensors"
    tensors = {**load_file(file), NASTY: torch.zeros(2, 2)}
    save_file(tensors, file, {"format": "pt"})


FOREIGN = {
    "a key": lambda folder: edit_json(folder / "config.json", **{NASTY: 1}),
    "a key that is no Unicode": lambda folder: edit_json(folder / "config.json", **{"\ud800": 1}),
    "a value": lambda folder: edit_json(folder / "config.json", hidden_act=NASTY),
    "an architecture": lambda folder: edit_json(folder / "config.json", architectures=[NASTY]),
    "a dtype": lambda folder: edit_json(folder / "config.json", dtype=NASTY),
    "a method": lambda folder: edit_json(folder / "config.json", quantization_config={"quant_method": NASTY}),
    "a tensor": _name_a_tensor,
}


@pytest.mark.parametrize("change", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("options", [(), ("--json",)], ids=["table", "json"])
def test_no_text_of_a_checkpoint_is_obeyed_by_the_terminal(run, copied, monkeypatch, change, options):
    monkeypatch.setenv("COLUMNS", "2000")  # no line of ours is broken where a foreign one begins
    paths = copied()
    change(paths[1])
    done = run(*paths, *options)
    assert (done.exit_code, type(done.exception)) == (1, SystemExit)
    assert not set("\x1b\x07\x9b\u202e\r") & set(done.output)
    assert "\nforged line" not in done.output
    if options:
        assert json.loads(done.stdout)["ok"] is False


class TestRefusals:
    def test_every_mismatch_is_shown(self, run, copied):
        paths = copied()
        edit_json(paths[1] / "config.json", rms_norm_eps=0.125, hidden_act="gelu")
        done = run(*paths)
        assert done.exit_code == 1
        for word in ("refused", "rms_norm_eps", "1e-06", "0.125", "hidden_act", "silu", "gelu", "one base"):
            assert word in done.stdout
        data = json.loads(run(*paths, "--json").stdout)
        assert data["ok"] is False
        assert {m["field"] for m in data["mismatches"]} == {"rms_norm_eps", "hidden_act"}
        assert data["error"]["type"] == "IncompatiblePair"
        assert data["plan"] is None

    def test_a_quantised_one(self, run, copied):
        paths = copied()
        edit_json(paths[0] / "config.json", quantization_config={"quant_method": "awq"})
        done = run(*paths)
        assert done.exit_code == 1
        assert "AWQ" in done.stdout
        assert "bf16" in done.stdout

    def test_a_missing_folder_as_json(self, run, written):
        done = run("./nowhere", written()[1], "--json")
        assert done.exit_code == 1
        assert json.loads(done.stdout)["error"]["type"] == "CheckpointNotFound"

    def test_too_little_memory(self, run, tmp_path):
        paths = write_sparse_pair(tmp_path, **QWEN3_4B)
        done = run(*paths, memory={"cpu": 4 * GB})
        assert done.exit_code == 1
        assert done.stdout.count("does not fit") == 3  # each placement, and the pair on this machine
        assert "needs" in done.stdout
        assert "free some memory" in " ".join(done.stdout.split())
        done = run(*paths, memory={"cpu": 30 * GB})
        assert done.exit_code == 0
        assert "8.0 GB + 16.1 GB mapped" in done.stdout
        assert "147.5 kB" in done.stdout

    def test_one_checkpoint_alone(self, run, written):
        done = run(written()[0])
        assert isinstance(done.exception, InvalidRequest)  # its status: tests/cli/test_app.py
        assert "INSTRUCT and THINKING" in (done.exception.hint or "")

    def test_an_unknown_device(self, run, written):
        done = run(*written(), "--device", "tpu")
        assert done.exit_code == 2
        assert "tpu" in done.stdout
