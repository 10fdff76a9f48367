"""Requests at a λ per module: decoded as the reference does, and never taken for those of an equal number."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel

from dami_agent.errors import InvalidIntensity
from dami_agent.runtime.prefix_cache import PrefixCache
from dami_agent.runtime.schedule import GroupScheduler
from dami_agent.types import Decision, Intensity, Prompt
from tests.runtime.support import Lab, ask, prompt_of
from tests.runtime.test_prefix_cache import layers
from tests.weights.reference import load_per_module

FFN, ATTENTION = (
    Intensity("ffn=.9,norm=.5,embedding=.5,other=.1"),
    Intensity("attention=.9,norm=.5,embedding=.5,other=.1"),
)
LAYERED = Intensity("ffn[0]=.9,ffn[1]=.2,other=.4")
EQUAL = (FFN, ATTENTION, LAYERED, Intensity(0.9))
"""All are 0.9 as a number."""


def at(intensity: Intensity, **limits: int) -> Decision:
    return replace(ask(0.0, **limits), intensity=intensity)


def reference(lab: Lab, intensity: Intensity) -> PreTrainedModel:
    kinds = ("attention", "embedding", "ffn", "norm", "other")
    values = {(kind, layer): intensity.at_module(kind, layer) for kind in kinds for layer in (None, 0, 1)}  # type: ignore[arg-type]
    return load_per_module(lab.instruct, lab.thinking, values)


def prompts(seed: int, count: int, length: int = 40) -> list[Prompt]:
    rng = random.Random(seed)
    return [prompt_of([rng.randrange(300) for _ in range(length)]) for _ in range(count)]


@pytest.mark.parametrize("intensity", EQUAL, ids=str)
def test_tokens_and_scores_are_the_references(lab: Lab, intensity: Intensity) -> None:
    model = reference(lab, intensity)
    with lab.engine("merged") as engine:
        for prompt in prompts(3, 3):
            out = engine.generate(prompt, at(intensity, max_tokens=8))
            assert (out.intensity, out.intensity.modules) == (intensity, intensity.modules)
            with torch.no_grad():
                logits = model(torch.tensor([[*prompt.token_ids, *out.token_ids]])).logits[0].float()
            scores = logits.log_softmax(-1)
            logits[:, [lab.open_id, lab.close_id]] = -torch.inf
            for place, token in enumerate(out.token_ids, len(prompt.token_ids) - 1):
                assert logits[place].max() - logits[place][token] < 1e-3
            expected = [float(scores[len(prompt.token_ids) - 1 + i][t]) for i, t in enumerate(out.token_ids)]
            assert engine.score(prompt, out.token_ids, intensity) == pytest.approx(expected, abs=1e-3)


def test_equal_numbers_at_once_decode_as_each_alone(lab: Lab) -> None:
    work = [(prompt, intensity) for prompt in prompts(5, 4) for intensity in EQUAL]
    alone = {}
    for prompt, intensity in work:
        with lab.engine("merged") as engine:
            alone[prompt.token_ids, intensity] = engine.generate(prompt, at(intensity, max_tokens=10)).token_ids
    assert len({alone[work[0][0].token_ids, intensity] for intensity in EQUAL}) > 1
    random.Random(6).shuffle(work)
    with lab.engine("merged") as engine, ThreadPoolExecutor(len(work)) as pool:
        for _ in range(2):  # the second time with all prompts kept
            jobs = [pool.submit(engine.generate, prompt, at(intensity, max_tokens=10)) for prompt, intensity in work]
            for (prompt, intensity), job in zip(work, jobs, strict=True):
                out = job.result()
                assert out.intensity == intensity
                assert_same(lab, intensity, prompt, out.token_ids, alone[prompt.token_ids, intensity])


def assert_same(lab: Lab, intensity: Intensity, prompt: Prompt, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    """Equal, or parted at a token where the reference's two best logits are closer than 1e-3."""
    if a != b:
        place = next(i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y)
        with torch.no_grad():
            logits = reference(lab, intensity)(torch.tensor([[*prompt.token_ids, *a[:place]]])).logits[0, -1]
        best = logits.topk(2).values
        assert best[0] - best[1] < 1e-3, f"{intensity} ran as another"


def test_a_prompt_is_kept_for_equal_modules_alone(lab: Lab) -> None:
    (prompt,) = prompts(7, 1, length=100)
    with lab.engine("merged") as engine:
        for intensity in EQUAL:
            assert engine.generate(prompt, at(intensity, max_tokens=2)).cached_tokens == 0
        again = Intensity("other=.10,norm=.5,FFN=0.90,attention=.1,embedding=.5")
        assert engine.generate(prompt, at(again, max_tokens=2)).cached_tokens == 96


def test_the_cache_and_the_schedule_tell_them_apart() -> None:
    cache, tokens = PrefixCache(1000), list(range(50))
    for intensity in EQUAL:
        assert cache.find(intensity, tokens) is None
        cache.keep(intensity, tokens, layers(50))
    assert cache.tokens == 48 * len(EQUAL)
    schedule = GroupScheduler()
    turns = []
    for _ in range(8):
        turns.append(schedule.pick(EQUAL))
        schedule.stepped(0.0, 1.0)
    assert [turns.count(intensity) for intensity in EQUAL] == [2, 2, 2, 2]


def test_a_mixed_engine_refuses_it_before_it_loads_anything(lab: Lab) -> None:
    (prompt,) = prompts(8, 1)
    with lab.engine("mixed") as engine:
        for call in (
            lambda: engine.submit(prompt, at(FFN)),
            lambda: engine.submit(prompt, replace(ask(0.5), prefix_intensity=FFN)),
            lambda: engine.score(prompt, (1, 2), FFN),
            lambda: engine.hidden_states(prompt, FFN, [0]),
        ):
            with pytest.raises(InvalidIntensity, match="mixed weights") as refused:
                call()
            assert 'weights_mode="merged"' in str(refused.value.hint)
            assert '"auto" may choose mixed' in str(refused.value.hint)
        assert engine.worker.model is None
        assert engine.generate(prompt, ask(0.9, max_tokens=2)).intensity == 0.9


@pytest.mark.parametrize("text", ["ffn[2]=.9,other=.1", "ffn[1-2]=.9,other=.1", "other[2-]=.9,other=.1"])
def test_layers_that_the_model_does_not_have_are_refused(lab: Lab, text: str) -> None:
    (prompt,) = prompts(9, 1)
    with lab.engine("merged") as engine:
        with pytest.raises(InvalidIntensity, match="does not have") as refused:
            engine.submit(prompt, at(Intensity(text)))
        assert "0 to 1" in str(refused.value.hint)
        assert engine.worker.model is None
        for fine in ("ffn[1-]=.9,other=.1", "ffn[0-1]=.9,other=.1"):
            assert engine.generate(prompt, at(Intensity(fine), max_tokens=2)).output_tokens
