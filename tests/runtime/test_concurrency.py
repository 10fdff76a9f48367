"""Many callers at once: each result equals the same request alone (rules 2 and 3 of docs/architecture.md)."""

from __future__ import annotations

import asyncio
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from dami_agent.errors import Cancelled, DeadlineExceeded
from dami_agent.runtime import LocalEngine
from dami_agent.types import Decision, Generation, Prompt, Sampling
from tests.runtime.scripted import ScriptedWeights
from tests.runtime.support import GREEDY, Lab, ask, prompt_of

LAMBDAS = (0.0, 0.25, 0.5, 0.75, 1.0)


def requests(rng: random.Random, n: int) -> list[tuple[Prompt, Decision]]:
    made = []
    for _ in range(n):
        sampling = GREEDY
        if rng.random() < 0.5:
            sampling = Sampling(
                temperature=rng.choice((0.6, 1.0, 1.4)),
                top_p=rng.choice((1.0, 0.9)),
                top_k=rng.choice((0, 20)),
                repetition_penalty=rng.choice((1.0, 1.1)),
                seed=rng.randrange(10**9),
            )
        prompt = prompt_of(
            [rng.randrange(300) for _ in range(rng.choice((2, 15, 60, 150)))], in_thought=rng.random() < 0.5
        )
        decision = ask(
            rng.choice(LAMBDAS),
            sampling=sampling,
            max_tokens=rng.randint(1, 16),
            max_reasoning_tokens=rng.choice((None, 0, 7)),
        )
        made.append((prompt, decision))
    return made


def assert_same(lab: Lab, a: Generation, b: Generation, prompt: Prompt) -> None:
    """Equal, or parted at a token where the two best logits (greedy) are closer than 1e-3."""
    if a.token_ids == b.token_ids:
        assert replace(a, timing=b.timing, weights_version=0, cached_tokens=b.cached_tokens) == replace(
            b, weights_version=0
        )
        return
    assert a.sampling.temperature == 0.0, "sampled tokens differ"
    lab.assert_near_tie(float(a.intensity), prompt.token_ids, a.token_ids, b.token_ids)


@pytest.mark.parametrize("mode", ["merged", "mixed"])
def test_sixteen_threads_of_mixed_intensity(lab: Lab, mode: str) -> None:
    work = requests(random.Random(21), 36)
    with lab.engine(mode) as engine:
        alone = [engine.generate(*request) for request in work]
    with lab.engine(mode, max_batch_size=17) as engine, ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda request: engine.generate(*request), work))
    for (prompt, _), a, b in zip(work, alone, together, strict=True):
        assert_same(lab, a, b, prompt)


def test_merged_and_mixed_agree(lab: Lab) -> None:
    work = requests(random.Random(22), 16)
    with lab.engine("merged") as merged, lab.engine("mixed") as mixed:
        jobs = [(merged.submit(*request), mixed.submit(*request)) for request in work]
        for (prompt, _), (a, b) in zip(work, jobs, strict=True):
            assert_same(lab, replace(a.result(), weights_mode="mixed"), b.result(), prompt)


async def test_asyncio_callers(lab: Lab, engine: LocalEngine) -> None:
    work = requests(random.Random(23), 16)
    alone = [await asyncio.to_thread(engine.generate, *request) for request in work]
    together = await asyncio.gather(*(asyncio.to_thread(engine.generate, *request) for request in work))
    for (prompt, _), a, b in zip(work, alone, together, strict=True):
        assert_same(lab, a, b, prompt)


def test_latecomers_join_a_running_batch(lab: Lab) -> None:
    with lab.engine("mixed", loop_rule=None, eos_token_ids=[319]) as engine:
        long = engine.submit(prompt_of([5] * 10), ask(0.5, max_tokens=300))
        next(iter(long))
        for at in LAMBDAS:
            lab.assert_greedy(at, [7] * 5, engine.generate(prompt_of([7] * 5), ask(at, max_tokens=3)).token_ids)
        lab.assert_greedy(0.5, [5] * 10, long.result(60).token_ids)


def test_an_endless_request_makes_nobody_wait_for_its_end(lab: Lab) -> None:
    with lab.engine(weights=ScriptedWeights(lambda _: 7), context_length=10**6, loop_rule=None) as engine:
        endless = engine.submit(prompt_of([5] * 10), ask())
        next(iter(endless))
        for length in (3, 50, 5000):  # the last is too long to share a rectangle with the others
            assert engine.generate(prompt_of([7] * length), ask(max_tokens=3)).output_tokens == 3
        assert not endless.done
        endless.cancel()


@pytest.mark.parametrize("mode", ["merged", "mixed"])
def test_comings_and_goings(lab: Lab, mode: str) -> None:
    """Requests cancelled and expired at any moment: what they leave is a beginning of the whole."""
    rng = random.Random(25)
    work = requests(rng, 40)
    with lab.engine(mode) as engine:
        whole = [job.result(120).token_ids for job in [engine.submit(*request) for request in work]]

    def one(i: int) -> tuple[int, ...]:
        local = random.Random(i)
        prompt, decision = work[i]
        if i % 4 == 1:
            limits = replace(decision.limits, timeout=local.uniform(0.0, 0.1))
            decision = replace(decision, limits=limits)
        job = engine.submit(prompt, decision)
        if i % 4 == 0:
            for _ in zip(range(local.randint(0, 4)), job, strict=False):
                pass
            job.cancel()
        try:
            return job.result(120).token_ids
        except (Cancelled, DeadlineExceeded) as error:
            return error.generation.token_ids if error.generation is not None else (-1,)

    with lab.engine(mode, max_batch_size=9, max_batch_tokens=600) as engine:
        with ThreadPoolExecutor(10) as pool:
            results = list(pool.map(one, range(len(work))))
        for i, ((prompt, decision), result) in enumerate(zip(work, results, strict=True)):
            if i % 4 > 1:
                assert len(result) == len(whole[i])
            if result != whole[i][: len(result)]:
                assert decision.sampling.temperature == 0.0, "sampled tokens differ"
                lab.assert_near_tie(decision.intensity, prompt.token_ids, result, whole[i])
        assert engine.generate(prompt_of([1, 2, 3]), ask(max_tokens=2)).output_tokens == 2


def test_no_intensity_starves_in_merged_mode(lab: Lab) -> None:
    """While one λ is kept busy without end, requests of other λs come through."""
    stop = threading.Event()
    with lab.engine("merged", loop_rule=None, eos_token_ids=[319]) as engine, ThreadPoolExecutor(4) as pool:

        def keep_busy() -> None:
            while not stop.is_set():
                engine.generate(prompt_of([9] * 5), ask(0.0, max_tokens=200))

        busy = [pool.submit(keep_busy) for _ in range(3)]
        try:
            for at in (0.4, 0.6, 1.0):
                assert engine.submit(prompt_of([9] * 5), ask(at, max_tokens=5)).result(60).intensity == at
        finally:
            stop.set()
        for future in busy:
            future.result(60)


def test_scores_among_generations(lab: Lab, engine: LocalEngine) -> None:
    rng = random.Random(24)
    jobs = [engine.submit(*request) for request in requests(rng, 12)]
    asked = [([rng.randrange(300) for _ in range(rng.randint(1, 80))], rng.choice(LAMBDAS)) for _ in range(12)]
    with ThreadPoolExecutor(8) as pool:
        scores = list(pool.map(lambda a: engine.score(prompt_of(a[0]), [1, 2, 3], a[1]), asked))  # type: ignore[arg-type]
    for (tokens, at), score in zip(asked, scores, strict=True):
        rows = lab.logits(at, [*tokens, 1, 2, 3]).log_softmax(-1)
        assert score == pytest.approx([float(rows[len(tokens) + i - 1, t]) for i, t in enumerate((1, 2, 3))], abs=1e-4)
    for job in jobs:
        job.result(60)
