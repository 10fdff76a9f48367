"""Plans: the arithmetic on the real shapes, what is chosen when memory shrinks, and that wishes are kept or refused."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from accelerate.utils import get_max_memory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, DynamicCache

from dami_agent.checkpoints import CheckpointPair, memory, plan
from dami_agent.checkpoints.placements import MIXED_FAMILIES
from dami_agent.errors import InsufficientMemory, UsageError
from dami_agent.weights import load_weights, supports_mixed
from dami_agent.weights.base import cache_argument
from tests.pairs import QWEN3_0_6B, QWEN3_4B, write_sparse_pair

GB = 10**9
BF16 = {"dtype": "bfloat16"}


@pytest.fixture(scope="module")
def four_b(tmp_path_factory):
    return CheckpointPair.open(*write_sparse_pair(tmp_path_factory.mktemp("4b"), shards=3, **QWEN3_4B))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return CheckpointPair.open(*write_sparse_pair(tmp_path_factory.mktemp("06b"), **QWEN3_0_6B))


@pytest.fixture(autouse=True)
def modern_gpus(monkeypatch):
    monkeypatch.setattr("dami_agent.checkpoints.placements.computes_bfloat16", lambda device: True)


class TestArithmetic:
    def test_qwen3_4b(self, four_b):
        """2 bytes x 4.022 G: 16 GB for both endpoints (mixed), 24 GB with a merged copy, 144 KiB of KV per token."""
        found = plan(four_b, memory={"cpu": 200 * GB, "cuda:0": 80 * GB})
        assert found.weights_bytes == 2 * 4_022_468_096
        assert found.needs["mixed"] == memory.MemoryNeed(16_089_872_384)
        assert found.needs["merged"] == memory.MemoryNeed(24_134_808_576)
        assert found.kv_bytes_per_token == 144 * 1024
        assert found.kv_bytes_per_token * 32 * 1024 == pytest.approx(4.8 * GB, rel=0.01)
        assert (found.device, found.dtype, found.mode) == ("cuda:0", "bfloat16", "mixed")
        assert found.context_length == 262_144
        assert found.total_bytes == 16_089_872_384 + 262_144 * 144 * 1024 + found.activation_bytes

    def test_on_the_cpu_the_endpoints_stay_mapped(self, four_b):
        found = plan(four_b, mode="merged", memory={"cpu": 64 * GB})
        assert found.needs["merged"] == memory.MemoryNeed(resident=8_044_936_192, mapped=16_089_872_384)
        assert plan(four_b, dtype="float32", mode="merged", memory={"cpu": 64 * GB}).needs["merged"].mapped == 0

    def test_qwen3_0_6b(self, small):
        found = plan(small, memory={"cpu": 16 * GB})
        assert found.weights_bytes == 2 * 596_049_920
        assert found.kv_bytes_per_token == 2 * 28 * 8 * 128 * 2
        assert found.dtype == "bfloat16"

    @pytest.mark.parametrize("arch", ["qwen3", "qwen2", "llama", "gpt2", "qwen3_moe"])
    @pytest.mark.parametrize("tie", [True, False])
    def test_against_a_loaded_model(self, written, arch, tie):
        """The slow, obvious way: load it, run it, and count the bytes of its parameters and of its cache."""
        pair = CheckpointPair.open(*written(arch=arch, tie=tie))
        found = plan(pair, dtype="bfloat16", memory={"cpu": GB})
        model = AutoModelForCausalLM.from_pretrained(pair.instruct.path, dtype=torch.bfloat16)
        assert found.weights_bytes == sum(p.nbytes for p in model.parameters())
        cache = DynamicCache(config=model.config)
        with torch.no_grad():
            model(torch.arange(7)[None], **{cache_argument(model): cache})
        assert found.kv_bytes_per_token * 7 == sum(x.keys.nbytes + x.values.nbytes for x in cache.layers)

    @pytest.mark.parametrize("mode", ["mixed", "merged"])
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_against_loaded_weights(self, written, mode, dtype):
        pair = CheckpointPair.open(*written(arch="qwen3"))
        need = plan(pair, mode=mode, dtype=dtype, memory={"cpu": GB}).needs[mode]
        weights = load_weights(pair.instruct.path, pair.thinking.path, mode=mode, dtype=dtype)
        with weights.at([0.5]):
            assert sum(weights.nbytes().values()) == pytest.approx(need.total, rel=0.02)

    def test_the_families_that_mix_are_those_that_weights_mixes(self):
        for arch in ("qwen3", "qwen2", "llama", "gpt2", "qwen3_moe"):
            assert supports_mixed({"model_type": arch}) == (arch in MIXED_FAMILIES), arch


class TestAutomatic:
    @pytest.mark.parametrize(
        ("free", "device", "mode"),
        [
            ({"cpu": 64, "cuda:0": 40}, "cuda:0", "mixed"),
            ({"cpu": 64, "cuda:0": 40, "cuda:1": 60}, "cuda:1", "mixed"),
            ({"cpu": 64, "cuda:0": 12}, "cpu", "mixed"),
            ({"cpu": 18}, "cpu", "merged"),
            ({"cpu": 64}, "cpu", "mixed"),
            ({"cpu": 64, "mps": 40}, "mps", "mixed"),
        ],
    )
    def test_device_and_mode_by_memory(self, four_b, free, device, mode):
        found = plan(four_b, memory={k: v * GB for k, v in free.items()})
        assert (found.device, found.mode) == (device, mode)
        assert found.total_bytes <= free[device] * GB * (1 - memory.RESERVE)
        assert set(found.reasons) == {"device", "dtype", "mode", "context_length"}
        assert all(found.reasons.values())

    def test_the_context_shrinks_to_what_fits_and_says_so(self, four_b):
        found = plan(four_b, mode="mixed", memory={"cpu": 25 * GB})
        assert 8192 <= found.context_length < 262_144
        assert "262144" in found.reasons["context_length"]
        more = dataclasses.replace(found, context_length=found.context_length + 257)
        assert more.total_bytes > 25 * GB * (1 - memory.RESERVE)

    def test_mixed_is_passed_over_when_it_leaves_too_little_context(self, four_b):
        found = plan(four_b, memory={"cpu": int(21.3 * GB)})
        assert found.mode == "merged"
        assert "tokens of context" in found.reasons["mode"]
        assert plan(four_b, mode="mixed", memory={"cpu": int(21.3 * GB)}).context_length < 8192

    def test_a_switch_that_may_read_the_disk_is_said(self, four_b):
        assert "read the disk" in plan(four_b, mode="merged", memory={"cpu": 18 * GB}).reasons["mode"]
        assert "read the disk" not in plan(four_b, mode="merged", memory={"cpu": 200 * GB}).reasons["mode"]

    def test_a_tiny_pair_runs_in_float32_on_a_cpu(self, written):
        found = plan(CheckpointPair.open(*written()), memory={"cpu": GB})
        assert (found.dtype, found.mode, found.context_length) == ("float32", "mixed", 512)

    def test_a_family_without_mixed_runs_merged_and_says_so(self, written):
        found = plan(CheckpointPair.open(*written(arch="gpt2")), memory={"cpu": GB})
        assert found.mode == "merged"
        assert "gpt2" in found.reasons["mode"]
        assert set(found.needs) == {"merged"}

    def test_a_gpu_without_bfloat16(self, four_b, monkeypatch):
        monkeypatch.setattr("dami_agent.checkpoints.placements.computes_bfloat16", lambda device: False)
        found = plan(four_b, memory={"cpu": GB, "cuda:0": 40 * GB})
        assert found.dtype == "float16"
        assert "overflow" in found.reasons["dtype"]
        assert plan(four_b, memory={"cpu": GB, "cuda:0": 80 * GB}).dtype == "float32"

    def test_a_cpu_without_bfloat16(self, four_b, small, monkeypatch):
        """0.6 billion parameters run in float32 where that fits; four billion stay as they are stored."""
        assert plan(small, memory={"cpu": 16 * GB}).dtype == "bfloat16"
        monkeypatch.setattr("dami_agent.checkpoints.placements.computes_bfloat16", lambda device: False)
        found = plan(small, memory={"cpu": 16 * GB})
        assert (found.dtype, found.reasons["dtype"]) == ("float32", "this CPU has no bfloat16 units, and float32 fits")
        assert plan(small, memory={"cpu": 6 * GB}).dtype == "bfloat16"
        assert plan(four_b, memory={"cpu": 200 * GB}).dtype == "bfloat16"

    @pytest.mark.parametrize(
        ("found", "has"),
        [({"avx2": True, "avx512_bf16": False}, False), ({"avx512_bf16": True}, True), ({"bf16": True}, True)],
    )
    def test_a_cpu_is_asked_for_its_units(self, monkeypatch, found, has):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
        assert memory.computes_bfloat16("cpu") is has

    def test_layers_are_spread_over_gpus_when_none_holds_it_alone(self, four_b):
        found = plan(four_b, memory={"cpu": GB, "cuda:0": 16 * GB, "cuda:1": 16 * GB, "cuda:2": 12 * GB})
        assert found.mode == "merged"
        assert set(found.device_map.values()) == {0, 1, 2}
        assert "accelerate" in found.reasons["device"]
        sizes = {0: 0, 1: 0, 2: 0}
        for name, shape in four_b.layout.parameters.items():
            place = next(d for module, d in found.device_map.items() if name == module or name.startswith(module + "."))
            sizes[place] += 3 * 2 * math.prod(shape)
        assert all(size < free * GB for size, free in zip(sizes.values(), (16, 16, 12), strict=True))

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(cpu=st.floats(0.1, 300), gpu=st.none() | st.floats(1, 90), context=st.none() | st.integers(1, 262_144))
    def test_whatever_the_memory_a_plan_fits_or_is_refused(self, four_b, cpu, gpu, context):
        free = {"cpu": int(cpu * GB)} | ({"cuda:0": int(gpu * GB)} if gpu else {})
        try:
            found = plan(four_b, memory=free, context_length=context)
        except InsufficientMemory as error:
            lacking = error
        else:
            assert found.total_bytes <= free[found.device] * (1 - memory.RESERVE)
            assert 1 <= found.context_length <= 262_144
            assert context is None or found.context_length == context
            return
        assert lacking.hint
        assert all(device in str(lacking) for device in free)


class TestWishes:
    def test_are_kept(self, four_b):
        requested = {"device": "cpu", "dtype": "float32", "mode": "merged", "context_length": 1000}
        found = plan(four_b, memory={"cpu": 200 * GB, "cuda:0": 80 * GB}, **requested)
        assert {k: getattr(found, k) for k in requested} == requested
        assert set(found.reasons.values()) == {"as asked"}

    def test_cuda_means_the_freest(self, four_b):
        free = {"cpu": 200 * GB, "cuda:0": 30 * GB, "cuda:1": 80 * GB}
        assert plan(four_b, device="cuda", memory=free).device == "cuda:1"
        assert plan(four_b, device="cuda:0", memory=free).device == "cuda:0"

    @pytest.mark.parametrize(
        ("wish", "match"),
        [
            ({"device": "cuda"}, "no device 'cuda'"),
            ({"dtype": "int8"}, "unknown dtype"),
            ({"mode": "both"}, "unknown weights mode"),
            ({"context_length": 0}, "at least 1"),
            ({"context_length": 262_145}, "more than the 262144"),
        ],
    )
    def test_that_cannot_be_are_refused(self, four_b, wish, match):
        with pytest.raises(UsageError, match=match) as caught:
            plan(four_b, memory={"cpu": 100 * GB}, **wish)
        assert caught.value.hint

    def test_mixed_for_a_family_without_it(self, written):
        with pytest.raises(UsageError, match="gpt2"):
            plan(CheckpointPair.open(*written(arch="gpt2")), mode="mixed", memory={"cpu": GB})

    def test_that_do_not_fit_are_refused_though_others_would(self, four_b):
        with pytest.raises(InsufficientMemory, match="cpu, mixed, float32"):
            plan(four_b, dtype="float32", mode="mixed", device="cpu", memory={"cpu": 30 * GB, "cuda:0": 80 * GB})
        with pytest.raises(InsufficientMemory):
            plan(four_b, context_length=262_144, device="cpu", memory={"cpu": 30 * GB})


def test_what_fits_nowhere_says_what_was_tried_and_what_would_fit(four_b):
    with pytest.raises(InsufficientMemory) as caught:
        plan(four_b, memory={"cpu": 4 * GB, "cuda:0": 8 * GB})
    message = str(caught.value)
    for line in ("cuda:0, mixed, bfloat16: needs", "cuda:0, merged", "cpu, mixed", "cpu, merged", "usable"):
        assert line in message
    # The hint's least is indeed enough.
    assert "GB free for merged in bfloat16 on the CPU" in caught.value.hint
    least = float(caught.value.hint.split("it takes ")[1].split(" GB")[0])
    assert plan(four_b, memory={"cpu": int((least + 0.1) * GB)}).context_length >= 8192


def test_without_being_told_it_asks_the_machine(written):
    found = plan(CheckpointPair.open(*written()))
    assert found.available["cpu"] == pytest.approx(get_max_memory()["cpu"], rel=0.5)


@pytest.mark.gpu
def test_a_real_gpu_is_found_and_preferred(written):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    found = plan(CheckpointPair.open(*written()))
    assert found.device.startswith("cuda:")
    assert memory.computes_bfloat16(found.device) == (torch.cuda.get_device_capability()[0] >= 8)
