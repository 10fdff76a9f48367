"""What load_weights refuses, and in which words; where tensors live; placement and offloading."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import accelerate
import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from dami_agent.errors import CheckpointNotFound, IncompatiblePair, UnsupportedCheckpoint, UsageError
from dami_agent.weights import load_weights
from dami_agent.weights.endpoints import is_finite, load_endpoint, pair_slots
from dami_agent.weights.merged import MergedWeights
from tests.pairs import write_pair
from tests.weights.reference import edit_config, load_reference, merge_files


def edit_tensors(folder: Path, edit: object) -> None:
    """Apply ``edit(name, tensor) -> tensor | None`` (None: leave it out) to every tensor of a checkpoint's files."""
    for file in folder.glob("*.safetensors"):
        tensors = {name: edit(name, tensor) for name, tensor in load_file(file).items()}  # type: ignore[operator]
        save_file({n: t for n, t in tensors.items() if t is not None}, file, metadata={"format": "pt"})


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("end", [0, 1])
@pytest.mark.parametrize("mode", ["merged", "mixed"])
def test_not_finite_is_refused_by_file_and_tensor(tmp_path: Path, bad: float, end: int, mode: str) -> None:
    paths = write_pair(tmp_path, shards=2)
    name = "model.layers.1.mlp.up_proj.weight"

    def poison(found: str, tensor: Tensor) -> Tensor:
        if found == name:
            tensor[-1, -1] = bad
        return tensor

    edit_tensors(paths[end], poison)
    index = json.loads((paths[end] / "model.safetensors.index.json").read_text())
    with pytest.raises(UnsupportedCheckpoint, match="NaN or infinity") as caught:
        load_weights(*paths, mode=mode, dtype="bfloat16")  # type: ignore[arg-type]
    assert f"{index['weight_map'][name]}: {name}" in str(caught.value)
    assert str(paths[end]) in str(caught.value)
    assert str(caught.value).count(": model.") == 1  # the bad tensor, and only it


def test_finite_in_the_file_but_not_in_the_dtype(tmp_path: Path) -> None:
    paths = write_pair(tmp_path)
    edit_tensors(paths[1], lambda name, tensor: tensor * 1e6 if name == "model.norm.weight" else tensor)
    with pytest.raises(UnsupportedCheckpoint, match=r"not as torch\.float16: model\.norm\.weight"):
        load_weights(*paths, mode="merged", dtype="float16")
    load_weights(*paths, mode="merged", dtype="bfloat16")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_is_finite_finds_one_value_anywhere(dtype: torch.dtype, bad: float) -> None:
    for size in (1, 7, 64, 1000):
        for place in {0, size // 2, size - 1}:
            tensor = torch.randn(size).to(dtype)
            assert is_finite(tensor)
            tensor[place] = bad
            assert not is_finite(tensor), (size, place)
    assert is_finite(torch.empty(0))
    assert is_finite(torch.tensor([1, 2]))


def test_missing_tensor_is_refused_not_randomised(tmp_path: Path) -> None:
    paths = write_pair(tmp_path)
    edit_tensors(paths[1], lambda name, tensor: None if name == "model.norm.weight" else tensor)
    with pytest.raises(UnsupportedCheckpoint, match=r"missing keys.*model\.norm\.weight"):
        load_weights(*paths, mode="merged")


def test_different_shapes_names_and_ties_come_in_one_error(tmp_path: Path) -> None:
    instruct, _ = write_pair(tmp_path / "a", arch="qwen3", tie=True)
    _, thinking = write_pair(tmp_path / "b", arch="qwen3", tie=False, attention_bias=True, intermediate_size=48)
    with pytest.raises(IncompatiblePair) as caught:
        load_weights(instruct, thinking, mode="merged")
    fields = {mismatch.field for mismatch in caught.value.mismatches}
    assert "model.embed_tokens.weight = lm_head.weight" in fields
    assert "lm_head.weight" in fields
    assert "model.layers.0.self_attn.q_proj.bias" in fields
    assert "model.layers.1.mlp.up_proj.weight" in fields
    shapes = next(m for m in caught.value.mismatches if m.field == "model.layers.1.mlp.up_proj.weight")
    assert (shapes.instruct, shapes.thinking) == ("float32[64, 32]", "float32[48, 32]")


def test_buffers_made_from_the_configuration_must_be_equal(tmp_path: Path) -> None:
    paths = write_pair(tmp_path)
    rope = {"rope_type": "default", "rope_theta": 5000.0}
    edit_config(paths[1], rope_parameters=rope, rope_theta=5000.0)
    with pytest.raises(IncompatiblePair, match=r"rotary_emb\.inv_freq"):
        load_weights(*paths, mode="merged")


class _WithBuffers(nn.Module):
    """A model part with one tensor of every kind a checkpoint can hold."""

    def __init__(self, value: float, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((3,), value))
        self.empty = nn.Parameter(torch.empty(0))
        self.register_buffer("balance", torch.full((2,), value))
        self.register_buffer("count", torch.tensor([count]))
        self.register_buffer("derived", torch.ones(2), persistent=False)


def test_saved_float_buffers_are_interpolated_and_integers_must_be_equal() -> None:
    where = {"instruct": Path("a"), "thinking": Path("b")}
    slots = pair_slots(_WithBuffers(1.0, 5), _WithBuffers(2.0, 5), **where)
    assert {name for slot in slots for name in slot.names} == {"weight", "empty", "balance"}
    with pytest.raises(IncompatiblePair, match="count"):
        pair_slots(_WithBuffers(1.0, 5), _WithBuffers(2.0, 6), **where)


def test_bad_arguments_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    for kwargs, words in (
        ({"mode": "both"}, "unknown weights mode 'both'"),
        ({"mode": "merged", "dtype": "int8"}, "'int8'"),
        ({"mode": "merged", "dtype": torch.float64}, "float64"),
        ({"mode": "merged", "device": "abacus"}, "'abacus'"),
        ({"mode": "merged", "device": "meta"}, "'meta'"),
        ({"mode": "mixed", "device_map": "auto"}, "device_map"),
    ):
        with pytest.raises(UsageError, match=words):
            load_weights(nowhere, nowhere, **kwargs)  # type: ignore[arg-type]
    for mode in ("merged", "mixed"):
        with pytest.raises(CheckpointNotFound, match="nowhere"):
            load_weights(nowhere, nowhere, mode=mode)  # type: ignore[arg-type]


def test_damaged_file_and_unknown_architecture_are_errors_of_ours(tmp_path: Path) -> None:
    paths = write_pair(tmp_path)
    (paths[1] / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(UnsupportedCheckpoint, match="cannot load it"):
        load_weights(*paths, mode="merged")
    edit_config(paths[0], model_type="abacus")
    with pytest.raises(UnsupportedCheckpoint, match="abacus"):
        load_weights(*paths, mode="merged")


def test_auto_map_runs_no_code(tmp_path: Path) -> None:
    paths = write_pair(tmp_path)
    for path in paths:
        edit_config(path, auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"})
        (path / "evil.py").write_text(f"open({str(tmp_path / 'pwned')!r}, 'w')\nclass Config: ...\nclass Model: ...\n")
    load_weights(*paths, mode="merged")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory maps of this process")
def test_endpoints_of_the_files_dtype_are_mapped_not_copied(tmp_path: Path) -> None:
    paths = write_pair(tmp_path, hidden=64, tie=False)
    weights = load_weights(*paths, mode="merged", dtype="bfloat16")
    assert isinstance(weights, MergedWeights)
    ranges = [
        tuple(int(end, 16) for end in found.addr.split("-"))
        for found in psutil.Process().memory_maps(grouped=False)
        if found.path.startswith(str(tmp_path))
    ]
    for slot in weights.slots:
        for tensor in (slot.instruct, slot.thinking):
            assert any(low <= tensor.data_ptr() < high for low, high in ranges), slot.names


def test_loading_a_small_pair_is_silent_and_leaves_the_progress_bar_as_it_was(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = write_pair(tmp_path)
    before = transformers_logging.is_progress_bar_enabled()
    capfd.readouterr()
    load_weights(*paths, mode="merged")
    assert capfd.readouterr() == ("", "")
    assert transformers_logging.is_progress_bar_enabled() == before


@pytest.mark.parametrize("device_map", ["auto", {"": "cpu"}, {"model": "cpu", "lm_head": "cpu"}])
def test_a_device_map_of_one_device(tmp_path: Path, device_map: str | dict[str, str]) -> None:
    if device_map == "auto" and torch.cuda.is_available():
        pytest.skip("'auto' would take the GPU")
    paths = write_pair(tmp_path, tie=False, dtype="float32")
    placed = load_weights(*paths, mode="merged", device_map=device_map)
    assert placed.device == torch.device("cpu")
    with placed.at([0.3]) as model, load_weights(*paths, mode="merged").at([0.3]) as plain:
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))


def test_offloading_to_disk_is_refused(tmp_path: Path) -> None:
    paths = write_pair(tmp_path, tie=False)
    device_map = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk"}
    device_map |= {"model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    with pytest.raises(UsageError, match=r"model\.layers\.1\..* is offloaded to disk"):
        load_weights(*paths, mode="merged", device_map=device_map)


@pytest.mark.parametrize("tie", [True, False])
def test_parameters_offloaded_by_accelerate_are_merged_too(tmp_path: Path, tie: bool) -> None:
    """Offloaded to CPU memory, executed elsewhere; here "elsewhere" is the CPU as well, the hooks are the same."""
    instruct, thinking = write_pair(tmp_path, tie=tie, dtype="float32")
    ends = [
        accelerate.cpu_offload(load_endpoint(path), execution_device=torch.device("cpu"))
        for path in (instruct, thinking)
    ]
    slots = pair_slots(*ends, instruct=instruct, thinking=thinking)
    assert all(parameter.is_meta for parameter in ends[0].parameters())
    assert ("model.embed_tokens.weight", "lm_head.weight") in {slot.names for slot in slots} or not tie
    weights = MergedWeights(ends[0], slots, device=torch.device("cpu"), dtype=torch.float32)
    ids = torch.tensor([[5, 6, 7, 8]])
    for lam in (0.37, 0.0, 0.9, 1.0, 0.37):
        reference = load_reference(merge_files(instruct, thinking, lam, tmp_path / f"{lam}-{weights.version}"))
        with weights.at([lam]) as model, torch.no_grad():
            torch.testing.assert_close(model(ids).logits, reference(ids).logits, rtol=0, atol=1e-4)
