"""Choosing tokens: transformers' own pipeline and plain loops are the references."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from dami_agent.errors import InvalidRequest
from dami_agent.runtime.sampling import RandomStream, choose, resolve_sampling, warper_key
from dami_agent.types import Sampling

FULL = Sampling(temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, repetition_penalty=1.0, seed=0)

samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([1e-30, 0.01, 0.3, 0.7, 1.0, 1.7, 50.0]),
    top_p=st.sampled_from([0.01, 0.3, 0.8, 0.95, 1.0]),
    top_k=st.sampled_from([0, 1, 5, 40, 2000]),
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    repetition_penalty=st.sampled_from([0.8, 1.0, 1.3]),
    seed=st.just(0),
)


def transformers_probabilities(sampling: Sampling, scores: torch.Tensor, seen: list[int]) -> torch.Tensor:
    """The distribution that transformers' own ``generate`` would draw from."""
    model = LlamaForCausalLM(
        LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=8)
    )
    config = GenerationConfig(
        do_sample=True,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p or None,
        repetition_penalty=sampling.repetition_penalty,
    )
    processors = model._get_logits_processor(generation_config=config, input_ids_seq_length=len(seen))
    return processors(torch.tensor([seen]), scores.clone()).softmax(-1)[0]


@settings(max_examples=60, deadline=None)
@given(samplings, st.integers(0, 10**6), st.integers(2, 300))
def test_distribution_is_that_of_generate(sampling: Sampling, seed: int, vocab: int) -> None:
    scores = torch.randn(1, vocab, generator=torch.Generator().manual_seed(seed)) * 4
    seen = [random.Random(seed).randrange(vocab) for _ in range(5)]
    expected = transformers_probabilities(
        replace(sampling, temperature=max(sampling.temperature or 0, 1e-5)), scores, seen
    )
    grid = [(i + 0.5) / 200 for i in range(200)]
    drawn = choose(scores.expand(200, -1), warper_key(sampling), grid, [seen] * 200)
    counts = torch.bincount(drawn, minlength=vocab) / 200
    assert (counts - expected).abs().max() <= 1 / 200 + 1e-4  # 200 even points of the inverse transform


@settings(max_examples=25, deadline=None)
@given(samplings, st.integers(0, 10**6), st.booleans())
def test_a_large_vocabulary_is_cut_to_candidates_without_a_difference(
    sampling: Sampling, seed: int, ties: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    small = torch.randn(1, 3000, generator=generator)
    if ties:  # up to 40 equal logits at the edge of the top k; top-p alone would cut between them as its sort falls
        small[0, torch.randint(3000, (40,), generator=generator)] = small.topk(sampling.top_k or 1).values[0, -1]
        sampling = replace(sampling, top_p=1.0, top_k=min(sampling.top_k or 0, 40))
    large = torch.cat([small, torch.full((1, 3000), -1e30)], dim=1)  # impossible tokens turn the shortcut on
    seen = [[1, 2, 3]] * 50
    points = torch.rand(50, generator=generator).tolist()
    key = warper_key(sampling)
    a, b = choose(small.expand(50, -1), key, points, seen), choose(large.expand(50, -1), key, points, seen)
    assert a.tolist() == b.tolist()


def test_never_an_impossible_token() -> None:
    scores = torch.full((3, 10), -torch.inf)
    scores[:, 4] = 0.0
    assert choose(scores, warper_key(FULL), [0.0, 0.5, 1 - 1e-16]).tolist() == [4, 4, 4]


def test_rows_do_not_see_each_other() -> None:
    scores = torch.randn(16, 200, generator=torch.Generator().manual_seed(3)) * 3
    points = [i / 16 for i in range(16)]
    key = warper_key(replace(FULL, temperature=0.8, top_p=0.9, top_k=30, repetition_penalty=1.2))
    seen = [list(range(i, 3 * i + 1)) for i in range(16)]
    together = choose(scores, key, points, seen).tolist()
    alone = [choose(scores[i : i + 1], key, [points[i]], [seen[i]]).item() for i in range(16)]
    assert together == alone


def test_greedy_is_the_best_token_whatever_the_filters() -> None:
    scores = torch.randn(4, 50, generator=torch.Generator().manual_seed(1))
    key = warper_key(Sampling(temperature=0.0, top_p=0.5, top_k=3))
    assert choose(scores, key, [0.9] * 4).tolist() == scores.argmax(-1).tolist()


def test_stream_is_its_seed_and_position() -> None:
    a, b = RandomStream(5), RandomStream(5)
    assert [a[i] for i in range(200)] == [b[i] for i in reversed(range(200))][::-1]
    assert RandomStream(6)[0] != a[0]
    assert all(0 <= a[i] < 1 for i in range(200))


def test_prompts_under_one_seed_draw_independently() -> None:
    first = torch.tensor([RandomStream(7, [number])[0] for number in range(2000)])
    assert abs(first.mean() - 0.5) < 0.03
    assert abs(first.std() - 12**-0.5) < 0.02
    assert RandomStream(7, [1, 2])[3] == RandomStream(7, (1, 2))[3] != RandomStream(7, [2, 1])[3]
    assert RandomStream(-(2**63), [5])[0] != RandomStream(2**64 - 1, [5])[0] != RandomStream(2**64 - 1, [6])[0]


def test_defaults_come_from_the_generation_config() -> None:
    config = {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20, "transformers_version": "4.51"}
    filled = resolve_sampling(Sampling(seed=3), config, 100)
    assert filled == Sampling(temperature=0.6, top_p=0.95, top_k=20, min_p=0.0, repetition_penalty=1.0, seed=3)
    assert resolve_sampling(Sampling(temperature=0.0, top_k=0), config, 100).top_p == 0.95
    assert resolve_sampling(Sampling(temperature=0.0, top_k=0), config, 100).top_k == 0
    assert resolve_sampling(Sampling(), {"do_sample": False, "temperature": 0.6}, 100).temperature == 0.0
    assert resolve_sampling(Sampling(), {}, 100).temperature == 0.0
    assert resolve_sampling(Sampling(), {"do_sample": True}, 100).temperature == 1.0
    seeds = {resolve_sampling(Sampling(), config, 100).seed for _ in range(5)}
    assert len(seeds) == 5
    assert None not in seeds


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("temperature", v) for v in (-0.1, float("nan"), float("inf"), "1", True)],
        *[("top_p", v) for v in (0.0, -1, 1.01, float("nan"))],
        *[("top_k", v) for v in (-1, 2.0, True)],
        *[("min_p", v) for v in (-0.1, 1.5)],
        *[("repetition_penalty", v) for v in (0.0, -2, float("inf"))],
        *[("seed", v) for v in (1.5, 2**64, "7")],
        *[("logprobs", v) for v in (-1, 101, 1.0)],
    ],
)
def test_what_makes_no_sense_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest, match=field):
        resolve_sampling(Sampling(**{field: value}), {}, 100)  # type: ignore[arg-type]
