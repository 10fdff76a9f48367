"""Prompts are read at one λ for replies at any: as a slow reference does it, and once for all λ."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest

from dami_agent.errors import Cancelled
from dami_agent.runtime import LocalEngine
from dami_agent.runtime.batch_inputs import LoadedModel
from dami_agent.runtime.batches import Batches
from dami_agent.types import Decision, Intensity
from dami_agent.weights import load_weights
from tests.runtime.support import Lab, ask, prompt_of

LAMBDAS = (0.0, 0.3, 0.8, 1.0)


def shared(intensity: float, prefix: float = 1.0, **limits: Any) -> Decision:
    return dataclasses.replace(ask(intensity, **limits), prefix_intensity=Intensity(prefix))


def ordinary(rng: random.Random, n: int) -> list[int]:
    return [rng.randrange(300) for _ in range(n)]


def chunked(engine: LocalEngine, tokens: int) -> LocalEngine:
    engine.load()
    model = engine.worker.model
    assert model is not None
    engine.worker.model = dataclasses.replace(model, chunk_tokens=tokens)
    return engine


@pytest.mark.parametrize("prefix", [1.0, 0.0, 0.6])
@pytest.mark.parametrize("mode", ["merged", "mixed"])
@pytest.mark.parametrize("chunk", [7, 512])
def test_replies_are_those_of_the_slow_reference(lab: Lab, mode: str, prefix: float, chunk: int) -> None:
    rng = random.Random(f"{mode} {prefix} {chunk}")
    prompts = [ordinary(rng, rng.choice((1, 2, 15, 16, 17, 40, 70))) for _ in range(10)]
    chosen = [rng.choice(LAMBDAS) for _ in prompts]
    with chunked(lab.engine(mode, eos_token_ids=[319], loop_rule=None), chunk) as engine:
        jobs = [
            engine.submit(prompt_of(text), shared(value, prefix, max_tokens=6))
            for text, value in zip(prompts, chosen, strict=True)
        ]
        outputs = [job.result(60) for job in jobs]
    for text, value, output in zip(prompts, chosen, outputs, strict=True):
        if len(text) == 1:
            lab.assert_greedy(value, text, output.token_ids)
        else:
            lab.assert_shared_greedy(prefix, value, text, output.token_ids)
        assert output.intensity == value
        assert output.prefix_intensity == prefix


def test_it_is_another_model_than_the_exact_one(lab: Lab) -> None:
    """The test bed can tell: at least one of twenty replies differs."""
    rng = random.Random(3)
    prompts = [prompt_of(ordinary(rng, 50)) for _ in range(20)]
    with lab.engine("mixed", eos_token_ids=[319], loop_rule=None) as engine:
        one = [engine.generate(prompt, shared(0.0, max_tokens=12)).token_ids for prompt in prompts]
        other = [engine.generate(prompt, ask(0.0, max_tokens=12)).token_ids for prompt in prompts]
    assert one != other


@pytest.mark.parametrize("mode", ["merged", "mixed"])
def test_a_prompt_is_read_once_for_all_lambdas(lab: Lab, mode: str) -> None:
    rng = random.Random(7)
    prompt = prompt_of(ordinary(rng, 100))
    with lab.engine(mode, eos_token_ids=[319], loop_rule=None) as engine:
        counts = [engine.generate(prompt, shared(value, max_tokens=2)).cached_tokens for value in (0.3, 0.8, 0.0, 1.0)]
        assert counts == [0, 96, 96, 96]
        assert engine.generate(prompt, ask(1.0, max_tokens=2)).cached_tokens == 96, "exact at the same λ: the same"
        assert engine.generate(prompt, ask(0.3, max_tokens=2)).cached_tokens == 0, "exact at another: not read yet"
        assert engine.generate(prompt, shared(0.8, 0.6, max_tokens=2)).cached_tokens == 0


@pytest.mark.parametrize("mode", ["merged", "mixed"])
def test_histories_with_random_lambdas_are_answered_as_without_a_cache(lab: Lab, mode: str) -> None:
    """Conversations that grow, fork and change λ and reading at every turn, several at a time."""
    rng = random.Random(mode)
    with lab.engine(mode, eos_token_ids=[319], loop_rule=None) as engine:
        histories = [ordinary(rng, rng.randrange(20, 60)) for _ in range(4)]
        cached = 0
        for _turn in range(4):
            chosen = [(rng.choice(LAMBDAS), rng.choice((None, 1.0, 1.0, 0.6))) for _ in histories]
            jobs = [
                engine.submit(
                    prompt_of(text),
                    ask(value, max_tokens=8) if prefix is None else shared(value, prefix, max_tokens=8),
                )
                for text, (value, prefix) in zip(histories, chosen, strict=True)
            ]
            for place, (job, (value, prefix)) in enumerate(zip(jobs, chosen, strict=True)):
                output = job.result(60)
                read_at = value if prefix is None else prefix
                lab.assert_shared_greedy(read_at, value, histories[place], output.token_ids)
                cached += output.cached_tokens
                kept = histories[place] if rng.random() < 0.7 else rng.choice(histories)
                histories[place] = [*kept, *output.token_ids, *ordinary(rng, rng.randrange(5, 30))]
    assert cached > 0


def test_a_prompt_of_one_token_leaves_nothing_wrong(lab: Lab) -> None:
    """Nothing of it is read at the shared λ, so nothing of its reply is kept as read there."""
    with lab.engine("mixed", eos_token_ids=[319], loop_rule=None) as engine:
        output = engine.generate(prompt_of([5]), shared(0.0, max_tokens=60))
        longer = [5, *output.token_ids, 7]
        found = engine.generate(prompt_of(longer), ask(1.0, max_tokens=4))
        assert found.cached_tokens == 0
        lab.assert_greedy(1.0, longer, found.token_ids)


def test_groups_that_are_read_at_another_lambda_keep_their_place_in_line(lab: Lab) -> None:
    batches = Batches(None)
    weights = load_weights(lab.instruct, lab.thinking, mode="merged")
    with lab.engine("merged") as engine:
        row = engine.sequence_of(prompt_of(range(5, 50)), shared(0.3))
    batches.read(LoadedModel(weights, None, 8), Intensity(0.3), [row])
    assert batches.reading == [0.3]
    batches.read_chunk(weights)
    assert weights.intensity == 1
    assert batches.reading == [0.3]
    while batches.reading:
        batches.read_chunk(weights)
    assert weights.intensity == 0.3
    assert batches.decoding == [0.3]


def test_a_reply_at_another_lambda_than_its_prompts_is_read_again(lab: Lab) -> None:
    """What a prompt is read as must not depend on what was asked before."""
    rng = random.Random(9)
    text = ordinary(rng, 64)
    with lab.engine("mixed", eos_token_ids=[319], loop_rule=None) as engine:
        for value, known in ((0.3, 64), (1.0, 96)):  # the prompt alone; prompt and reply, both read at 1
            output = engine.generate(prompt_of(text), shared(value, max_tokens=40))
            longer = [*text, *output.token_ids, 5]
            found = engine.generate(prompt_of(longer), shared(0.8, max_tokens=6))
            assert found.cached_tokens in (known - 16, known)
            lab.assert_shared_greedy(1.0, 0.8, longer, found.token_ids)


@pytest.mark.parametrize("mode", ["merged", "mixed"])
def test_preempted_rows_are_read_again_as_they_were(lab: Lab, mode: str) -> None:
    rng = random.Random(10)
    with lab.engine(mode, max_batch_tokens=220, eos_token_ids=[319], loop_rule=None) as engine:
        for _ in range(3):
            texts = [ordinary(rng, 60) for _ in range(3)]
            jobs = [engine.submit(prompt_of(text), shared(0.3, max_tokens=40)) for text in texts]
            for text, job in zip(texts, jobs, strict=True):
                output = job.result(60)
                assert output.output_tokens == 40
                lab.assert_shared_greedy(1.0, 0.3, text, output.token_ids)


def test_what_was_cancelled_leaves_nothing_wrong(lab: Lab) -> None:
    rng = random.Random(11)
    text = ordinary(rng, 80)
    with lab.engine("mixed", eos_token_ids=[319], loop_rule=None) as engine:
        job = engine.submit(prompt_of(text), shared(0.3, max_tokens=300))
        next(iter(job))
        job.cancel()
        with pytest.raises(Cancelled):
            job.result(10)
        output = engine.generate(prompt_of(text), shared(0.8, max_tokens=4))
    lab.assert_shared_greedy(1.0, 0.8, text, output.token_ids)
