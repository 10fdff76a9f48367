"""Every request says how many tokens of its prompt were kept, read at another λ, and had to be read again."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest
import torch

from dami_agent.errors import Cancelled
from dami_agent.runtime import LocalEngine
from dami_agent.runtime.batch_inputs import LoadedModel
from dami_agent.runtime.batches import Batches
from dami_agent.runtime.prefix_cache import KeyValues, PrefixCache
from dami_agent.runtime.sequence import SequenceState
from dami_agent.types import Decision, Intensity
from dami_agent.weights import load_weights
from dami_agent.weights.base import Weights
from tests.runtime.support import Lab, ask, prompt_of

LAMBDAS = (0.0, 0.3, 0.8)


def ordinary(rng: random.Random, n: int) -> list[int]:
    return [rng.randrange(300) for _ in range(n)]


def blocks(tokens: int) -> int:
    """Prefixes end at multiples of sixteen."""
    return tokens // 16 * 16


def in_common(one: list[int], other: list[int]) -> int:
    """Compare token by token: the reference of what hashes find."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


@dataclass
class Plain:
    """Keeps sequences in a list, the least recently used first, each with its λ and a number that counts up."""

    most: int
    kept: list[tuple[int, float, list[int]]] = field(default_factory=list)
    count: int = 0

    def lengths(self, prompt: list[int]) -> dict[float, int]:
        found: dict[float, int] = {}
        for _, value, tokens in self.kept:
            found[value] = max(found.get(value, 0), blocks(in_common(tokens, prompt[:-1])))
        return found

    def reread(self, value: float, prompt: list[int]) -> int:
        found = self.lengths(prompt)
        return max(0, max(found.values(), default=0) - found.get(value, 0))

    def find(self, value: float, prompt: list[int]) -> int:
        length = self.lengths(prompt).get(value, 0)
        if length:
            alike = [each for each in self.kept if each[1] == value and each[2][:length] == prompt[:length]]
            self.kept.remove(used := min(alike))
            self.kept.append(used)
        return length

    def keep(self, value: float, tokens: list[int]) -> None:
        tokens = tokens[: blocks(len(tokens))]
        known = any(each[1] == value and each[2][: len(tokens)] == tokens for each in self.kept)
        if not 0 < len(tokens) <= self.most or known:
            return
        self.kept = [each for each in self.kept if each[1] != value or tokens[: len(each[2])] != each[2]]
        self.count += 1
        self.kept.append((self.count, value, tokens))
        while sum(len(each[2]) for each in self.kept) > self.most:
            self.kept.pop(0)


def layers(tokens: int) -> KeyValues:
    return ((torch.zeros(1, tokens, 1), torch.zeros(1, tokens, 1)),)


@pytest.mark.parametrize("most", [64, 300, 10**6])
def test_the_cache_counts_as_a_list_of_all_that_is_kept(most: int) -> None:
    for seed in range(40):
        rng = random.Random(seed)
        cache, plain = PrefixCache(most), Plain(most)
        texts = [ordinary(rng, rng.randrange(1, 90))]
        counted = 0
        for _ in range(60):
            base = rng.choice(texts)
            text = [*base[: rng.randrange(1, len(base) + 1)], *ordinary(rng, rng.randrange(60))][:200]
            texts.append(text)
            value = rng.choice(LAMBDAS)
            assert cache.count_reread(Intensity(value), text) == plain.reread(value, text)
            found = cache.find(Intensity(value), text)
            assert (found.length if found else 0) == plain.find(value, text)
            counted += plain.reread(value, text)
            if rng.random() < 0.6:
                cache.keep(Intensity(value), text, layers)
                plain.keep(value, text)
            assert cache.tokens == sum(len(each[2]) for each in plain.kept) <= most
        assert counted > 0


# --- in the engine -----------------------------------------------------------------------------------------------


def decided(value: float, prefix: float | None, max_tokens: int) -> Decision:
    return replace(ask(value, max_tokens=max_tokens), prefix_intensity=None if prefix is None else Intensity(prefix))


def chunked(engine: LocalEngine, tokens: int) -> LocalEngine:
    engine.load()
    model = engine.worker.model
    assert model is not None
    engine.worker.model = replace(model, chunk_tokens=tokens)
    return engine


@pytest.mark.parametrize("mode", ["merged", "mixed"])
@pytest.mark.parametrize("chunk", [16, 512])
def test_random_histories_count_what_was_kept_at_another_lambda(lab: Lab, mode: str, chunk: int) -> None:
    """Conversations that grow, fork and change λ and reading at every turn, four at a time."""
    rng, plain, counted = random.Random(f"{mode} {chunk}"), Plain(10**6), 0
    options = {"eos_token_ids": [319], "loop_rule": None, "prefix_tokens": 10**6}
    with chunked(lab.engine(mode, **options), chunk) as engine:
        histories = [[ordinary(rng, rng.randrange(20, 60))] for _ in range(4)]
        for _turn in range(5):
            chosen = [(rng.choice(LAMBDAS), rng.choice((None, None, 0.8))) for _ in histories]
            prompts = [rng.choice(history[-2:]) for history in histories]
            jobs = [
                engine.submit(prompt_of(prompt), decided(*each, max_tokens=8))
                for prompt, each in zip(prompts, chosen, strict=True)
            ]
            outputs = [job.result(60) for job in jobs]
            expected = [
                plain.reread(value if prefix is None else prefix, prompt)
                for prompt, (value, prefix) in zip(prompts, chosen, strict=True)
            ]
            assert [output.reread_tokens for output in outputs] == expected
            counted += sum(expected)
            for history, prompt, output, (value, prefix) in zip(histories, prompts, outputs, chosen, strict=True):
                assert output.cached_tokens + output.reread_tokens < output.prompt_tokens
                whole = [*prompt, *output.token_ids]
                exact = prefix is None or prefix == value
                plain.keep(value if prefix is None else prefix, whole[:-1] if exact else prompt[:-1])
                history.append([*whole, *ordinary(rng, rng.randrange(5, 30))])
    assert counted > 0


def test_a_prompt_is_read_again_for_each_new_lambda_of_reading(lab: Lab) -> None:
    prompt = prompt_of(ordinary(random.Random(7), 100))
    with lab.engine("mixed", eos_token_ids=[319]) as engine:
        exact = [engine.generate(prompt, ask(value, max_tokens=2)) for value in (0.3, 0.3, 0.8, 0.8, 0.3)]
        assert [each.reread_tokens for each in exact] == [0, 0, 96, 0, 0]
        shared = [engine.generate(prompt, decided(value, 1.0, 2)) for value in (0.3, 0.8, 0.0)]
        assert [each.reread_tokens for each in shared] == [96, 0, 0]
    with lab.engine("mixed", eos_token_ids=[319], prefix_tokens=0) as engine:
        assert [engine.generate(prompt, ask(value, max_tokens=2)).reread_tokens for value in (0.3, 0.8)] == [0, 0]


def test_a_reply_that_goes_on_at_another_lambda_reads_its_prompt_again(lab: Lab) -> None:
    text = ordinary(random.Random(8), 96)
    begun = replace(prompt_of(text), reply_ids=(5, 6, 7))
    with lab.engine("mixed", eos_token_ids=[319]) as engine:
        engine.generate(prompt_of(text), ask(0.3, max_tokens=40))
        outputs = [engine.generate(begun, ask(value, max_tokens=20)) for value in (0.3, 0.8, 0.8)]
    assert [each.reread_tokens for each in outputs] == [0, 96, 0]


def test_requests_beside_each_other_read_nothing_again(lab: Lab) -> None:
    """Nothing had been kept of a prompt when it was read at several λs at once."""
    prompt = prompt_of(ordinary(random.Random(9), 80))
    with lab.engine("mixed", eos_token_ids=[319], loop_rule=None) as engine:
        jobs = [engine.submit(prompt, ask(value, max_tokens=60)) for value in (0.3, 0.8)]
        assert [job.result(60).reread_tokens for job in jobs] == [0, 0]


def test_what_was_cancelled_was_not_kept_but_says_what_it_read_again(lab: Lab) -> None:
    prompt = prompt_of(ordinary(random.Random(10), 80))
    with lab.engine("mixed", eos_token_ids=[319], loop_rule=None) as engine:
        for value, expected in ((0.3, 0), (0.5, 0)):
            job = engine.submit(prompt, ask(value, max_tokens=300))
            next(iter(job))
            job.cancel()
            with pytest.raises(Cancelled) as caught:
                job.result(10)
            assert caught.value.generation is not None
            assert caught.value.generation.reread_tokens == expected
        assert engine.generate(prompt, ask(0.3, max_tokens=2)).reread_tokens == 0
        job = engine.submit(prompt, ask(0.5, max_tokens=300))
        next(iter(job))
        job.cancel()
        with pytest.raises(Cancelled) as caught:
            job.result(10)
        assert caught.value.generation is not None
        assert caught.value.generation.reread_tokens == 64


def advance(batches: Batches, weights: Weights) -> None:
    batches.read_chunk(weights)
    for group in batches.decoding:
        batches.decode(weights, group)


def rows_of(engine: LocalEngine, texts: list[list[int]], value: float, max_tokens: int) -> list[SequenceState]:
    return [engine.sequence_of(prompt_of(text), ask(value, max_tokens=max_tokens)) for text in texts]


@pytest.fixture
def loaded(lab: Lab) -> tuple[LocalEngine, LoadedModel]:
    weights = load_weights(lab.instruct, lab.thinking, mode="mixed")
    return lab.engine("mixed", eos_token_ids=[319], loop_rule=None), LoadedModel(weights, None, 16)


def test_a_row_that_was_preempted_says_what_its_first_reading_was(loaded: tuple[LocalEngine, LoadedModel]) -> None:
    """When it is read once more, nothing is kept at any λ: there was no room left."""
    engine, model = loaded
    rng, batches, waiting = random.Random(11), Batches(200, 100), list[SequenceState]()
    text = ordinary(rng, 49)
    with engine:
        first = rows_of(engine, [text], 0.3, 2)
        rows = rows_of(engine, [[*text, *ordinary(rng, 5)] for _ in range(3)], 0.8, 40)
    batches.read(model, None, first)
    while batches.busy:
        advance(batches, model.weights)
    batches.read(model, None, rows)
    preempted: list[SequenceState] = []
    while batches.busy or waiting:
        if not batches.busy:
            batches.read(model, None, [waiting.pop(0)])
        advance(batches, model.weights)
        batches.preempt_to_fit(waiting.append)
        preempted += [row for row in waiting if row not in preempted]
    assert preempted
    assert all(row.written for row in preempted), "preempted while it was decoded"
    assert [row.job.result(1).reread_tokens for row in rows] == [48, 48, 48]


def test_a_reading_that_broke_off_counts_for_nothing(loaded: tuple[LocalEngine, LoadedModel]) -> None:
    """Preempted before its first token, a row is read afresh, and says of what was kept then."""
    engine, model = loaded
    rng, batches, waiting = random.Random(12), Batches(200, 120), list[SequenceState]()
    text = ordinary(rng, 49)
    with engine:
        first = [*rows_of(engine, [text], 0.8, 2), *rows_of(engine, [[*text, *ordinary(rng, 16)]], 0.3, 2)]
        older, younger = rows_of(engine, [[*text, *ordinary(rng, n)] for n in (91, 21)], 0.8, 4)
    batches.read(model, None, first)
    while batches.busy:
        advance(batches, model.weights)
    batches.read(model, None, [older, younger])
    for _ in range(2):  # a chunk of each
        batches.read_chunk(model.weights)
    assert [(row.job.cached_tokens, row.job.reread_tokens) for row in (older, younger)] == [(48, 0), (48, 0)]
    batches.preempt_to_fit(waiting.append)
    assert waiting == [younger]
    older.job.cancel()
    while batches.busy:
        advance(batches, model.weights)
    batches.read(model, None, waiting)
    while batches.busy:
        advance(batches, model.weights)
    found = younger.job.result(1)
    assert (found.cached_tokens, found.reread_tokens) == (0, 0)
