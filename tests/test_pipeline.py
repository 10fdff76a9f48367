"""The order of things: decide, render, generate, parse, record; and what a failed or cancelled call leaves behind."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import pytest

from dami_agent.checkpoints import CheckpointPair
from dami_agent.errors import Cancelled, DeadlineExceeded, RunError
from dami_agent.pipeline import Cancellation, Outcome, Pipeline
from dami_agent.policy import Frontier, ReasoningPolicy
from dami_agent.testing import FakeEngine, FakeReply, fake_chat_model
from dami_agent.types import (
    CallRecord,
    Decision,
    Engine,
    Estimate,
    Intensity,
    IntensityRequest,
    Limits,
    Message,
    Prompt,
    Step,
    Tool,
)

ADD = Tool(name="add", description="Add.", parameters={"type": "object", "properties": {"a": {"type": "integer"}}})


class Book:
    """A ledger that remembers, and knows whether it was written before the outcome was seen."""

    def __init__(self) -> None:
        self.rows: list[CallRecord] = []

    def record(self, record: CallRecord) -> None:
        self.rows.append(record)


class Prober:
    """An estimator that probes at λ=0 and answers with a fixed λ."""

    name = "prober"

    def __init__(self, intensity: float, tokens: int) -> None:
        self.intensity, self.tokens = Intensity(intensity), tokens

    def estimate(self, prompt: Prompt, decision: Decision, engine: Engine) -> Estimate:
        limits = dataclasses.replace(decision.limits, max_tokens=self.tokens)
        probe = engine.generate(prompt, dataclasses.replace(decision, limits=limits))
        return Estimate(
            estimator=self.name, intensity=self.intensity, probe=probe, probe_prompt=prompt, tokens=probe.output_tokens
        )


def pipeline(replies: Any, estimator: Any = None, **fake: Any) -> tuple[Pipeline, Book, FakeEngine]:
    model = fake_chat_model(replies, **fake)
    book = Book()
    made = Pipeline(
        engine=model.engine,
        dialogue=model.dialogue,
        policy=ReasoningPolicy(),
        estimator=estimator or model.estimator,
        ledger=book,
    )
    return made, book, model.engine


def step(intensity: float | None = None, **rest: Any) -> Step:
    intensity_request = IntensityRequest(intensity=None if intensity is None else Intensity(intensity), origin="call")
    return Step(
        messages=(Message(role="user", content="What is 3 plus 4?"),), intensity_request=intensity_request, **rest
    )


def test_the_record_is_written_before_the_answer_is_returned() -> None:
    run, book, _ = pipeline([FakeReply("It is 7.", reasoning="3 + 4 = 7")])
    for item in run.stream(step(0.8)):
        if isinstance(item, Outcome):
            assert book.rows == [item.record]
            assert (item.reply.content, item.reply.reasoning) == ("It is 7.", "3 + 4 = 7")
    (row,) = book.rows
    assert row.error is None
    assert row.decision is not None
    assert row.generation is not None
    assert row.decision.intensity == 0.8
    assert row.output_tokens == row.generation.output_tokens > 0
    assert row.step.run_context.call_id


def test_pieces_add_up_to_the_reply() -> None:
    run, _, _ = pipeline([FakeReply("Let me see.", reasoning="I must add.", tool_calls=[("add", {"a": 3})])])
    items = list(run.stream(step(1.0, tools=(ADD,))))
    outcome = items.pop()
    assert isinstance(outcome, Outcome)
    assert "".join(d.text for d in items if d.kind == "text") == outcome.reply.content == "Let me see."
    assert "".join(d.text for d in items if d.kind == "reasoning") == outcome.reply.reasoning == "I must add."
    assert [d.call for d in items if d.kind == "tool_call"] == list(outcome.reply.tool_calls)
    assert outcome.reply.finish_reason == "tool_calls"


def test_a_failed_call_is_a_row_and_raises() -> None:
    run, book, _ = pipeline([FakeReply("half an answer", error=RunError("the card fell off"))])
    with pytest.raises(RunError, match="card fell off"):
        run.run(step(0.0))
    (row,) = book.rows
    assert row.error is not None
    assert "RunError" in row.error
    assert row.reply is None


def test_a_deadline_keeps_what_it_cost() -> None:
    run, book, _ = pipeline(["a rather long answer to a short question"], seconds_per_token=0.05)
    with pytest.raises(DeadlineExceeded):
        run.run(step(0.0, limits=Limits(timeout=0.2)))
    (row,) = book.rows
    assert row.generation is not None
    assert 0 < row.generation.output_tokens < 10


def test_closing_the_stream_cancels_and_is_recorded() -> None:
    run, book, engine = pipeline(["one two three four five six seven"], seconds_per_token=0.01)
    stream = run.stream(step(0.0))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    (row,) = book.rows
    assert row.error is not None
    assert "GeneratorExit" in row.error
    with pytest.raises(Cancelled):
        engine.jobs[0].result()


def test_cancelling_from_another_thread_stops_answer_and_probe() -> None:
    for estimator in (None, Prober(0.5, tokens=1000)):
        run, book, _ = pipeline(["word " * 200] * 2, estimator, seconds_per_token=0.01)
        switch = Cancellation()
        threading.Timer(0.1, switch.cancel).start()
        with pytest.raises(Cancelled):
            run.run(step(), switch)
        assert book.rows[0].error is not None
    run, book, engine = pipeline(["never said"])
    switch = Cancellation()
    switch.cancel()
    with pytest.raises(Cancelled):
        run.run(step(0.0), switch)
    assert not engine.requests
    assert len(book.rows) == 1


def test_a_whole_probe_is_the_answer() -> None:
    run, _, engine = pipeline(["It is 7."], Prober(0.0, tokens=100))
    outcome = run.run(step())
    assert outcome.reply.content == "It is 7."
    assert len(engine.requests) == 1
    assert outcome.record.probe_tokens == 0
    assert outcome.record.generation is not None
    assert outcome.record.output_tokens == outcome.record.generation.output_tokens


def test_an_unfinished_probe_is_carried_on() -> None:
    run, _, engine = pipeline(["It is seven, as you know."], Prober(0.0, tokens=3))
    outcome = run.run(step())
    assert outcome.reply.content == "It is seven, as you know."
    assert len(engine.requests[1].prompt.reply_ids) == 3
    assert engine.requests[1].prompt.token_ids == engine.requests[0].prompt.token_ids
    assert outcome.record.probe_tokens == 0


def test_the_callers_own_cap_makes_a_probe_whole() -> None:
    run, _, engine = pipeline(["It is seven, as you know."], Prober(0.0, tokens=3))
    outcome = run.run(step(limits=Limits(max_tokens=3)))
    assert outcome.reply.finish_reason == "length"
    assert len(engine.requests) == 1


def test_a_probe_thrown_away_is_counted() -> None:
    run, _, engine = pipeline(["It is 8.", FakeReply("It is 7.", reasoning="3 + 4 = 7")], Prober(1.0, tokens=100))
    outcome = run.run(step())
    record = outcome.record
    assert outcome.reply.content == "It is 7."
    assert engine.requests[1].prompt.template == "thinking"
    assert not engine.requests[1].prompt.reply_ids
    assert record.generation is not None
    assert record.decision is not None
    assert record.decision.estimate is not None
    assert record.probe_tokens == record.decision.estimate.tokens > 0
    assert record.output_tokens == record.probe_tokens + record.generation.output_tokens


def test_without_a_ledger_nothing_is_kept_and_nothing_breaks() -> None:
    run, _, _ = pipeline(["hello"])
    run.ledger = None
    assert run.run(step(0.0)).reply.content == "hello"


class TestUnmeasured:
    def run(self, caplog, *intensities, frontier=None, **info):
        made, _, engine = pipeline(["a"] * 9)
        engine.info = dataclasses.replace(engine.info, **info)
        if frontier is not None:
            made.policy = made.policy.with_frontier(frontier)
        for intensity in intensities:
            made.run(step(intensity))
        return [record.getMessage() for record in caplog.records if "not measured" in record.getMessage()]

    def test_a_pair_that_nobody_measured_is_said_to_be_once_at_the_first_auto(self, caplog):
        assert self.run(caplog, 0.5, 1, device="cpu", fingerprint="unmeasured-1") == []
        said = self.run(caplog, 0.5, None, None, None, device="cpu", fingerprint="unmeasured-1", model="a+b")
        assert len(said) == 1
        assert said[0].startswith("a+b is not measured")
        assert "run: dami calibrate INSTRUCT THINKING" in said[0]
        assert len(self.run(caplog, None, device="cpu", fingerprint="unmeasured-2")) == 2

    def test_a_measured_one_is_not(self, caplog):
        frontier = Frontier.from_file(CheckpointPair.builtin().frontier_path)
        assert self.run(caplog, None, device="cpu", fingerprint="unmeasured-3", frontier=frontier) == []
