"""Prompts are read in chunks between decode steps: nobody waits long, and nothing else changes."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch

from dami_agent.errors import Cancelled, DeadlineExceeded
from dami_agent.runtime import LocalEngine
from dami_agent.runtime.batch_inputs import BatchInputs, LoadedModel
from dami_agent.runtime.prefill import Prefill
from dami_agent.runtime.prefix_cache import PrefixCache
from dami_agent.types import Decision, Intensity, Sampling, TokenEvent
from dami_agent.weights import load_weights
from tests.runtime.scripted import ScriptedWeights
from tests.runtime.support import GREEDY, Lab, ask, prompt_of

CHUNK = 32


def chunked(engine: LocalEngine, tokens: int) -> LocalEngine:
    """The same engine, reading so many tokens a chunk."""
    engine.load()
    model = engine.worker.model
    assert model is not None
    engine.worker.model = replace(model, chunk_tokens=tokens)
    return engine


def ordinary(rng: random.Random, n: int) -> list[int]:
    return [rng.randrange(300) for _ in range(n)]


@pytest.mark.parametrize("mode", ["merged", "mixed"])
@pytest.mark.parametrize("tokens", [7, 64])
def test_logits_equal_those_of_one_pass(lab: Lab, mode: str, tokens: int) -> None:
    """In fp32 the logits after the prompt are those of an unchunked prefill, whatever the chunks and the padding."""
    weights = load_weights(lab.instruct, lab.thinking, mode=mode)  # type: ignore[arg-type]
    rng = random.Random(tokens)
    texts = [ordinary(rng, n) for n in (90, 61, 88)]
    at = [Intensity(0.3)] * 3 if mode == "merged" else [Intensity(x) for x in (0.0, 0.3, 1.0)]

    def logits(chunk: int) -> torch.Tensor:
        passes = BatchInputs(LoadedModel(weights, None, chunk), at, [90 - len(t) for t in texts])
        ids = [[0] * (90 - len(t)) + t for t in texts]
        for start in range(0, 90, chunk):
            last = passes.forward([row[start : start + chunk] for row in ids], 1)
        return last[:, -1]

    whole = logits(90)
    assert (logits(tokens) - whole).abs().max() < 1e-4
    for i, text in enumerate(texts):
        assert (whole[i] - lab.logits(float(at[i]), text)[-1]).abs().max() < 1e-4


@pytest.mark.parametrize("mode", ["merged", "mixed"])
def test_replies_equal_those_of_unchunked_prefill(lab: Lab, mode: str) -> None:
    rng = random.Random(71)
    work: list[tuple[Any, Decision]] = []
    for i in range(12):
        sampling = GREEDY if i % 2 else Sampling(temperature=1.0, top_p=0.9, top_k=20, seed=i)
        prompt = prompt_of(ordinary(rng, rng.choice((2, 30, 130))), in_thought=i % 3 == 0)
        work.append((prompt, ask(rng.choice((0.0, 0.5, 1.0)), sampling=sampling, max_tokens=rng.randint(1, 12))))
    with chunked(lab.engine(mode), 10**6) as engine:
        whole = [engine.generate(*request) for request in work]
    with chunked(lab.engine(mode), CHUNK) as engine:
        together = [job.result(60) for job in [engine.submit(*request) for request in work]]
    for (prompt, decision), a, b in zip(work, whole, together, strict=True):
        if a.token_ids != b.token_ids:
            assert decision.sampling.temperature == 0.0, "sampled tokens differ"
            lab.assert_near_tie(float(decision.intensity), prompt.token_ids, a.token_ids, b.token_ids)
        assert a.finish_reason == b.finish_reason


class Steps(ScriptedWeights):
    """Scripted weights that keep the shape of every pass: (rows, columns)."""

    def __init__(self, **options: Any) -> None:
        super().__init__(lambda _: 7, **options)
        self.shapes: list[tuple[int, int]] = []

    def _forward(self, *, input_ids: torch.Tensor | None = None, **options: Any) -> Any:
        assert input_ids is not None
        self.shapes.append((input_ids.shape[0], input_ids.shape[1]))
        return super()._forward(**options)


def test_rows_that_decode_get_their_tokens_between_chunks(lab: Lab) -> None:
    weights = Steps()
    with chunked(lab.engine(weights=weights, context_length=10**6, loop_rule=None), CHUNK) as engine:
        running = iter(engine.submit(prompt_of([1, 2]), ask()))
        next(running)
        engine.generate(prompt_of([5] * 3200), ask(max_tokens=1))
    columns = [shape[1] for shape in weights.shapes]
    chunks = [i for i, n in enumerate(columns) if n == CHUNK]
    assert len(chunks) == 100
    assert all(b > a + 1 for a, b in itertools.pairwise(chunks))  # a step, at least, between any two


def test_a_short_request_passes_long_prompts(lab: Lab) -> None:
    """It comes when eight long prompts are being read, and has its answer when most of them is still to be read."""
    weights, reached, go = Steps(before=lambda: gate()), threading.Event(), threading.Event()

    def gate() -> None:
        if len(weights.shapes) == 5:
            reached.set()
            assert go.wait(30)

    with chunked(lab.engine(weights=weights, context_length=10**6, loop_rule=None), 8 * CHUNK) as engine:
        longs = [engine.submit(prompt_of([5] * 6400), ask(max_tokens=1)) for _ in range(8)]
        assert reached.wait(30)
        short = engine.submit(prompt_of([1, 2, 3]), ask(max_tokens=8))
        go.set()
        assert short.result(30).output_tokens == 8
        for job in longs:
            job.result(60)
    # What was read by its last step, not by the time at which this thread hears of it.
    last = max(place for place, (_, columns) in enumerate(weights.shapes) if columns != CHUNK)
    read = sum(rows * columns for rows, columns in weights.shapes[:last] if columns == CHUNK)
    assert read < 8 * 6400 / 2
    assert sum(columns != CHUNK for _, columns in weights.shapes) == 8  # its prompt, and seven steps of its own


def test_scores_do_not_stop_a_stream(lab: Lab) -> None:
    weights = Steps()
    with chunked(lab.engine(weights=weights, context_length=10**6, loop_rule=None), CHUNK) as engine:
        running = iter(engine.submit(prompt_of([1, 2]), ask()))
        next(running)
        assert len(engine.score(prompt_of([5] * 1600), [7] * 400, Intensity(0))) == 400
    columns = [shape[1] for shape in weights.shapes]
    chunks = [i for i, n in enumerate(columns) if n > 1]
    assert len(chunks) >= 60
    assert all(b > a + 1 for a, b in itertools.pairwise(chunks))


@pytest.mark.parametrize("how", ["cancel", "timeout", "close"])
def test_what_ends_while_it_is_read_is_read_no_further(lab: Lab, how: str) -> None:
    weights = Steps(before=lambda: step())
    reached = threading.Event()

    def step() -> None:
        if len(weights.shapes) >= 5:
            reached.set()
            threading.Event().wait(0.005)

    with chunked(lab.engine(weights=weights, context_length=10**6), CHUNK) as engine:
        job = engine.submit(prompt_of([5] * 64000), ask(max_tokens=1, timeout=0.1 if how == "timeout" else None))
        assert reached.wait(30)
        if how == "cancel":
            job.cancel()
        if how == "close":
            engine.close()
        else:
            with pytest.raises((Cancelled, DeadlineExceeded)):
                job.result(30)
            assert engine.generate(prompt_of([1, 2]), ask(max_tokens=2)).output_tokens == 2
        assert len(weights.shapes) < 1000
        assert job.done


def test_rows_that_end_leave_the_others_as_they_are(lab: Lab) -> None:
    """The longest row ends in mid-prefill; before and after the others' first token was read."""
    weights = load_weights(lab.instruct, lab.thinking, mode="mixed")
    model = LoadedModel(weights, None, 60)
    for chunks in (0, 1, 3, 4):
        with lab.engine("mixed") as engine:
            rng = random.Random(chunks)
            texts = [ordinary(rng, n) for n in (100, 70, 64)]
            rows = [engine.sequence_of(prompt_of(t), ask(0.5, max_tokens=1)) for t in texts]
        prefill = Prefill(model, None, rows, PrefixCache(0))
        for _ in range(chunks):
            prefill.advance()
        rows[0].job.cancel()
        while not prefill.finished:
            prefill.advance()
        assert prefill.rows == rows[1:]
        assert prefill.cache_tokens == 2 * 70
        for text, row in zip(texts[1:], rows[1:], strict=True):
            output = row.job.result(0)
            lab.assert_greedy(0.5, text, output.token_ids)


def test_reading_shares_the_cache_bound(lab: Lab) -> None:
    """Prompts in mid-read count in full, and are read again if older rows need their place."""
    rng = random.Random(8)
    texts = [ordinary(rng, n) for n in (60, 100, 100, 40, 90)]
    with chunked(lab.engine("mixed", max_batch_tokens=230, eos_token_ids=[319], loop_rule=None), 16) as engine:
        jobs = [engine.submit(prompt_of(text), ask(0.5, max_tokens=30)) for text in texts]
        for text, job in zip(texts, jobs, strict=True):
            output = job.result(60)
            assert output.output_tokens == 30
            lab.assert_greedy(0.5, text, output.token_ids)


class Answers:
    """Callers of one λ each, who ask again as soon as they have their answer."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine
        self.stop = threading.Event()

    def keep_asking(self, at: float) -> int:
        answers = 0
        while not self.stop.is_set():
            self._engine.generate(prompt_of([9] * 5), ask(at, max_tokens=3))
            answers += 1
        return answers


def test_eight_intensities_get_alike_many_answers(lab: Lab) -> None:
    """Merged mode, two callers each: one λ got 2 answers where the others got 90."""
    with lab.engine("merged", loop_rule=None, eos_token_ids=[319]) as engine, ThreadPoolExecutor(17) as pool:
        engine.load()
        callers = Answers(engine)
        timer = threading.Timer(2.0, callers.stop.set)
        lambdas = [i / 7 for i in range(8)]
        counts = [pool.submit(callers.keep_asking, at) for at in lambdas for _ in range(2)]
        timer.start()
        answers = [a.result(60) + b.result(60) for a, b in zip(counts[::2], counts[1::2], strict=True)]
    assert min(answers) >= 4
    assert max(answers) <= 3 * min(answers)


def test_events_come_in_order_while_others_are_read(lab: Lab) -> None:
    with chunked(lab.engine("mixed", eos_token_ids=[319], loop_rule=None), 16) as engine:
        stream = engine.submit(prompt_of([5] * 10), ask(0.5, max_tokens=60))
        events: Sequence[TokenEvent] = []
        others = [engine.submit(prompt_of([i + 3] * 200), ask(1.0, max_tokens=2)) for i in range(4)]
        events = list(stream)
        assert len(events) == 60
        lab.assert_greedy(0.5, [5] * 10, [e.token_id for e in events])
        for job in others:
            job.result(60)
