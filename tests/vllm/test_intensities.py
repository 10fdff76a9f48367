"""Every request is computed at its own λ, whatever shares its batch and whatever vLLM has cached."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dami_agent.runtime import LocalEngine
from dami_agent.types import Intensity, Sampling
from tests.pairs import write_pair
from tests.runtime.support import GREEDY, Lab, ask, prompt_of

INTENSITIES = (0.0, 0.1, 0.3, 0.5, 0.6, 0.8, 0.95, 1.0)
TEXT = "The quick brown fox jumps over the lazy dog. So it is 42. Wait, let me check 17 and 25."
LOGGED = replace(GREEDY, logprobs=0)


def assert_scores_are_the_references(engine: Any, lab: Lab, within: float) -> None:
    """Scores equal the log-probs of transformers' model of the merged checkpoint, at each λ."""
    ids = tuple(lab.tokenizer.encode(TEXT, add_special_tokens=False))
    differ = set()
    for at in INTENSITIES:
        scores = engine.score(prompt_of(ids[:9]), ids[9:], Intensity(at))
        expected = torch.log_softmax(lab.logits(at, ids), -1)[8:-1].gather(1, torch.tensor(ids[9:])[:, None])[:, 0]
        assert torch.allclose(torch.tensor(scores), expected, rtol=0, atol=within)
        differ.add(tuple(round(score, 2) for score in scores))
    assert len(differ) == len(INTENSITIES), "λ has no effect"


@pytest.mark.parametrize(
    ("arch", "tie"), [("qwen3", True), ("qwen3", False), ("qwen2", True), ("qwen2", False), ("llama", False)]
)
def test_log_probs_are_those_of_merged_models(
    arch: str, tie: bool, open_vllm: Callable[..., Any], tmp_path: Path
) -> None:
    heads = {"head_dim": 32} if arch == "qwen3" else {}
    pair = write_pair(tmp_path / "pair", arch=arch, tie=tie, seed=3, hidden=128, dtype="float32", **heads)
    lab = Lab(*pair, tmp_path / "merged")
    with open_vllm(*pair) as engine:
        assert_scores_are_the_references(engine, lab, within=1e-5)


@pytest.mark.slow
def test_log_probs_of_a_compiled_model_are_those_of_merged_models(
    lab: Lab, open_vllm: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_CACHE_ROOT", str(tmp_path))
    with open_vllm(lab.instruct, lab.thinking, enforce_eager=False) as engine:
        assert_scores_are_the_references(engine, lab, within=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_log_probs_of_a_model_on_two_devices_are_those_of_merged_models(
    lab: Lab, open_vllm: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """λ goes to both workers, each of which holds half of every layer."""
    first, second, *_ = sorted(os.sched_getaffinity(0))
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", f"{first}|{second}")
    with open_vllm(lab.instruct, lab.thinking, tensor_parallel_size=2) as engine:
        assert_scores_are_the_references(engine, lab, within=1e-5)


def test_two_hundred_mixed_requests_equal_each_alone(engine: Any, lab: Lab) -> None:
    random_ = random.Random(0)
    requests = []
    for number in range(200):
        tokens = [random_.randrange(256) for _ in range(random_.randrange(2, 40))]
        sampling = GREEDY if number % 2 else Sampling(temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, seed=number)
        requests.append(
            (prompt_of(tokens), ask(INTENSITIES[number % 8], sampling=replace(sampling, logprobs=0), max_tokens=8))
        )
    jobs = [engine.submit(*request) for request in requests]
    together = [job.result(120) for job in jobs]
    parted = 0
    for request, out in zip(requests, together, strict=True):
        alone = engine.generate(*request)
        assert out.intensity == request[1].intensity
        parted += alone.token_ids != out.token_ids
        for one, other in zip(alone.events, out.events, strict=False):
            if one.token_id != other.token_id:
                break
            assert abs(one.logprob.logprob - other.logprob.logprob) < 1e-4
    assert parted <= 1, "only where two tokens are as good as equal"


def test_one_endpoint_is_computed_alone_where_all_rows_are_at_it(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores at an end of the path come from one set of weights: the other's may be anything."""
    rows = engine.loop.engine.model_executor.driver_worker.worker.model_runner.model.intensity_rows
    tokens = list(range(5, 40))
    seen = []
    write = rows.write

    def watched(at: torch.Tensor) -> None:
        write(at)
        seen.append((rows.end, len(rows.others) if rows.end is not None else None))

    monkeypatch.setattr(rows, "write", watched)
    for at in (0.0, 1.0, 0.5):
        engine.generate(prompt_of(tokens), ask(at, max_tokens=2))
    assert seen == [(0, 0), (0, 0), (1, 0), (1, 0), (None, None), (None, None)]
    seen.clear()
    fresh = prompt_of(range(60, 100))
    engine.generate(fresh, replace(ask(0.5, max_tokens=2), prefix_intensity=Intensity(1.0)))
    assert seen == [(1, 1), (None, None)], "all of a shared prompt but its last token is Thinking's alone"


def test_greedy_replies_are_the_references(engine: Any, lab: Lab) -> None:
    ids = lab.tokenizer.encode(TEXT, add_special_tokens=False)
    for at in INTENSITIES:
        out = engine.generate(prompt_of(ids), ask(at, max_tokens=16))
        lab.assert_greedy(at, ids, out.token_ids)


def test_no_prefix_of_another_intensity_is_read(engine: Any) -> None:
    """Of 1,000 histories: what vLLM has cached is read at equal λ alone. Scores, which read no cache, tell."""
    random_ = random.Random(1)
    histories = [[random_.randrange(256) for _ in range(40)] for _ in range(12)]
    jobs = []
    cached = 0
    for _ in range(1000):
        history = random_.choice(histories)
        length = random_.randrange(20, len(history) + 1)
        at = random_.choice(INTENSITIES)
        prompt = prompt_of(history[:length])
        jobs.append((prompt, at, engine.submit(prompt, ask(at, sampling=LOGGED, max_tokens=1))))
        if random_.random() < 0.3:
            history.extend(random_.randrange(256) for _ in range(random_.randrange(1, 12)))
        if len(jobs) % 20 == 0:
            jobs[-1][2].result(60)
    for prompt, at, job in jobs:
        out = job.result(60)
        cached += out.cached_tokens
        if out.events:
            (score,) = engine.score(prompt, out.token_ids, Intensity(at))
            assert abs(score - out.events[0].logprob.logprob) < 1e-4, at
    assert cached > 1000, "nothing was read from the cache"


def test_a_shared_prefix_is_read_for_replies_at_any_intensity(engine: Any, lab: Lab) -> None:
    """The prompt but its last token is computed once, at one λ; replies are those of transformers' two models."""
    random_ = random.Random(2)
    tokens = [random_.randrange(256) for _ in range(101)]
    first = engine.generate(prompt_of(tokens), replace(ask(0.3, max_tokens=6), prefix_intensity=Intensity(1.0)))
    assert first.cached_tokens == 0
    for at in (0.0, 0.5, 0.8):
        decision = replace(ask(at, max_tokens=6), prefix_intensity=Intensity(1.0))
        out = engine.generate(prompt_of(tokens), decision)
        assert out.prefix_intensity == Intensity(1.0)
        assert out.cached_tokens == 96, "the prompt is not read again"
        lab.assert_shared_greedy(1.0, at, tokens, out.token_ids)
        again = engine.generate(prompt_of(tokens), decision)
        assert again.token_ids == out.token_ids
    exact = engine.generate(prompt_of(tokens), ask(0.5, max_tokens=6))
    lab.assert_greedy(0.5, tokens, exact.token_ids)
    assert exact.cached_tokens == 0, "a prefix read at λ=1 is none of a reply that is read at .5"


def test_what_a_reply_decoded_is_read_again_at_the_prefixs_intensity(engine: Any, lab: Lab) -> None:
    """A reply's own keys and values, computed at its λ, are not the next prompt's prefix, which is read at one λ."""
    random_ = random.Random(3)
    tokens = [random_.randrange(256) for _ in range(50)]
    decision = replace(ask(0.2, max_tokens=60), prefix_intensity=Intensity(1.0))
    reply = engine.generate(prompt_of(tokens), decision)
    history = [*tokens, *reply.token_ids, *(random_.randrange(256) for _ in range(20))]
    out = engine.generate(prompt_of(history), replace(decision, limits=ask(max_tokens=8).limits))
    assert out.cached_tokens == 32, "the whole blocks of the first prompt"
    lab.assert_shared_greedy(1.0, 0.2, history, out.token_ids)


def test_a_thought_that_is_capped_goes_on_as_in_the_local_engine(engine: Any, lab: Lab) -> None:
    """Two engines, one reply: caps, closing words and the answer after them."""
    ids = lab.tokenizer.encode(TEXT, add_special_tokens=False)
    with lab.engine("mixed", loop_rule=None) as local:
        assert isinstance(local, LocalEngine)
        for cap in (0, 1, 7):
            prompt = prompt_of(ids, in_thought=True)
            decision = ask(0.6, max_tokens=24, max_reasoning_tokens=cap)
            ours, theirs = local.generate(prompt, decision), engine.generate(prompt, decision)
            assert [event.part for event in theirs.events[:cap]] == ["reasoning"] * cap
            assert theirs.reasoning_tokens == ours.reasoning_tokens == cap
            assert theirs.thought_closed_by == ours.thought_closed_by == "cap"
