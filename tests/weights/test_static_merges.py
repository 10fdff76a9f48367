"""Static merges against what their papers say, entry by entry; what is written opens and answers as merged."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from dami_agent.checkpoints import CheckpointPair
from dami_agent.errors import UsageError
from dami_agent.weights import load_weights, static_merges
from dami_agent.weights.static_merges import MERGES, StaticMerge, write_merge
from tests.pairs import write_pair


def drawn(seed: int, *shape: int) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    base = torch.randn(shape, generator=rng)
    first, second = (base + 0.3 * torch.randn(shape, generator=rng) for _ in range(2))
    return base, first, second


def named(method: str, settings: str) -> StaticMerge:
    return next(merge for merge in MERGES if (merge.method, merge.settings) == (method, settings))


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_slerp_keeps_the_length_of_equally_long_vectors_and_moves_by_equal_angles(t: float) -> None:
    first, second = torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    found = static_merges.slerp(first, second, t)
    angle = t * math.pi / 2
    torch.testing.assert_close(found, 2 * torch.tensor([[math.cos(angle), 0.0], [math.sin(angle), 0.0]]))


def test_slerp_of_parallel_vectors_and_of_nothing_is_the_line() -> None:
    first = torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(static_merges.slerp(first, 3 * first, 0.5), 2 * first)
    torch.testing.assert_close(static_merges.slerp(torch.zeros(3), torch.zeros(3), 0.5), torch.zeros(3))


@pytest.mark.parametrize(("density", "t"), [(0.2, 0.5), (0.5, 0.8), (1.0, 0.3)])
def test_ties_entry_by_entry(density: float, t: float) -> None:
    base, first, second = drawn(1, 6, 7)
    found = static_merges.ties(base, first, second, density, t).flatten().tolist()
    weights, flat, deltas = (1 - t, t), base.flatten().tolist(), []
    for model in (first, second):
        delta = (model - base).flatten().tolist()
        order = sorted(range(len(delta)), key=lambda i: -abs(delta[i]))[: max(1, int(density * len(delta)))]
        deltas.append([value if i in order else 0.0 for i, value in enumerate(delta)])
    for i, value in enumerate(found):
        parts = [(w, d[i]) for w, d in zip(weights, deltas, strict=True)]
        sign = 1 if sum(w * d for w, d in parts) >= 0 else -1
        agree = [(w, d) for w, d in parts if d * sign > 0]
        mean = sum(w * d for w, d in agree) / sum(w for w, _ in agree) if agree else 0.0
        assert value == pytest.approx(flat[i] + mean, abs=1e-6)


def test_task_arithmetic_whose_weights_add_up_to_one_is_the_line() -> None:
    base, first, second = drawn(2, 5, 4)
    torch.testing.assert_close(
        static_merges.task_arithmetic(base, first, second, 0.3, 0.7), static_merges.linear(first, second, 0.7)
    )


def test_null_space_changes_nothing_in_the_leading_directions_and_all_outside() -> None:
    _, first, second = drawn(3, 8, 12)
    found = static_merges.null_space(first, second, 0.5)
    directions, _, _ = torch.linalg.svd(first, full_matrices=False)
    lead, rest = directions[:, :4], directions[:, 4:]
    torch.testing.assert_close(lead.T @ found, lead.T @ first, atol=1e-5, rtol=0)
    torch.testing.assert_close(rest.T @ found, rest.T @ second, atol=1e-5, rtol=0)
    torch.testing.assert_close(static_merges.null_space(first, second, 0.0), second)


def test_what_is_written_is_each_tensor_merged(tmp_path: Path) -> None:
    folders = write_pair(tmp_path / "pair", seed=5, dtype="float32")
    (base, _), pair = write_pair(tmp_path / "base", seed=6, dtype="float32"), CheckpointPair.open(*folders)
    low, high, below = (load_file(Path(folder) / "model.safetensors") for folder in (*folders, base))
    for number, merge in enumerate(MERGES):
        write_merge(merge, pair, Path(base), tmp_path / str(number))
        found = load_file(tmp_path / str(number) / "model.safetensors")
        assert found.keys() == low.keys()
        for name, tensor in found.items():
            expected = merge.rule(name, low[name], high[name], below[name])
            torch.testing.assert_close(tensor, expected)
    merged = tmp_path / str(MERGES.index(named("linear", "λ=0.4")))
    ids = torch.tensor([[1, 2, 3]])
    ours = load_weights(*folders, mode="merged")
    theirs = load_weights(folders[0], str(merged), mode="merged")
    with torch.no_grad(), ours.at([0.4]) as one, theirs.at([1.0]) as other:
        torch.testing.assert_close(other(ids).logits, one(ids).logits, atol=1e-5, rtol=0)


def test_a_missing_or_foreign_base_is_refused(tmp_path: Path) -> None:
    folders = write_pair(tmp_path / "pair", seed=5)
    pair, ties = CheckpointPair.open(*folders), next(merge for merge in MERGES if merge.method == "ties")
    with pytest.raises(UsageError, match="starts from the base"):
        write_merge(ties, pair, None, tmp_path / "a")
    other, _ = write_pair(tmp_path / "other", seed=6, hidden=64)
    with pytest.raises(UsageError, match="has the shape"):
        write_merge(ties, pair, Path(other), tmp_path / "b")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no safetensors"):
        write_merge(ties, pair, tmp_path / "empty", tmp_path / "c")
    assert not any((tmp_path / each).exists() for each in "abc"), "nothing half written"


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("model.layers.3.self_attn.q_proj.weight", 0.2),
        ("model.layers.3.mlp.up_proj.weight", 1.0),
        ("model.layers.3.self_attn.q_norm.weight", 0.6),
        ("model.embed_tokens.weight", 0.6),
        ("transformer.h.0.attn.c_attn.weight", 0.2),
    ],
)
def test_a_split_goes_by_the_kind_of_module(name: str, weight: float) -> None:
    """Kinds are those of a λ per module, whatever an architecture calls its blocks; norms take the mean."""
    found = static_merges.split(name, torch.zeros(3), torch.ones(3), attention=0.2, ffn=1.0)
    torch.testing.assert_close(found, torch.full((3,), weight))
