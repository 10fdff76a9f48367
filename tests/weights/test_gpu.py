"""On CUDA: load, switch and mixed batches, with a random pair of Qwen3-4B's shape in bf16. Skips without a GPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from dami_agent.weights import Weights, load_weights
from tests.chance import SEED
from tests.pairs import write_pair
from tests.weights.real_shapes import qwen3_4b
from tests.weights.reference import random_batch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.timeout(900),
]
LAYER = "model.layers.17.mlp.down_proj.weight"
EMBEDDING = "model.embed_tokens.weight"
ROWS = slice(None, None, 16)  # of a matrix: all of an embedding in float64 takes the CPU longer than all else here


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    with qwen3_4b(tmp_path_factory) as folders:
        yield folders


def need(gib: int) -> None:
    """Skip where the GPU has less memory free than ``gib``."""
    torch.cuda.empty_cache()
    if torch.cuda.mem_get_info()[0] < gib * 2**30:
        pytest.skip(f"needs {gib} GiB of free GPU memory")


def seconds(work: Callable[[], object]) -> float:
    """Wall time of ``work`` with the device's queue drained before and after."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def from_file(folder: Path, name: str) -> Tensor:
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as handle:
            if name in handle.keys():  # noqa: SIM118  (safe_open is no mapping)
                return handle.get_tensor(name)
    raise AssertionError(name)


def run(weights: Weights, lams: list[float], batch: dict[str, Tensor]) -> Tensor:
    """Last position's logits, (rows, vocab) float32, on the CPU."""
    inputs = {name: value.to(weights.device) for name, value in batch.items()}
    with weights.at(lams) as model, torch.inference_mode():
        return model(**inputs, logits_to_keep=1, use_cache=False).logits[:, -1].float().cpu()


def test_merged_loads_and_switches(pair: tuple[Path, Path]) -> None:
    need(26)
    loading = time.perf_counter()
    weights = load_weights(*pair, mode="merged", device="cuda", dtype="bfloat16")
    torch.cuda.synchronize()
    print(f"loaded both endpoints in {time.perf_counter() - loading:.1f} s: {weights.nbytes()}")
    ends = {name: [from_file(folder, name)[ROWS] for folder in pair] for name in (LAYER, EMBEDDING)}
    for lam in (0.0, 1.0, 0.3, 0.0, 0.77, 1.0):
        with weights.at([lam]) as model:
            live = dict(model.named_parameters())
            for name, (a, b) in ends.items():
                got = live[name][ROWS].cpu()
                if lam in (0.0, 1.0):
                    assert torch.equal(got, b if lam else a), (name, lam)
                    continue
                exact = a.double() + lam * (b.double() - a.double())
                torch.testing.assert_close(got.double(), exact, rtol=2**-8, atol=1e-9)
                assert (got != exact.bfloat16()).float().mean() < 1e-3  # one rounding; ties of two roundings aside

    def switch(lam: float) -> Callable[[], None]:
        def work() -> None:
            with weights.at([lam]):
                pass

        return work

    times = [seconds(switch(0.05 + 0.09 * step)) for step in range(10)]
    size = weights.nbytes()["working"]
    print(
        f"switch: median {1e3 * statistics.median(times):.2f} ms, {3 * size / statistics.median(times) / 1e12:.2f} TB/s"
    )
    print(f"switch to an end: {1e3 * seconds(switch(0.0)):.2f} ms")
    print(f"peak GPU memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
    assert weights.nbytes()["working"] == weights.nbytes()["instruct"]


def test_mixed_batch_equals_merged_per_row(pair: tuple[Path, Path]) -> None:
    need(26)
    lams = [0.0, 0.2, 0.5, 0.5, 0.61, 0.8, 0.97, 1.0]
    generator = torch.Generator().manual_seed(5)
    batch = random_batch(151936, [31, 5, 17, 24, 8, 31, 2, 12], generator)
    one = {"input_ids": torch.randint(0, 151936, (8, 1), generator=generator)}

    def merged_alone() -> tuple[Tensor, float]:
        """Logits of every row by itself, and the seconds of a decode step; the copy is freed on return."""
        merged = load_weights(*pair, mode="merged", device="cuda", dtype="bfloat16")
        alone = []
        for row, lam in enumerate(lams):
            length = int(batch["attention_mask"][row].sum())
            alone.append(run(merged, [lam], {"input_ids": batch["input_ids"][row : row + 1, -length:]}))
        return torch.cat(alone), min(seconds(lambda: run(merged, [0.5] * 8, one)) for _ in range(10))

    expected, step = merged_alone()
    need(18)
    mixed = load_weights(*pair, mode="mixed", device="cuda", dtype="bfloat16")
    got = run(mixed, lams, batch)
    for row, lam in enumerate(lams):
        error = (got[row] - expected[row]).std() / expected[row].std()
        print(f"λ={lam}: mixed differs from merged by {error:.4f} of the logits' deviation")
        assert error < 0.1  # 36 layers of bf16, rounded in other places
    both = min(seconds(lambda: run(mixed, lams, one)) for _ in range(10))
    print(f"decode step of 8 rows: merged {1e3 * step:.1f} ms, mixed {1e3 * both:.1f} ms ({both / step:.2f}x)")


@pytest.mark.parametrize("arch", ["qwen2", "qwen3", "llama"])
def test_float32_on_cuda_equals_the_cpu(tmp_path: Path, arch: str) -> None:
    """Tiny and in float32, so that the bound can be tight: mixed on CUDA against merged on the CPU, row by row."""
    paths = write_pair(tmp_path, arch=arch, seed=SEED, dtype="float32")
    generator = torch.Generator().manual_seed(SEED)
    lams = [0.0, 0.25, 0.5, 1.0, torch.rand(1, generator=generator).item()]
    batch = random_batch(320, [9, 1, 4, 9, 6], generator)
    reference = load_weights(*paths, mode="merged")
    alone = []
    for row, lam in enumerate(lams):
        length = int(batch["attention_mask"][row].sum())
        alone.append(run(reference, [lam], {"input_ids": batch["input_ids"][row : row + 1, -length:]}))
    mixed = load_weights(*paths, mode="mixed", device="cuda")
    torch.testing.assert_close(run(mixed, lams, batch), torch.cat(alone), rtol=0, atol=2e-4)
    merged = load_weights(*paths, mode="merged", device="cuda")
    for lam in (0.0, 0.37, 1.0):
        whole = run(reference, [lam] * 5, batch)
        torch.testing.assert_close(run(merged, [lam] * 5, batch), whole, rtol=0, atol=2e-4)


def test_layers_in_cpu_memory_run_on_the_gpu(tmp_path: Path) -> None:
    """accelerate moves offloaded layers to the GPU as they are needed: the merged copy must be what it moves."""
    paths = write_pair(tmp_path, tie=False, dtype="float32")
    device_map: dict[str, str | int] = {"model.embed_tokens": 0, "model.rotary_emb": 0, "model.norm": 0, "lm_head": 0}
    device_map |= {"model.layers.0": 0, "model.layers.1": "cpu"}
    weights = load_weights(*paths, mode="merged", device_map=device_map)
    reference = load_weights(*paths, mode="merged")
    assert weights.device == torch.device("cuda:0")
    ids = {"input_ids": torch.tensor([[5, 6, 7, 8]])}
    for lam in (0.4, 0.0, 1.0, 0.7):
        torch.testing.assert_close(run(weights, [lam], ids), run(reference, [lam], ids), rtol=0, atol=2e-4)
