"""Opening a pair: what it knows, and that it reads no weight for it."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from dami_agent.checkpoints import Checkpoint, CheckpointPair
from dami_agent.checkpoints.pair import fingerprint
from dami_agent.errors import CheckpointNotFound, InvalidRequest, UsageError
from dami_agent.types import BUILTIN
from tests.pairs import INSTRUCT_TEMPLATE, QWEN3_0_6B, QWEN3_4B, THINKING_TEMPLATE, edit_json, write_sparse_pair


@pytest.mark.parametrize("arch", ["qwen3", "qwen2", "llama", "gpt2", "qwen3_moe"])
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("tie", [True, False])
def test_opens_every_family_sharded_or_not_tied_or_not(written, arch, shards, tie):
    instruct, thinking = written(arch=arch, shards=shards, tie=tie, seed=5)
    pair = CheckpointPair.open(instruct, thinking)
    for checkpoint, folder in ((pair.instruct, instruct), (pair.thinking, thinking)):
        stored = {k: v for f in folder.glob("*.safetensors") for k, v in load_file(f).items()}  # the slow, obvious way
        assert {k: e.shape for k, e in checkpoint.tensors.items()} == {k: tuple(v.shape) for k, v in stored.items()}
        assert {e.dtype for e in checkpoint.tensors.values()} == {"BF16"}
        assert len(checkpoint.files) == len(list(folder.glob("*.safetensors")))
    model = AutoModelForCausalLM.from_pretrained(instruct)
    assert dict(pair.layout.parameters) == {k: tuple(p.shape) for k, p in model.named_parameters()}
    assert bool(pair.layout.tied) == tie
    assert {check.status for check in pair.checks} <= {"ok", "note"}


def test_knows_its_configs_templates_and_ends(copied):
    instruct, thinking = copied(arch="qwen3")
    edit_json(thinking / "generation_config.json", eos_token_id=[7, 9])
    pair = CheckpointPair.open(str(instruct), thinking)
    assert pair.instruct.source == str(instruct)
    assert pair.name == "instruct+thinking"
    assert pair.instruct.chat_template == INSTRUCT_TEMPLATE
    assert pair.thinking.chat_template == THINKING_TEMPLATE
    assert pair.instruct.generation_config["temperature"] == 0.7
    assert pair.config["model_type"] == "qwen3"
    assert pair.context_length == 512
    assert set(pair.eos_token_ids) == {*pair.instruct.eos_token_ids, 7, 9}
    with pytest.raises(dataclasses.FrozenInstanceError):
        pair.name = "other"  # type: ignore[misc]
    text = "What is 17+25? <think>\n"
    assert pair.instruct.tokenizer().decode(pair.thinking.tokenizer()(text).input_ids) == text


def test_a_template_may_stand_in_tokenizer_config(copied):
    instruct, thinking = copied()
    (instruct / "chat_template.jinja").unlink()
    edit_json(instruct / "tokenizer_config.json", chat_template="plain {{ messages }}")
    (thinking / "chat_template.jinja").unlink()
    edit_json(
        thinking / "tokenizer_config.json",
        chat_template=[{"name": "rag", "template": "no"}, {"name": "default", "template": "yes"}],
    )
    pair = CheckpointPair.open(instruct, thinking)
    assert (pair.instruct.chat_template, pair.thinking.chat_template) == ("plain {{ messages }}", "yes")


def test_frontier_and_card_lie_beside_the_pair(copied):
    instruct, thinking = copied()
    assert CheckpointPair.open(instruct, thinking).frontier_path is None
    for name in ("frontier.json", "README.md"):
        (instruct.parent / name).write_text("{}")
    pair = CheckpointPair.open(instruct, thinking)
    assert pair.frontier_path == instruct.parent / "frontier.json"
    assert pair.card_path == instruct.parent / "README.md"


class TestFingerprint:
    def test_survives_a_copy_but_not_a_swap(self, written, copied):
        first = CheckpointPair.open(*written()).fingerprint
        assert len(first) == 16
        assert int(first, 16) >= 0
        assert CheckpointPair.open(*copied()).fingerprint == first
        assert CheckpointPair.open(*reversed(written())).fingerprint != first

    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(side=st.sampled_from([0, 1]), where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
    def test_any_flipped_bit_of_the_weights_changes_it(self, written, tmp_path_factory, side, where, bit):
        source = written()
        folder = tmp_path_factory.mktemp("flip")
        paths = [shutil.copytree(p, folder / p.name) for p in source]
        file = paths[side] / "model.safetensors"
        data = bytearray(file.read_bytes())
        start = 8 + int.from_bytes(data[:8], "little")
        data[start + int(where * (len(data) - start))] ^= 1 << bit
        file.write_bytes(data)
        assert fingerprint(*map(Checkpoint.open, paths)) != fingerprint(*map(Checkpoint.open, source))

    def test_large_files_are_told_apart_without_reading_them(self, tmp_path):
        a = write_sparse_pair(tmp_path / "a", **QWEN3_0_6B)
        b = write_sparse_pair(tmp_path / "b", **QWEN3_0_6B)
        first = fingerprint(*map(Checkpoint.open, a))
        assert fingerprint(*map(Checkpoint.open, b)) != first  # written at another time; content is not looked at
        assert fingerprint(*map(Checkpoint.open, a)) == first


def test_the_real_4b_shape_opens_without_reading_a_weight(tmp_path):
    paths = write_sparse_pair(tmp_path, shards=3, **QWEN3_4B)
    Checkpoint.open(paths[0]).model_config()  # imports first
    before = psutil.Process().memory_info().rss
    pair = CheckpointPair.open(*paths)
    assert psutil.Process().memory_info().rss - before < 200e6  # of 16 GB
    assert len(pair.instruct.tensors) == 398
    assert sum(e.nbytes for e in pair.instruct.tensors.values()) == 2 * 4_022_468_096


class TestWhereFrom:
    def test_a_missing_folder_is_named(self, written):
        with pytest.raises(CheckpointNotFound, match=r"no/such/folder.*\n.*hint"):
            CheckpointPair.open("no/such/folder", written()[1])

    @pytest.mark.parametrize("given", [("somewhere", None), (None, "somewhere")])
    def test_one_checkpoint_alone_is_no_pair(self, given):
        with pytest.raises(InvalidRequest, match="both checkpoints") as raised:
            CheckpointPair.named(*given)
        assert "instruct= and thinking=" in (raised.value.hint or "")
        assert CheckpointPair.named(None, None).name == BUILTIN

    def test_a_revision_is_for_hub_ids(self, written):
        with pytest.raises(UsageError, match="revision"):
            CheckpointPair.open(*written(), revision="main")

    @pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
    def test_a_missing_file_is_named(self, copied, file):
        instruct, thinking = copied()
        (thinking / file).unlink()
        with pytest.raises(CheckpointNotFound, match=file):
            CheckpointPair.open(instruct, thinking)


def test_the_builtin_pair_opens():
    pair = CheckpointPair.builtin()
    assert pair.name == "dami-builtin"
    assert pair.instruct.chat_template
    assert pair.thinking.chat_template
    assert pair.instruct.path != pair.thinking.path


def test_importing_the_room_takes_no_torch_and_touches_nothing():
    heavy = "('torch', 'transformers', 'huggingface_hub')"
    code = f"import sys, dami_agent.checkpoints; print([m for m in {heavy} if m in sys.modules])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"
