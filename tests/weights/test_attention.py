"""Attention by rows of like lengths: the same numbers as over all columns, with the padding left out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import AttentionInterface

from dami_agent.runtime.batch_inputs import BatchInputs, LoadedModel
from dami_agent.types import Intensity
from dami_agent.weights import load_weights
from dami_agent.weights.attention import FAMILIES, NAME, row_spans
from tests.pairs import write_pair


class Layer(nn.Module):
    """What attention reads of its layer: three heads share keys and values."""

    num_key_value_groups = 3
    is_causal = True


@given(
    lengths=st.lists(st.integers(1, 3000), min_size=1, max_size=70),
    beyond=st.integers(0, 50),
)
def test_spans_divide_the_rows_and_leave_out_padding_alone(lengths: list[int], beyond: int) -> None:
    width = max(lengths) + beyond
    pads = [width - length for length in lengths]
    spans = row_spans(pads, width)
    assert [row for begin, end, _ in spans for row in range(begin, end)] == list(range(len(pads)))
    for begin, end, start in spans:
        assert start == min(pads[begin:end])
        tokens = sum(lengths[begin:end])
        assert (end - begin) * (width - start) - tokens <= 512 + 0.1 * tokens


def test_like_rows_stay_together_and_unlike_ones_part() -> None:
    assert row_spans([7, 0, 3], 100) == [(0, 3, 0)]
    assert row_spans([0, 0, 900, 900, 880], 1000) == [(0, 2, 0), (2, 5, 880)]
    assert row_spans([5], 6) == [(0, 1, 5)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_computes_what_sdpa_does(dtype: torch.dtype) -> None:
    rng = torch.Generator().manual_seed(3)
    pads, width = [0, 4, 300, 310, 690, 0], 700
    query = torch.randn(6, 6, 1, 32, generator=rng).to(dtype)
    key, value = (torch.randn(6, 2, 1024, 32, generator=rng).to(dtype)[:, :, :width] for _ in range(2))
    mask = (torch.arange(width)[None, :] >= torch.tensor(pads)[:, None])[:, None, None, :]
    spans = row_spans(pads, width)
    assert len(spans) > 2
    ours, _ = AttentionInterface()[NAME](Layer(), query, key, value, mask, scaling=0.2, row_spans=spans)
    theirs, _ = sdpa_attention_forward(Layer(), query, key, value, mask, scaling=0.2)
    assert ours.shape == theirs.shape == (6, 1, 6, 32)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6 if dtype == torch.float32 else 1e-2)


def test_padding_is_not_read() -> None:
    key = torch.zeros(2, 2, 2000, 8)
    key[1, :, :1500] = torch.nan
    spans = row_spans([0, 1500], 2000)
    mask = torch.ones(2, 1, 1, 2000, dtype=torch.bool)
    found, _ = AttentionInterface()[NAME](Layer(), torch.ones(2, 6, 1, 8), key, key, mask, row_spans=spans)
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("mode", ["merged", "mixed"])
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_unlike_lengths_decode_as_each_alone(tmp_path: Path, family: str, mode: str) -> None:
    """Two hundred and fifty tokens beside five, for which the rows attend apart."""
    pair = write_pair(tmp_path, seed=5, dtype="float32", vocab=64, arch=family)
    weights = load_weights(*pair, mode=mode)
    assert weights.takes_row_spans
    rng = torch.Generator().manual_seed(1)
    lengths = (250, 250, 250, 250, 5, 5, 5, 5)
    prompts = [torch.randint(0, 64, (length,), generator=rng).tolist() for length in lengths]
    loaded, values = LoadedModel.of(weights, ()), [Intensity(0.3)] * 8

    together = BatchInputs(loaded, values, [250 - length for length in lengths])
    together.forward([[0] * (250 - len(prompt)) + prompt for prompt in prompts], 1)
    found = together.forward([[7]] * 8, 1)
    assert len(row_spans([250 - length for length in lengths], 251)) == 2
    for row in (0, 4):
        alone = BatchInputs(loaded, values[:1], [0])
        alone.forward([prompts[row]], 1)
        torch.testing.assert_close(found[row : row + 1], alone.forward([[7]], 1), rtol=1e-4, atol=1e-5)
