"""torch's RMSNorm in place of transformers': the same numbers, the same weights, and only where it is the same norm."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from dami_agent.weights import load_weights
from dami_agent.weights.norms import NORMS, FusedRMSNorm, fuse_norms
from tests.pairs import write_pair


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(1, 1, 64), (3, 17, 64), (2, 5, 4, 64)])
def test_it_computes_what_transformers_does(norm: type[nn.Module], dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    rng = torch.Generator().manual_seed(7)
    theirs = norm(64, eps=1e-6).to(dtype)
    with torch.no_grad():
        theirs.weight.copy_(1 + torch.randn(64, generator=rng) / 3)
    for scale in (1e-4, 1.0, 300.0):  # the first is small enough that eps counts
        x = (torch.randn(shape, generator=rng) * scale).to(dtype)
        torch.testing.assert_close(
            FusedRMSNorm(theirs)(x), theirs(x), rtol=1e-6 if dtype == torch.float32 else 0, atol=0
        )


def test_weights_are_the_same_objects_and_other_norms_stay() -> None:
    class Other(Qwen3RMSNorm):
        """Computes who knows what."""

    model = nn.ModuleDict({"known": Qwen3RMSNorm(8), "other": Other(8), "linear": nn.Linear(2, 2)})
    before = dict(model.named_parameters())
    fuse_norms(model)
    assert [type(module) for module in model.values()] == [FusedRMSNorm, Other, nn.Linear]
    after = dict(model.named_parameters())
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)


def test_merged_weights_follow_lambda_through_them(tmp_path: Path) -> None:
    weights = load_weights(*write_pair(tmp_path, seed=3, dtype="float32", vocab=64), mode="merged")
    with weights.at([0.25]) as model:
        norms = [module for module in model.modules() if isinstance(module, FusedRMSNorm)]
        quarter = [norm.weight.clone() for norm in norms]
    ends = []
    for end in (0.0, 1.0):
        with weights.at([end]):
            ends.append([norm.weight.clone() for norm in norms])
    assert norms
    for low, high, found in zip(*ends, quarter, strict=True):
        torch.testing.assert_close(found, torch.lerp(low, high, 0.25))
    assert any(not torch.equal(low, high) for low, high in zip(*ends, strict=True))
