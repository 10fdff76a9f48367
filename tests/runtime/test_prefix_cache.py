"""Prompts that begin as earlier ones did at the same λ are not read again, and nothing else changes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch

from dami_agent.errors import Cancelled
from dami_agent.runtime.batch_inputs import BatchInputs, LoadedModel
from dami_agent.runtime.prefix_cache import KeyValues, PrefixCache
from dami_agent.types import Intensity, Sampling
from dami_agent.weights import load_weights
from tests.runtime.support import Lab, ask, prompt_of

LOW, HIGH = Intensity(0.3), Intensity(0.8)


def ordinary(rng: random.Random, n: int) -> list[int]:
    return [rng.randrange(300) for _ in range(n)]


def layers(most: int, value: float = 0.0) -> Callable[[int], KeyValues]:
    def copy(tokens: int) -> KeyValues:
        assert tokens <= most
        return ((torch.full((2, tokens, 4), value), torch.full((2, tokens, 4), value)),)

    return copy


# --- the cache alone ---------------------------------------------------------------------------------------------


def test_the_longest_beginning_of_whole_blocks_is_found() -> None:
    cache, tokens = PrefixCache(1000), list(range(100))
    cache.keep(LOW, tokens, layers(100))
    assert cache.tokens == 96
    for length in range(1, 120):
        found = cache.find(LOW, [*tokens, *range(500, 520)][:length])
        expected = min((length - 1) // 16 * 16, 96)  # the last token is always read
        assert (found.length if found else 0) == expected
    other = [*tokens[:40], 999, *tokens[41:]]
    found = cache.find(LOW, other)
    assert found is not None
    assert found.length == 32


def test_another_lambda_finds_nothing() -> None:
    cache, tokens = PrefixCache(1000), list(range(50))
    cache.keep(LOW, tokens, layers(50))
    assert cache.find(Intensity(0.31), tokens) is None
    assert cache.find(HIGH, tokens) is None
    assert cache.find(LOW, tokens) is not None


def test_a_longer_sequence_takes_the_place_of_its_beginning() -> None:
    cache, tokens = PrefixCache(1000), list(range(200))
    cache.keep(LOW, tokens[:64], layers(64, 1.0))
    cache.keep(LOW, tokens[:130], layers(130, 2.0))
    assert cache.tokens == 128
    found = cache.find(LOW, tokens[:60])
    assert found is not None
    assert found.length == 48
    assert found.layers[0][0].max() == 2.0
    cache.keep(LOW, tokens[:64], layers(64, 3.0))  # known already
    assert cache.tokens == 128


def test_two_that_part_are_both_kept() -> None:
    cache, rng = PrefixCache(1000), random.Random(1)
    first = ordinary(rng, 80)
    second = [*first[:48], *ordinary(rng, 48)]
    cache.keep(LOW, first, layers(80, 1.0))
    cache.keep(LOW, second, layers(96, 2.0))
    for tokens, value, length in ((first, 1.0, 64), (second, 2.0, 80)):
        found = cache.find(LOW, tokens)
        assert found is not None
        assert (found.length, float(found.layers[0][0].max())) == (length, value)


def test_what_is_given_up_takes_nothing_from_those_that_begin_alike() -> None:
    """Agents share a preamble: the one that leaves must not hide what another has kept of it."""
    rng, cache = random.Random(4), PrefixCache(96)
    preamble = ordinary(rng, 32)
    stays, leaves = ([*preamble, *ordinary(rng, 16)] for _ in range(2))
    cache.keep(LOW, stays, layers(48, 1.0))
    cache.keep(LOW, leaves, layers(48, 2.0))
    assert cache.find(LOW, [*stays, 1]) is not None
    cache.keep(LOW, ordinary(rng, 48), layers(48, 3.0))
    for text, length in ((stays, 48), (leaves, 32)):
        found = cache.find(LOW, [*text, 1])
        assert found is not None
        assert (found.length, float(found.layers[0][0].max())) == (length, 1.0)


def test_nothing_is_copied_that_is_not_kept() -> None:
    def copy(tokens: int) -> KeyValues:
        raise AssertionError(tokens)

    tokens = list(range(40))
    PrefixCache(0).keep(LOW, tokens, copy)
    PrefixCache(31).keep(LOW, tokens, copy)
    cache = PrefixCache(100)
    cache.keep(LOW, tokens, layers(40))
    cache.keep(LOW, tokens[:35], copy)
    cache.keep(LOW, tokens[:15], copy)
    assert cache.tokens == 32


@pytest.mark.parametrize("most", [0, 15, 64, 200])
def test_the_bound_holds_and_the_least_recently_used_goes_first(most: int) -> None:
    cache, rng = PrefixCache(most), random.Random(2)
    texts = [ordinary(rng, 40) for _ in range(12)]
    for text in texts:
        cache.keep(LOW, text, layers(40))
        cache.find(LOW, texts[0])
        assert cache.tokens <= most
    left = [cache.find(LOW, text) is not None for text in texts]
    assert sum(left) == most // 32
    if most // 32 > 1:
        assert left[0]
    cache.clear()
    assert cache.tokens == 0
    assert not any(cache.find(LOW, text) for text in texts)


def test_equal_hashes_of_other_tokens_are_no_match(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dami_agent.runtime.prefix_cache.hash", lambda _: 7, raising=False)
    cache, rng = PrefixCache(1000), random.Random(3)
    first, second = ordinary(rng, 40), ordinary(rng, 40)
    cache.keep(LOW, first, layers(40))
    cache.keep(HIGH, second, layers(40))
    for at, text in ((LOW, second), (HIGH, first)):
        assert cache.find(at, text) is None
    assert cache.tokens <= 64


# --- in the engine -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["merged", "mixed"])
def test_logits_after_a_prefix_equal_those_of_one_pass(lab: Lab, mode: str) -> None:
    weights = load_weights(lab.instruct, lab.thinking, mode=mode)  # type: ignore[arg-type]
    model, rng = LoadedModel(weights, None, 512), random.Random(5)
    texts = [ordinary(rng, n) for n in (70, 64, 90)]
    cache = PrefixCache(1000)
    for text in texts[:2]:
        alone = BatchInputs(model, [LOW], [0])
        alone.forward([text[:50]], 1)
        cache.keep(LOW, text[:50], partial(alone.copy_row, 0))
    pads = [90 - len(text) for text in texts]
    ids = [[0] * pad + text for pad, text in zip(pads, texts, strict=True)]
    whole = BatchInputs(model, [LOW] * 3, pads).forward(ids, 1)[:, -1]
    prefixes = [cache.find(LOW, text) for text in texts]
    assert [prefix.length if prefix else 0 for prefix in prefixes] == [48, 48, 0]
    for rows in ([0, 1], [0], [1]):
        width = min(pads[i] + 48 for i in rows)
        begun = BatchInputs(model, [LOW] * len(rows), [pads[i] for i in rows])
        begun.begin([prefixes[i] for i in rows], width)
        last = begun.forward([ids[i][width:] for i in rows], 1)[:, -1]
        assert (last - whole[rows]).abs().max() < 1e-4


@pytest.mark.parametrize("mode", ["merged", "mixed"])
def test_random_histories_at_random_lambdas_are_answered_as_without_it(lab: Lab, mode: str) -> None:
    """Conversations that grow, fork and change λ at every turn, several at a time, against the reference model."""
    rng = random.Random(mode)
    at = (0.0, 0.3, 0.8)
    with lab.engine(mode, eos_token_ids=[319], loop_rule=None) as engine:
        histories = [ordinary(rng, rng.randrange(20, 60)) for _ in range(4)]
        cached = 0
        for _turn in range(4):
            chosen = [rng.choice(at) for _ in histories]
            jobs = [
                engine.submit(prompt_of(text), ask(value, max_tokens=8))
                for text, value in zip(histories, chosen, strict=True)
            ]
            for place, (job, value) in enumerate(zip(jobs, chosen, strict=True)):
                output = job.result(60)
                lab.assert_greedy(value, histories[place], output.token_ids)
                assert output.cached_tokens < output.prompt_tokens == len(histories[place])
                cached += output.cached_tokens
                kept = histories[place] if rng.random() < 0.7 else rng.choice(histories)  # some fork
                histories[place] = [*kept, *output.token_ids, *ordinary(rng, rng.randrange(5, 30))]
    assert cached > 0


def test_a_prompt_is_read_once_for_each_lambda(lab: Lab) -> None:
    rng = random.Random(7)
    prompt = prompt_of(ordinary(rng, 100))
    with lab.engine("mixed", eos_token_ids=[319]) as engine:
        counts = [
            engine.generate(prompt, ask(value, max_tokens=2)).cached_tokens for value in (0.3, 0.3, 0.8, 0.8, 0.3)
        ]
    assert counts == [0, 96, 0, 96, 96]
    with lab.engine("mixed", eos_token_ids=[319], prefix_tokens=0) as engine:
        assert [engine.generate(prompt, ask(0.3, max_tokens=2)).cached_tokens for _ in range(2)] == [0, 0]


def test_sampled_replies_are_the_same_with_and_without_it(lab: Lab) -> None:
    rng = random.Random(8)
    prompts = [prompt_of(ordinary(rng, 60)) for _ in range(3)]
    sampling = Sampling(temperature=0.8, top_p=0.9, top_k=0, seed=5)
    found = []
    for kept in (0, 1000):
        with lab.engine("mixed", prefix_tokens=kept) as engine:
            decision = ask(0.5, sampling=sampling, max_tokens=12)
            found.append([engine.generate(p, decision).token_ids for _ in range(2) for p in prompts])
    assert found[0] == found[1]


def test_what_was_cancelled_is_not_kept(lab: Lab) -> None:
    rng = random.Random(9)
    prompt = prompt_of(ordinary(rng, 80))
    with lab.engine("mixed", eos_token_ids=[319], loop_rule=None) as engine:
        job = engine.submit(prompt, ask(0.3, max_tokens=300))
        next(iter(job))
        job.cancel()
        with pytest.raises(Cancelled):
            job.result(10)
        output = engine.generate(prompt, ask(0.3, max_tokens=4))
        assert output.cached_tokens == 0
        lab.assert_greedy(0.3, prompt.token_ids, output.token_ids)


def test_kept_prefixes_give_way_to_requests(lab: Lab) -> None:
    """What is kept counts within the cache's bound of 300 positions, of which every round needs 260."""
    rng = random.Random(10)
    with lab.engine("mixed", max_batch_tokens=300, eos_token_ids=[319], loop_rule=None) as engine:
        for _ in range(6):
            texts = [ordinary(rng, 100) for _ in range(2)]
            jobs = [engine.submit(prompt_of(text), ask(0.5, max_tokens=30)) for text in texts]
            for text, job in zip(texts, jobs, strict=True):
                output = job.result(60)
                assert output.output_tokens == 30
                lab.assert_greedy(0.5, text, output.token_ids)


def test_rows_read_in_chunks_begin_after_their_prefix(lab: Lab) -> None:
    rng = random.Random(11)
    text = ordinary(rng, 120)
    with lab.engine("mixed", eos_token_ids=[319], loop_rule=None) as engine:
        engine.load()
        model = engine.worker.model
        assert model is not None
        engine.worker.model = replace(model, chunk_tokens=16)
        engine.generate(prompt_of(text[:70]), ask(0.3, max_tokens=1))
        longer, fresh = [*text], ordinary(rng, 110)
        jobs = [engine.submit(prompt_of(each), ask(0.3, max_tokens=6)) for each in (longer, fresh)]
        outputs = [job.result(60) for job in jobs]
        for each, output in zip((longer, fresh), outputs, strict=True):
            lab.assert_greedy(0.3, each, output.token_ids)
        assert [output.cached_tokens for output in outputs] == [64, 0]


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), MemoryError()])
def test_no_request_suffers_where_there_is_no_memory_to_keep_one(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(self: BatchInputs, row: int, tokens: int) -> None:
        raise error

    rng = random.Random(12)
    texts = [ordinary(rng, 60) for _ in range(3)]
    with lab.engine("mixed", eos_token_ids=[319], loop_rule=None) as engine:
        engine.generate(prompt_of(texts[0]), ask(0.3, max_tokens=1))
        monkeypatch.setattr(BatchInputs, "copy_row", full)
        jobs = [
            engine.submit(prompt_of(text), ask(0.3, max_tokens=n)) for text, n in zip(texts, (2, 9, 14), strict=True)
        ]
        outputs = [job.result(60) for job in jobs]
    for text, output in zip(texts, outputs, strict=True):
        lab.assert_greedy(0.3, text, output.token_ids)
    assert [output.output_tokens for output in outputs] == [2, 9, 14]
