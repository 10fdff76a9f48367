"""Merged weights against files merged by a script that knows nothing of the package."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dami_agent.errors import InvalidIntensity, UsageError
from dami_agent.weights import load_weights
from dami_agent.weights.merged import MergedWeights
from tests.chance import SEED
from tests.pairs import write_pair
from tests.weights.reference import load_reference, merge_files, random_batch, tensors_of

MODELS = [("qwen2", True), ("qwen3", True), ("qwen3", False), ("llama", False), ("gpt2", True), ("qwen3_moe", False)]


@pytest.mark.parametrize(("arch", "tie"), MODELS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_equals_what_transformers_loads_from_merged_files(tmp_path: Path, arch: str, tie: bool, dtype: str) -> None:
    instruct, thinking = write_pair(tmp_path, arch=arch, seed=SEED, dtype=dtype, shards=1 + SEED % 3, tie=tie)
    weights = load_weights(instruct, thinking, mode="merged", dtype=dtype)
    batch = random_batch(320, [7, 3], torch.Generator().manual_seed(SEED))
    torch_dtype = getattr(torch, dtype)
    for lam in (0.0, 1.0, *torch.rand(2, generator=torch.Generator().manual_seed(SEED)).tolist()):
        reference = load_reference(merge_files(instruct, thinking, lam, tmp_path / f"merged-{lam}"), torch_dtype)
        with weights.at([lam, lam]) as model, torch.no_grad():
            assert weights.intensity == lam
            assert isinstance(model, type(reference))
            expected, got = tensors_of(reference), tensors_of(model)
            assert expected.keys() == got.keys()
            for name in expected:
                if lam in (0.0, 1.0):
                    assert torch.equal(expected[name], got[name]), name
                else:  # one rounding of the result; the reference rounds a float64 value, we a float32 one
                    torch.testing.assert_close(
                        got[name], expected[name], rtol=2**-7 if dtype == "bfloat16" else 1e-6, atol=1e-7
                    )
                    assert (got[name] != expected[name]).float().mean() < (0.01 if dtype == "bfloat16" else 0.5), name
            if dtype == "float32":
                torch.testing.assert_close(model(**batch).logits, reference(**batch).logits, rtol=0, atol=1e-4)
            if tie:
                head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
                assert head.weight.data_ptr() == embedding.weight.data_ptr()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_after_thousands_of_switches_weights_equal_a_fresh_merge(tmp_path: Path, dtype: str) -> None:
    paths = write_pair(tmp_path, seed=SEED, dtype=dtype, shards=2)
    files = sorted(tmp_path.rglob("*.safetensors"))
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    weights = load_weights(*paths, mode="merged", dtype=dtype)
    draws = torch.rand(3000, generator=torch.Generator().manual_seed(SEED))
    draws[3::10], draws[5::10] = 0, 1
    version = weights.version
    for lam in draws.tolist():
        with weights.at([lam]):
            pass
    assert weights.version == version + 3000
    for lam in (draws[1].item(), 0.0, 1.0, 0.5):
        with weights.at([lam]) as model:
            worn = tensors_of(model)
        with load_weights(*paths, mode="merged", dtype=dtype).at([lam]) as model:
            fresh = tensors_of(model)
        assert all(torch.equal(worn[name], fresh[name]) for name in fresh)
    assert digests == [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def test_endpoints_stay_on_disk_until_a_switch_and_are_never_written(tmp_path: Path) -> None:
    paths = write_pair(tmp_path, seed=1, tie=False)
    weights = load_weights(*paths, mode="merged", dtype="bfloat16")
    assert isinstance(weights, MergedWeights)
    before = [(slot.instruct.clone(), slot.thinking.clone()) for slot in weights.slots]
    assert weights.nbytes()["working"] == 0
    for lam in (1.0, 0.3, 0.0, 0.9):
        with weights.at([lam]):
            pass
    sizes = weights.nbytes()
    assert sizes["working"] == sizes["instruct"] == sizes["thinking"] == sum(a.nbytes for a, _ in before)
    for slot, (a, b) in zip(weights.slots, before, strict=True):
        assert torch.equal(slot.instruct, a)
        assert torch.equal(slot.thinking, b)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lam=st.floats(0, 1), scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e30]), seed=st.integers(0, 2**32 - 1))
def test_lerp_rounds_once(lam: float, scale: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(SEED)
    a, b = (scale * torch.randn(2, 257, generator=generator)).bfloat16()
    exact = a.double() + lam * (b.double() - a.double())
    error = (torch.lerp(a, b, lam).double() - exact).abs()
    half_a_step = exact.abs() * 2**-8 + 1e-40  # 8 bits of bf16, and its smallest step near 0
    in_between = torch.maximum(a.abs(), b.abs()).double() * 2**-22  # float32's own roundings, where a and b cancel
    assert (error <= half_a_step + in_between).all()


class _BreaksAt:
    """torch.lerp that fails at its n-th call, as a device running out of memory would."""

    def __init__(self, calls: int) -> None:
        self.left = calls
        self.real = torch.lerp

    def __call__(self, *args: object, **kwargs: object) -> torch.Tensor:
        self.left -= 1
        if self.left < 0:
            raise MemoryError("simulated")
        return self.real(*args, **kwargs)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("target", [0.0, 0.4, 0.7, 1.0])
def test_a_switch_that_fails_midway_is_never_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: float
) -> None:
    paths = write_pair(tmp_path, seed=SEED, dtype="float32")
    weights = load_weights(*paths, mode="merged")
    with weights.at([0.4]):
        version = weights.version
    with monkeypatch.context() as patch:
        patch.setattr(torch, "lerp", _BreaksAt(5))
        with pytest.raises(MemoryError), weights.at([0.7]):
            pytest.fail("a half-merged model was lent")
    assert weights.intensity is None
    with weights.at([target]) as model:
        after = tensors_of(model)
        assert weights.intensity == target
        assert weights.version > version
    with load_weights(*paths, mode="merged").at([target]) as model:
        fresh = tensors_of(model)
    assert all(torch.equal(after[name], fresh[name]) for name in fresh)


def test_the_working_copy_made_in_inference_mode_serves_outside_it(tmp_path: Path) -> None:
    weights = load_weights(*write_pair(tmp_path, dtype="float32"), mode="merged")
    ids = torch.tensor([[1, 2, 3]])
    with torch.inference_mode(), weights.at([0.5]) as model:
        first = model(ids).logits.clone()
    with weights.at([0.6]):
        pass
    with weights.at([0.5]) as model, torch.no_grad():
        assert torch.equal(model(ids).logits, first)


def test_misuse_is_refused(tmp_path: Path) -> None:
    weights = load_weights(*write_pair(tmp_path), mode="merged")
    with weights.at([0.2]):
        version = weights.version
        with pytest.raises(UsageError, match="in use"), weights.at([0.3]):
            pass
        assert weights.intensity == 0.2
    with pytest.raises(UsageError, match=r"one λ at a time.*0.2, 0.3"), weights.at([0.2, 0.3]):
        pass
    with pytest.raises(UsageError, match="at least one row"), weights.at([]):
        pass
    for bad in (float("nan"), float("inf"), -0.1, 1.1, True, "0.5"):
        with pytest.raises(InvalidIntensity):
            weights.at([bad])  # type: ignore[list-item]
    assert (weights.version, weights.intensity) == (version, 0.2)  # nothing above switched
    with weights.at([0.2, 0.2]):
        assert weights.version == version  # equal λ: no rebuild
