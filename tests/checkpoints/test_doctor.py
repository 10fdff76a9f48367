"""``dami doctor``: what a person reads and what a script parses, for pairs that run, do not fit, or are none."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from dami_agent.checkpoints import CheckpointPair
from dami_agent.cli.doctor import doctor
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
    assert {c["status"] for c in data["checks"]} <= {"ok", "note"}
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
        assert done.stdout.count("does not fit") == 2
        assert "needs" in done.stdout
        assert "free some memory" in " ".join(done.stdout.split())
        done = run(*paths, memory={"cpu": 30 * GB})
        assert done.exit_code == 0
        assert "8.0 GB + 16.1 GB mapped" in done.stdout
        assert "147.5 kB" in done.stdout

    def test_one_checkpoint_alone(self, run, written):
        done = run(written()[0])
        assert done.exit_code == 2
        assert "both" in done.output

    def test_an_unknown_device(self, run, written):
        done = run(*written(), "--device", "tpu")
        assert done.exit_code == 2
        assert "tpu" in done.stdout
