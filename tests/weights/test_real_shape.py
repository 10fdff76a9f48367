"""A pair of Qwen3-0.6B's shape (bf16, sharded, tied): written, loaded, switched, run. About 4 GiB of memory."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest
import torch

from dami_agent.weights import load_weights
from tests.weights.real_shapes import write_real_pair


@pytest.mark.slow
def test_qwen3_600m_loads_and_runs(tmp_path: Path) -> None:
    if psutil.virtual_memory().available < 6 * 2**30:
        pytest.skip("needs 6 GiB of free memory")
    started = time.perf_counter()

    def report(what: str) -> None:
        memory = psutil.Process().memory_info()
        mapped = getattr(memory, "shared", 0)
        print(
            f"{time.perf_counter() - started:6.1f} s  {what}: resident {memory.rss / 2**30:.2f} GiB, "
            f"of which file pages {mapped / 2**30:.2f}"
        )

    paths = write_real_pair(tmp_path, "Qwen3-0.6B")
    report("written")
    weights = load_weights(*paths, mode="merged", dtype="bfloat16")
    report("loaded")
    ids = torch.arange(1, 9)[None]
    logits = {}
    for lam in (0.5, 0.0, 1.0, 0.25):
        before = weights.switch_seconds
        with weights.at([lam]) as model, torch.inference_mode():
            logits[lam] = model(ids, logits_to_keep=1).logits[0, -1].float()
        report(f"λ={lam}: switch {weights.switch_seconds - before:.2f} s, forward of 8 tokens done")
    sizes = weights.nbytes()
    print(sizes)
    assert sizes["instruct"] == sizes["thinking"] == sizes["working"] == 2 * 596_049_920
    assert all(torch.isfinite(values).all() for values in logits.values())
    assert all(a is b or not torch.equal(a, b) for a in logits.values() for b in logits.values())
    embedding = model.get_input_embeddings().weight
    assert model.get_output_embeddings().weight.data_ptr() == embedding.data_ptr()
    some = torch.randint(0, 151936, (64,))
    with weights.at([0.25]):
        ends = next(slot for slot in weights.slots if "lm_head.weight" in slot.names)  # type: ignore[attr-defined]
        a, b = ends.instruct[some].double(), ends.thinking[some].double()
        torch.testing.assert_close(embedding[some].double(), a + 0.25 * (b - a), rtol=2**-8, atol=1e-9)

    lams = sorted(logits)
    mixed = load_weights(*paths, mode="mixed", dtype="bfloat16")
    report("loaded mixed")
    with mixed.at(lams) as model, torch.inference_mode():
        rows = model(ids.expand(len(lams), -1), logits_to_keep=1).logits[:, -1].float()
    report(f"mixed forward of {len(lams)} rows done")
    for row, lam in zip(rows, lams, strict=True):
        error = (row - logits[lam]).std() / logits[lam].std()
        print(f"λ={lam}: mixed differs from merged by {error:.3f} of the logits' deviation")
        assert error < 0.1  # two bf16 computations that round in different places, 28 layers deep
