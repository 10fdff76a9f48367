"""Thought at one λ, answer at another: the thought's tokens are carried over, nothing is shown twice or lost."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from dami_agent.checkpoints import CheckpointPair
from dami_agent.errors import RunError
from dami_agent.estimators import FixedEstimator
from dami_agent.pipeline import Outcome, Pipeline
from dami_agent.policy import ReasoningPolicy
from dami_agent.testing import FakeEngine, FakeReply, fake_chat_model
from dami_agent.types import CallRecord, Decision, Generation, Intensity, Limits, Sampling
from tests.policy.support import FRONTIER, requested, step, user

THOUGHT = "first this, then that"


class TwoVoices(FakeEngine):
    """Says the same thought again, and another answer after it."""

    def reply_begun_by(self, prompt: Any) -> FakeReply:
        return FakeReply("It is eight.", reasoning=THOUGHT)


def voices(**policy: Any) -> tuple[Pipeline, FakeEngine]:
    model = fake_chat_model([])
    engine = TwoVoices([FakeReply("It is seven.", reasoning=THOUGHT)] * 2, model.engine.encode)
    own = ReasoningPolicy(frontier=FRONTIER, default={"intensity": 1, "answer_intensity": 0.2}, **policy)
    return Pipeline(engine=engine, dialogue=model.dialogue, policy=own, estimator=model.estimator), engine


def _before_the_answer(generation: Generation) -> tuple[int, ...]:
    return tuple(event.token_id for event in generation.events if event.part != "answer")


def test_the_answer_is_decoded_after_the_thought_at_its_own_intensity() -> None:
    pipeline, engine = voices(run={"max_tokens": 1000})
    now = step(user("What is it?"), root_run_id="run")
    items = list(pipeline.stream(now))
    outcome = items.pop()
    assert isinstance(outcome, Outcome)
    assert (outcome.reply.content, outcome.reply.reasoning) == ("It is eight.", THOUGHT)
    assert "".join(d.text for d in items if d.kind == "text") == "It is eight."
    assert "".join(d.text for d in items if d.kind == "reasoning") == THOUGHT
    first, second = engine.requests
    assert (first.decision.intensity, second.decision.intensity) == (1, 0.2)
    generation, decision = outcome.record.generation, outcome.record.decision
    assert generation is not None
    assert decision is not None
    assert (generation.intensity, decision.answer_intensity) == (1, 0.2)
    assert second.prompt.reply_ids == _before_the_answer(generation)
    assert generation.thought_closed_by == "model"
    assert pipeline.budgets.spent(pipeline.policy, now.run_context).tokens == outcome.record.output_tokens


def test_an_answer_that_breaks_off_is_on_record_whole_and_paid_whole() -> None:
    pipeline, engine = voices(run={"max_tokens": 1000, "on_exhausted": "error"})
    engine.reply_begun_by = lambda _: FakeReply("It is eight.", error=RunError("fell off"))  # type: ignore[method-assign]
    now = step(user("What is it?"), root_run_id="run")
    book: list[CallRecord] = []
    pipeline.ledger = SimpleNamespace(record=book.append)
    with pytest.raises(RunError, match="fell off"):
        pipeline.run(now)
    decoded = [job.shown - len(r.prompt.reply_ids) for r, job in zip(engine.requests, engine.jobs, strict=True)]
    assert book[0].output_tokens == sum(decoded)
    assert decoded[1] > 0
    assert (
        pipeline.budgets.spent(pipeline.policy, now.run_context).tokens == 1000
    )  # how far the second job came is not known: all of it


def test_without_a_thought_there_is_one_job() -> None:
    pipeline, engine = voices()
    outcome = pipeline.run(step(user("What is it?"), intensity_request=requested(0.0)))
    assert outcome.reply.content == "It is seven."
    assert len(engine.requests) == 1


@pytest.mark.parametrize("cap", [None, 5])
def test_the_real_engine_agrees_with_the_slow_way(cap: int | None) -> None:
    from dami_agent.dialogue import Dialogue
    from dami_agent.runtime import LocalEngine

    pair = CheckpointPair.builtin()
    templates: Any = {"instruct": pair.instruct.chat_template, "thinking": pair.thinking.chat_template}
    dialogue = Dialogue(pair.instruct.tokenizer(), templates=templates)
    engine = LocalEngine.open(pair, device="cpu")
    limits = Limits(max_tokens=60, max_reasoning_tokens=cap)
    now = dataclasses.replace(step(user("What is 13 + 4?"), limits=limits), sampling=Sampling(seed=5))
    try:
        own = ReasoningPolicy(default={"intensity": 1, "answer_intensity": 0})
        estimator = FixedEstimator(Intensity(0))
        run = Pipeline(engine=engine, dialogue=dialogue, policy=own, estimator=estimator)
        got = run.run(now).record.generation
        prompt = dialogue.render(now, "thinking")
        both = own.decide(now, 0, lambda _: pytest.fail("asked"))
        whole: Decision = dataclasses.replace(both, answer_intensity=None)
        thinking = engine.generate(prompt, whole)
        thought = _before_the_answer(thinking)
        after = dataclasses.replace(whole, intensity=Intensity(0), sampling=thinking.sampling)
        slow = engine.generate(dataclasses.replace(prompt, reply_ids=thought), after)
    finally:
        engine.close()
    assert got is not None
    assert (got.token_ids, got.finish_reason) == (slow.token_ids, slow.finish_reason)
    assert got.thought_closed_by == thinking.thought_closed_by
    assert got.token_ids[: len(thought)] == thought
