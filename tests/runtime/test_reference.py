"""The engine against transformers' own generate over a checkpoint merged by an independent script."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from dami_agent.runtime import LocalEngine, scoring
from tests.runtime.support import VOCAB, Lab, ask, prompt_of

LAMBDAS = (0.0, 0.3, 0.55, 1.0)


def ordinary(rng: random.Random, n: int) -> list[int]:
    return [rng.randrange(300) for _ in range(n)]


@pytest.mark.parametrize("intensity", LAMBDAS)
def test_greedy_equals_generate(lab: Lab, engine: LocalEngine, intensity: float) -> None:
    rng = random.Random(f"{intensity}")
    for _ in range(3):
        tokens = ordinary(rng, rng.randint(1, 60))
        output = engine.generate(prompt_of(tokens), ask(intensity, max_tokens=40))
        ids = torch.tensor([tokens])
        expected = (
            lab.reference(intensity)
            .generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=40,
                do_sample=False,
                eos_token_id=list(lab.eos_ids),
                pad_token_id=0,
                suppress_tokens=[lab.open_id, lab.close_id],  # an answer opens and closes no thought
            )[0, len(tokens) :]
            .tolist()
        )
        if expected[-1] in lab.eos_ids:
            expected.pop()
        lab.assert_greedy(intensity, tokens, output.token_ids)
        if list(output.token_ids) != expected:  # only a near tie may part them
            lab.assert_near_tie(intensity, tokens, output.token_ids, expected)
        assert output.prompt_tokens == len(tokens)
        assert output.intensity == intensity


def test_padded_batch_equals_alone(lab: Lab, engine: LocalEngine) -> None:
    rng = random.Random(5)
    requests = [(rng.choice(LAMBDAS), ordinary(rng, rng.choice((1, 3, 20, 90, 200)))) for _ in range(24)]
    jobs = [engine.submit(prompt_of(tokens), ask(at, max_tokens=rng.randint(1, 40))) for at, tokens in requests]
    for (at, tokens), job in zip(requests, jobs, strict=True):
        output = job.result(60)
        lab.assert_greedy(at, tokens, output.token_ids)
        assert output.finish_reason == "length" or output.output_tokens < 40


@pytest.mark.parametrize("intensity", [0.0, 0.7])
def test_score_equals_log_softmax(lab: Lab, engine: LocalEngine, intensity: float) -> None:
    rng = random.Random(9)
    for prompt_length, completion_length in ((1, 1), (30, 7), (2, 100)):
        prompt, completion = ordinary(rng, prompt_length), [rng.randrange(VOCAB) for _ in range(completion_length)]
        scores = engine.score(prompt_of(prompt), completion, intensity)  # type: ignore[arg-type]
        logits = lab.logits(intensity, [*prompt, *completion]).log_softmax(-1)
        expected = [float(logits[prompt_length + i - 1, t]) for i, t in enumerate(completion)]
        assert scores == pytest.approx(expected, abs=1e-4)


def test_prompts_read_in_pieces(lab: Lab, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long prompts are read in chunks; whole chunks of a short row are padding, which must not turn into NaN."""
    engine.load()
    model = engine.worker.model
    assert model is not None
    monkeypatch.setattr(engine.worker, "model", replace(model, chunk_tokens=40))
    monkeypatch.setattr(scoring, "_MAX_LOGITS", 3 * 4 * VOCAB)
    rng = random.Random(6)
    prompts = [ordinary(rng, n) for n in (3, 150, 60, 7)]
    jobs = [engine.submit(prompt_of(tokens), ask(0.3, max_tokens=12, timeout=100)) for tokens in prompts]
    for tokens, job in zip(prompts, jobs, strict=True):
        output = job.result(60)
        lab.assert_greedy(0.3, tokens, output.token_ids)
        logits = lab.logits(0.3, [*tokens, *output.token_ids]).log_softmax(-1)
        expected = [float(logits[len(tokens) + i - 1, t]) for i, t in enumerate(output.token_ids)]
        assert engine.score(prompt_of(tokens), output.token_ids, output.intensity) == pytest.approx(expected, abs=1e-4)
