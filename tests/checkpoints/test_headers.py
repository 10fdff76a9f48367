"""Files that are missing, cut off or at odds with each other are clear errors, wherever the damage is."""

from __future__ import annotations

import json
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from dami_agent.checkpoints import Checkpoint, CheckpointPair
from dami_agent.errors import CheckpointError, CheckpointNotFound, UnsupportedCheckpoint
from tests.pairs import edit_json

INDEX = "model.safetensors.index.json"


def refused(paths, kind, match):
    with pytest.raises(kind, match=match) as caught:
        CheckpointPair.open(*paths)
    assert caught.value.hint


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keep=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_off_anywhere_is_named(written, tmp_path_factory, keep):
    folder = tmp_path_factory.mktemp("cut")
    path = shutil.copytree(written()[1], folder / "thinking")
    file = path / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(
        CheckpointError, match=r"thinking.model\.safetensors \(\d+ bytes\) is not a complete safetensors"
    ):
        Checkpoint.open(path)


def test_a_missing_shard_is_named(copied):
    paths = copied(shards=3)
    victim = sorted(paths[0].glob("*.safetensors"))[1]
    victim.unlink()
    refused(paths, CheckpointNotFound, victim.name)


def test_an_index_naming_an_absent_tensor(copied):
    paths = copied(shards=3)
    index = json.loads((paths[1] / INDEX).read_text())
    index["weight_map"]["model.layers.7.mlp.up_proj.weight"] = next(iter(index["weight_map"].values()))
    (paths[1] / INDEX).write_text(json.dumps(index))
    refused(paths, CheckpointNotFound, r"model\.layers\.7\.mlp\.up_proj\.weight")


def test_an_index_must_not_lead_out_of_the_folder(copied):
    paths = copied(shards=3)
    index = json.loads((paths[0] / INDEX).read_text())
    index["weight_map"]["lm_head.weight"] = "../thinking/model-00001-of-00003.safetensors"
    (paths[0] / INDEX).write_text(json.dumps(index))
    refused(paths, UnsupportedCheckpoint, r"\.\./thinking")


def test_shards_without_an_index(copied):
    paths = copied(shards=3)
    (paths[0] / INDEX).unlink()
    refused(paths, CheckpointNotFound, INDEX)


def test_of_a_single_file_and_shards_the_one_that_transformers_loads_is_read(copied):
    """transformers prefers model.safetensors; what is checked must be what will be loaded."""
    (single, _), (sharded, _) = copied(), copied(shards=3)
    for file in sharded.iterdir():
        if "safetensors" in file.name:
            shutil.copy(file, single)
    whole = Checkpoint.open(single)
    assert {entry.file for entry in whole.tensors.values()} == {"model.safetensors"}
    _, info = AutoModelForCausalLM.from_pretrained(single, output_loading_info=True)
    assert not any(info.values())
    (single / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError):
        Checkpoint.open(single)


def test_weights_under_another_name(copied):
    paths = copied()
    (paths[0] / "model.safetensors").rename(paths[0] / "weights.safetensors")
    refused(paths, CheckpointNotFound, r"weights\.safetensors, but neither model\.safetensors nor")


def test_weights_that_the_config_moves_elsewhere(copied):
    paths = copied()
    edit_json(paths[0] / "config.json", transformers_weights="other.safetensors")
    refused(paths, UnsupportedCheckpoint, r"other\.safetensors")


@pytest.mark.parametrize("file", ["config.json", "generation_config.json", "tokenizer.json", INDEX])
@pytest.mark.parametrize("text", ["{", "[1, 2]", ""])
def test_damaged_json_is_named(copied, file, text):
    paths = copied(shards=3)
    (paths[1] / file).write_text(text)
    refused(paths, CheckpointError, f"thinking.{file}")
