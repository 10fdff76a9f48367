"""Mixed rows against merged weights at each row's own λ, one row at a time."""

from __future__ import annotations

import copy
import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, DynamicCache

from dami_agent.errors import UnsupportedCheckpoint, UsageError
from dami_agent.weights import Weights, load_weights, supports_mixed
from dami_agent.weights import mixed as mixed_module
from dami_agent.weights.batch_intensities import BatchIntensities
from tests.chance import SEED
from tests.pairs import write_pair
from tests.weights.reference import random_batch

VOCAB = 320
MODELS = [
    ("qwen2", True, {}),
    ("qwen2", False, {}),
    ("qwen3", True, {}),
    ("qwen3", False, {"attention_bias": True}),
    ("llama", True, {}),
    ("llama", False, {"attention_bias": True, "mlp_bias": True}),
]


def open_both(tmp_path: Path, **kwargs: object) -> tuple[Weights, Weights, torch.Generator]:
    paths = write_pair(tmp_path, seed=SEED, dtype="float32", vocab=VOCAB, **kwargs)
    merged, mixed = (load_weights(*paths, mode=mode) for mode in ("merged", "mixed"))
    return merged, mixed, torch.Generator().manual_seed(SEED)


def random_intensities(rows: int, generator: torch.Generator) -> list[float]:
    """λ per row; often the ends, which take other paths."""
    draws = torch.rand(rows, generator=generator)
    return [0.0 if d < 0.25 else 1.0 if d > 0.75 else (d.item() - 0.25) * 2 for d in draws]


def assert_same_logits(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)
    best = expected.topk(2, dim=-1).values
    clear = best[..., 0] - best[..., 1] > 1e-3
    assert torch.equal(got.argmax(-1)[clear], expected.argmax(-1)[clear])


def decode_alone(merged: Weights, lam: float, ids: Tensor, steps: list[int]) -> list[Tensor]:
    """Logits of one unpadded row at one λ: of its whole prompt, then after each forced token, always from scratch."""
    logits = []
    for count in range(len(steps) + 1):
        whole = torch.cat([ids, torch.tensor(steps[:count], dtype=torch.long)])
        with merged.at([lam]) as model, torch.no_grad():
            out = model(whole[None]).logits[0]
        logits.append(out if count == 0 else out[-1:])
    return logits


@pytest.mark.parametrize(("arch", "tie", "config"), MODELS)
def test_every_row_equals_merged_at_its_own_intensity(
    tmp_path: Path, arch: str, tie: bool, config: dict[str, object]
) -> None:
    merged, mixed, generator = open_both(tmp_path, arch=arch, tie=tie, **config)
    for rows in (1, 2, 5):
        lengths = torch.randint(1, 12, (rows,), generator=generator).tolist()
        batch = random_batch(VOCAB, lengths, generator)
        lams = random_intensities(rows, generator)
        forced = torch.randint(0, VOCAB, (3, rows), generator=generator)
        cache = DynamicCache()
        mask, position = batch["attention_mask"], batch["position_ids"]
        steps = []
        with torch.no_grad():
            for step in range(4):
                ids = batch["input_ids"] if step == 0 else forced[step - 1][:, None]
                if step:
                    mask = torch.cat([mask, torch.ones_like(ids)], 1)
                    position = position[:, -1:] + 1
                with mixed.at(lams) as model:
                    kept = {mixed.cache_argument: cache}
                    out = model(ids, attention_mask=mask, position_ids=position, use_cache=True, **kept)
                steps.append(out.logits)
        for row, lam in enumerate(lams):
            prompt = batch["input_ids"][row, -lengths[row] :]
            expected = decode_alone(merged, lam, prompt, forced[:, row].tolist())
            assert_same_logits(steps[0][row, -lengths[row] :], expected[0])
            for step in (1, 2, 3):
                assert_same_logits(steps[step][row], expected[step])
    assert mixed.version == 0
    assert mixed.intensity is None


@pytest.mark.parametrize("lam", [0.0, 1.0])
def test_the_ends_are_exact(tmp_path: Path, lam: float) -> None:
    merged, mixed, generator = open_both(tmp_path)
    batch = random_batch(VOCAB, [6, 4], generator)
    with torch.no_grad():
        with merged.at([lam] * 2) as model:
            expected = model(**batch).logits
        with mixed.at([lam] * 2) as model:
            assert torch.equal(model(**batch).logits, expected)


def test_bfloat16_is_as_close_to_float32_as_merged_bfloat16_is(tmp_path: Path) -> None:
    """In bf16 the two modes round in other places: both must stay near the float32 result, and equally so."""
    paths = write_pair(tmp_path, seed=SEED, dtype="bfloat16", hidden=64)
    generator = torch.Generator().manual_seed(7)
    batch = random_batch(VOCAB, [9] * 4, generator)
    lams = [0.0, 0.3, 0.61, 1.0]
    exact = load_weights(*paths, mode="mixed", dtype="float32")
    mixed, merged = (load_weights(*paths, mode=mode, dtype="bfloat16") for mode in ("mixed", "merged"))
    with torch.no_grad():
        with exact.at(lams) as model:
            reference = model(**batch).logits
        with mixed.at(lams) as model:
            got = model(**batch).logits.float()
        rows = []
        for row, lam in enumerate(lams):
            with merged.at([lam]) as model:
                rows.append(model(**{name: value[row : row + 1] for name, value in batch.items()}).logits.float())
    error_mixed = (got - reference).pow(2).mean().sqrt()
    error_merged = (torch.cat(rows) - reference).pow(2).mean().sqrt()
    assert error_mixed < 0.05 * reference.std()
    assert error_mixed < 2 * error_merged


def test_embeddings_and_norms_in_bfloat16_round_as_merged_ones_do(tmp_path: Path) -> None:
    """λ must not be rounded to bf16 on its way: all but a few ties of two roundings come out bit for bit."""
    paths = write_pair(tmp_path, seed=SEED, hidden=256)
    mixed, merged = (load_weights(*paths, mode=mode, dtype="bfloat16") for mode in ("mixed", "merged"))
    lams = torch.rand(6).tolist()
    ids, hidden = torch.randint(0, VOCAB, (6, 40)), torch.randn(6, 40, 256).bfloat16()
    with torch.no_grad():
        with mixed.at(lams) as model:
            got = torch.stack([model.get_input_embeddings()(ids), model.model.norm(hidden)])
        rows = []
        for row, lam in enumerate(lams):
            with merged.at([lam]) as model:
                rows.append(torch.stack([model.get_input_embeddings()(ids[row]), model.model.norm(hidden[row])]))
    assert (got != torch.stack(rows, 1)).float().mean() < 1e-3


def test_intensities_change_from_one_forward_to_the_next(tmp_path: Path) -> None:
    """What is kept per λ (norm weights) must not outlive it, nor leak into a batch of another size."""
    merged, mixed, generator = open_both(tmp_path)
    for _ in range(12):
        rows = int(torch.randint(1, 4, (1,), generator=generator))
        lams = random_intensities(rows, generator)
        batch = random_batch(VOCAB, [5] * rows, generator)
        with torch.no_grad(), mixed.at(lams) as model:
            got = model(**batch).logits
        for row, lam in enumerate(lams):
            with torch.no_grad(), merged.at([lam]) as model:
                assert_same_logits(got[row : row + 1], model(batch["input_ids"][row : row + 1]).logits)


def test_misuse_is_refused(tmp_path: Path) -> None:
    _, mixed, generator = open_both(tmp_path)
    batch = random_batch(VOCAB, [3, 3], generator)
    with mixed.at([0.1, 0.9]) as model:
        pass
    with pytest.raises(UsageError, match=r"outside of Weights\.at"):
        model(**batch)
    for count in (1, 3):
        with pytest.raises(UsageError, match=rf"2 rows, but λ was given for {count}"), mixed.at([0.5] * count) as model:
            model(**batch)
    entered, leave, errors = threading.Event(), threading.Event(), []

    def holds_it() -> None:
        with mixed.at([0.5]):
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=holds_it)
    thread.start()
    entered.wait(10)
    try:
        with mixed.at([0.4]):
            pass
    except UsageError as error:
        errors.append(error)
    leave.set()
    thread.join()
    assert len(errors) == 1
    assert "in use" in str(errors[0])
    with mixed.at([0.5, 0.5]) as model:  # and after all that it still runs
        assert model(**batch).logits.shape == (2, 3, VOCAB)


@pytest.mark.parametrize("arch", ["gpt2", "qwen3_moe"])
def test_other_architectures_run_merged_only_and_say_so(tmp_path: Path, arch: str) -> None:
    paths = write_pair(tmp_path, arch=arch, tie=arch == "gpt2")
    assert not supports_mixed(AutoConfig.from_pretrained(paths[0]))
    with pytest.raises(UsageError, match=f"{arch}.* runs merged only"):
        load_weights(*paths, mode="mixed")
    load_weights(*paths, mode="merged")


def test_a_parameter_no_mixed_module_stands_for_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write_pair(tmp_path, arch="qwen3")
    assert supports_mixed(AutoConfig.from_pretrained(paths[0]))
    assert supports_mixed({"model_type": "qwen3"})
    monkeypatch.setattr(mixed_module, "NORMS", ())
    with pytest.raises(UnsupportedCheckpoint, match=r"model\.layers\.0\.self_attn\.q_norm \(Qwen3RMSNorm\)"):
        load_weights(*paths, mode="mixed")


def test_a_saved_buffer_is_not_taken_from_instruct_silently() -> None:
    ends = [torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Identity()) for _ in range(2)]
    rows = BatchIntensities(torch.device("cpu"))
    mixed_module.replace_modules(*copy.deepcopy(ends), rows)  # type: ignore[call-arg]
    for end in ends:
        end[1].register_buffer("balance", torch.rand(2))
    with pytest.raises(UnsupportedCheckpoint, match=r"1 \(Identity\)"):
        mixed_module.replace_modules(*ends, rows)  # type: ignore[call-arg]


def test_memory_is_the_two_endpoints(tmp_path: Path) -> None:
    merged, mixed, _ = open_both(tmp_path, tie=True)
    with merged.at([0.5]):
        sizes = merged.nbytes()
    assert mixed.nbytes() == {**sizes, "working": 0}
