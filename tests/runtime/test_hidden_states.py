"""Pooled hidden states are those of transformers' own model at the same λ, whatever is read beside them."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest
import torch

from dami_agent.errors import Cancelled, ContextOverflow, InvalidRequest, RunError
from dami_agent.runtime.batch_inputs import BatchInputs
from dami_agent.types import Intensity, StateReader
from tests.runtime.support import CONTEXT, Lab, ask, prompt_of


def ordinary(rng: random.Random, n: int) -> list[int]:
    return [rng.randrange(300) for _ in range(n)]


def pooled(lab: Lab, intensity: float, tokens: Sequence[int], layers: Sequence[int]) -> torch.Tensor:
    """The slow reference: one prompt, all at once, transformers' model of the merged checkpoint."""
    with torch.no_grad():
        states = lab.reference(intensity)(torch.tensor([list(tokens)]), output_hidden_states=True).hidden_states
    return torch.stack([torch.cat([states[layer][0, -1], states[layer][0].mean(dim=0)]) for layer in layers])


@pytest.mark.parametrize("mode", ["merged", "mixed"])
def test_states_are_those_of_the_merged_model(lab: Lab, mode: str) -> None:
    rng = random.Random(7)
    last = lab.reference(0.0).config.num_hidden_layers
    asked = [
        (
            ordinary(rng, rng.choice([1, 2, 17, 40, 90, 200])),
            rng.choice([0.0, 0.3, 1.0]),
            rng.sample(range(last + 1), 2),
        )
        for _ in range(24)
    ]
    with lab.engine(mode) as engine, ThreadPoolExecutor(12) as pool:
        assert isinstance(engine, StateReader)
        job = engine.submit(prompt_of(ordinary(rng, 30)), ask(0.3, max_tokens=40))  # decodes meanwhile
        found = list(
            pool.map(lambda each: engine.hidden_states(prompt_of(each[0]), Intensity(each[1]), each[2]), asked)
        )
        job.result()
    for (tokens, intensity, layers), states in zip(asked, found, strict=True):
        torch.testing.assert_close(torch.tensor(states), pooled(lab, intensity, tokens, layers), rtol=2e-4, atol=2e-4)


def test_a_long_prompt_is_read_in_chunks(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dami_agent.runtime.batch_inputs._chunk_tokens", lambda weights: 16)
    tokens = ordinary(random.Random(3), 100)
    with lab.engine() as engine:
        states = engine.hidden_states(prompt_of(tokens), Intensity(0.5), [1, 2])
    torch.testing.assert_close(torch.tensor(states), pooled(lab, 0.5, tokens, [1, 2]), rtol=2e-4, atol=2e-4)


def test_the_reply_at_the_same_lambda_goes_on_from_it(lab: Lab) -> None:
    tokens = ordinary(random.Random(4), 70)
    with lab.engine("merged") as engine:
        alone = engine.generate(prompt_of(tokens), ask(0.0, max_tokens=12))
    with lab.engine("merged") as engine:
        engine.hidden_states(prompt_of(tokens), Intensity(0), [1])
        after = engine.generate(prompt_of(tokens), ask(0.0, max_tokens=12))
        other = engine.generate(prompt_of(tokens), ask(0.5, max_tokens=12))
    assert after.cached_tokens == 64
    assert other.cached_tokens == 0
    lab.assert_greedy(0.0, tokens, after.token_ids)
    assert after.token_ids == alone.token_ids


def test_replies_at_every_lambda_go_on_from_it_where_prompts_are_read_at_one(lab: Lab) -> None:
    tokens = ordinary(random.Random(4), 70)
    with lab.engine() as engine:
        engine.hidden_states(prompt_of(tokens), Intensity(1), [1])
        for value in (0.0, 0.4, 1.0):
            decision = dataclasses.replace(ask(value, max_tokens=4), prefix_intensity=Intensity(1))
            assert engine.generate(prompt_of(tokens), decision).cached_tokens == 64


def test_a_layer_that_is_not_there_fails_its_own_request_alone(lab: Lab) -> None:
    tokens = ordinary(random.Random(5), 20)
    last = lab.reference(0.0).config.num_hidden_layers

    def read(layers: Sequence[int]) -> object:
        try:
            return engine.hidden_states(prompt_of(tokens), Intensity(0), layers)
        except InvalidRequest as error:
            return error

    with lab.engine() as engine, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, [[1], [last + 1], [1], [1], [last + 9], [1]]))
        assert engine.hidden_states(prompt_of(tokens), Intensity(0), [last])  # and it lives on
    assert [isinstance(each, InvalidRequest) for each in found] == [False, True, False, False, True, False]
    assert str(last) in str(found[1])


def test_bad_prompts_are_refused_before_they_are_queued(lab: Lab) -> None:
    with lab.engine() as engine:
        with pytest.raises(InvalidRequest):
            engine.hidden_states(prompt_of([]), Intensity(0), [1])
        with pytest.raises(ContextOverflow):
            engine.hidden_states(prompt_of([1] * (CONTEXT + 1)), Intensity(0), [1])
        assert engine.worker.model is None  # nothing was loaded for them


def test_states_that_are_not_finite_are_an_error(lab: Lab) -> None:
    from dami_agent.weights import load_weights

    weights = load_weights(lab.instruct, lab.thinking, mode="merged")
    with lab.engine("merged", weights=weights) as engine:
        engine.load()
        with weights.at([0.0]) as model, torch.no_grad():
            model.model.layers[0].mlp.down_proj.weight.fill_(float("nan"))
        with pytest.raises(RunError, match="not finite"):
            engine.hidden_states(prompt_of([1, 2, 3]), Intensity(0), [1])


def test_a_cancelled_call_reads_nothing(lab: Lab) -> None:
    from dami_agent.cancellation import Cancellation, cancellable

    with lab.engine() as engine:
        switch = Cancellation()
        wrapped = cancellable(engine, switch)
        assert isinstance(wrapped, StateReader)
        assert wrapped.hidden_states(prompt_of([1, 2, 3]), Intensity(0), [1])
        switch.cancel()
        with pytest.raises(Cancelled):
            wrapped.hidden_states(prompt_of([1, 2, 3]), Intensity(0), [1])


@pytest.mark.parametrize("broken", [1, 3])
def test_what_broke_off_leaves_nothing_to_go_on_from(lab: Lab, broken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk fails, out of memory or otherwise; the next reply at the same λ is what it always was."""
    monkeypatch.setattr("dami_agent.runtime.batch_inputs._chunk_tokens", lambda weights: 32)
    tokens, fed = ordinary(random.Random(8), 100), [0]
    real = BatchInputs.hidden_states

    def failing(self: BatchInputs, *given: object) -> object:
        fed[0] += 1
        if fed[0] == broken:
            raise torch.OutOfMemoryError("no memory")
        return real(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(BatchInputs, "hidden_states", failing)
    with lab.engine("merged") as engine:
        with pytest.raises(RunError, match="no memory"):
            engine.hidden_states(prompt_of(tokens), Intensity(0), [1])
        after = engine.generate(prompt_of(tokens), ask(0.0, max_tokens=12))
    assert after.cached_tokens == 0
    lab.assert_greedy(0.0, tokens, after.token_ids)


def test_a_caller_who_leaves_leaves_nothing_half_read(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dami_agent.runtime.batch_inputs._chunk_tokens", lambda weights: 32)
    tokens = ordinary(random.Random(9), 100)
    real = BatchInputs.hidden_states

    def leaving(self: BatchInputs, *given: object) -> object:
        for request in engine.worker._batches.requests:
            request.future.cancel()
        return real(self, *given)  # type: ignore[arg-type]

    with lab.engine("merged") as engine:
        monkeypatch.setattr(BatchInputs, "hidden_states", leaving)
        with pytest.raises(CancelledError):
            engine.hidden_states(prompt_of(tokens), Intensity(0), [1])
        monkeypatch.setattr(BatchInputs, "hidden_states", real)
        after = engine.generate(prompt_of(tokens), ask(0.0, max_tokens=12))
    assert after.cached_tokens == 0
    lab.assert_greedy(0.0, tokens, after.token_ids)


@pytest.mark.parametrize("layers", [[1.5], ["1"], [True], [-1], []])
def test_what_is_no_layer_is_refused_before_it_is_queued(lab: Lab, layers: list[object]) -> None:
    with lab.engine() as engine:
        with pytest.raises(InvalidRequest, match="whole numbers"):
            engine.hidden_states(prompt_of([1, 2]), Intensity(0), layers)  # type: ignore[arg-type]
        assert engine.worker.model is None
