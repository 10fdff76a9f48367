"""Attempts: rejected replies are tried again with more λ, each on record, none shown twice; budgets hold throughout."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest

from dami_agent.errors import BudgetExhausted, CheckFailed, DeadlineExceeded, InvalidPolicy, OutputInvalid, RunError
from dami_agent.estimators import FixedEstimator
from dami_agent.pipeline import Outcome, Pipeline
from dami_agent.policy import BudgetTracker, ReasoningPolicy
from dami_agent.testing import FakeReply, fake_chat_model
from dami_agent.types import (
    CallRecord,
    Decision,
    Engine,
    Estimate,
    Intensity,
    Limits,
    Prompt,
    Reply,
    RunContext,
    Step,
    ToolChoice,
)
from tests.policy.support import FRONTIER, requested, step, user

BROKEN = '<tool_call>\n{"name": "add", "arguments": {"a": \n</tool_call>'


class Book:
    def __init__(self) -> None:
        self.rows: list[CallRecord] = []

    def record(self, record: CallRecord) -> None:
        self.rows.append(record)


def made(replies: Any, estimators: Any = None, **policy: Any) -> tuple[Pipeline, Book, Any]:
    model, book = fake_chat_model(replies), Book()
    own = ReasoningPolicy(frontier=FRONTIER, **policy)
    pipeline = Pipeline(
        engine=model.engine,
        dialogue=model.dialogue,
        policy=own,
        estimator=model.estimator,
        ledger=book,
        estimators=estimators,
    )
    return pipeline, book, model.engine


def adding(value: float | str = 0.0) -> Step:
    return step(user("Add 3."), intensity_request=requested(value), tools=("add",), root_run_id="run")


def test_a_broken_call_is_tried_again_deeper_and_shown_once() -> None:
    replies = [BROKEN, FakeReply(BROKEN, reasoning="hm"), FakeReply(reasoning="hm", tool_calls=[("add", {"a": 3})])]
    pipeline, book, engine = made(replies, escalation={"max_attempts": 3})
    items = list(pipeline.stream(adding()))
    outcome = items.pop()
    assert isinstance(outcome, Outcome)
    assert [(r.decision.attempt, float(r.decision.intensity), r.reply.accepted) for r in book.rows] == [
        (0, 0.0, False),
        (1, 0.2, False),
        (2, 0.6, True),
    ]
    assert len({row.step.run_context.call_id for row in book.rows}) == 1
    assert "invalid tool call" in book.rows[1].decision.reason
    assert "".join(d.text for d in items if d.kind == "reasoning") == outcome.reply.reasoning  # nothing shown twice
    assert [d.call for d in items if d.kind == "tool_call"] == list(outcome.reply.tool_calls)
    assert outcome.record is book.rows[-1]
    assert len(engine.requests) == 3


def test_the_last_attempt_streams_and_is_returned_as_it_is() -> None:
    pipeline, book, _ = made(lambda _: BROKEN, escalation={"max_attempts": 2})
    outcome = pipeline.run(adding())
    assert not outcome.reply.accepted
    assert len(outcome.reply.invalid_tool_calls) == 1
    assert len(book.rows) == 2
    stream = pipeline.stream(adding(1.0))  # no λ above: nothing is held back
    next(stream)
    assert len(book.rows) == 2
    stream.close()  # type: ignore[attr-defined]


def test_without_escalation_there_is_one_attempt() -> None:
    for escalation in ({"max_attempts": 1}, {"on": ["schema_failure"]}):
        pipeline, book, _ = made(lambda _: BROKEN, escalation=escalation)
        assert pipeline.run(adding()).reply.invalid_tool_calls
        assert len(book.rows) == 1


def test_a_verifier_and_a_schema_failure_ask_for_more() -> None:
    def even(_: Step, reply: Reply) -> bool:
        return int(reply.content) % 2 == 0

    replies = ["7", FakeReply(error=OutputInvalid("no JSON", text="{")), "8"]
    pipeline, book, _ = made(replies, escalation={"max_attempts": 3}, verifier=even)
    assert pipeline.run(adding()).reply.content == "8"
    assert [row.error is None for row in book.rows] == [True, False, True]
    assert "verifier" in book.rows[1].decision.reason
    assert "OutputInvalid" in book.rows[2].decision.reason


def test_an_async_verifier_is_an_error_and_accepts_nothing() -> None:
    async def never(_: Step, reply: Reply) -> bool:
        return False

    pipeline, book, _ = made(["7"], escalation={"max_attempts": 2}, verifier=never)
    with pytest.raises(CheckFailed, match="never is async"):
        pipeline.run(adding())
    assert "CheckFailed" in (book.rows[0].error or "")


@pytest.mark.parametrize("escalation", [{"max_attempts": 3, "on": ["verifier"]}, {"max_attempts": 3}])
def test_other_errors_are_not_tried_again(escalation: Any) -> None:
    error = RunError("the card fell off") if "on" not in escalation else OutputInvalid("no JSON")
    pipeline, book, engine = made([FakeReply("7", error=error)] * 3, escalation=escalation)
    with pytest.raises(type(error)):
        pipeline.run(adding())
    assert len(book.rows) == len(engine.requests) == 1


def test_every_attempt_is_paid_from_the_budget() -> None:
    pipeline, book, _ = made(lambda _: BROKEN, escalation={"max_attempts": 3}, run={"max_tokens": 5000})
    now = adding()
    pipeline.run(now)
    spent = pipeline.budgets.spent(pipeline.policy, now.run_context)
    assert spent.tokens == sum(row.output_tokens for row in book.rows)
    assert spent.steps == 3


def test_a_rejected_reply_is_better_than_none_where_no_budget_is_left_for_another() -> None:
    _, _, engine = made([])
    run = {"max_tokens": len(engine.encode(BROKEN)) + 1, "on_exhausted": "error"}
    broken = FakeReply(BROKEN + " and so on and on and on, until the budget has come to its end for good and all")
    pipeline, book, _ = made(lambda _: broken, escalation={"max_attempts": 3}, run=run)
    items = list(pipeline.stream(adding()))
    outcome = items.pop()
    assert isinstance(outcome, Outcome)
    assert [d.kind for d in items].count("invalid_tool_call") == len(outcome.reply.invalid_tool_calls)
    assert "BudgetExhausted" in (book.rows[-1].error or "")
    *rejected, accepted = book.rows[:-1]
    assert (outcome.record, outcome.rejected) == (accepted, tuple(rejected))
    assert not outcome.reply.accepted
    with pytest.raises(BudgetExhausted):
        pipeline.run(adding())


def test_failures_and_closed_streams_are_paid_too() -> None:
    replies = ["one two three four five six", FakeReply("x", error=RunError("nobody knows what it cost"))]
    pipeline, book, _ = made(replies, run={"max_tokens": 1000, "answer_reserve": 100, "on_exhausted": "end"})
    now = adding()
    stream = pipeline.stream(now)
    next(stream)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    seen = pipeline.budgets.spent(pipeline.policy, now.run_context).tokens
    assert 2 <= seen < 10
    reserved = -(-(1000 - seen - 100) // 2)  # half of what is not the final answer's
    with pytest.raises(RunError):
        pipeline.run(now)
    assert pipeline.budgets.spent(pipeline.policy, now.run_context).tokens == seen + reserved
    assert len(book.rows) == 2


def test_a_drained_run_answers_without_tools_and_then_refuses() -> None:
    run = {"max_tokens": 30, "answer_reserve": 10, "on_exhausted": "end"}
    pipeline, book, engine = made(lambda _: "a b c d e f g h i j k l m n o p", run=run)
    now = adding("auto")

    def run_on() -> None:
        for _ in range(30):
            pipeline.run(dataclasses.replace(now, run_context=RunContext(root_run_id="run")))

    with pytest.raises(BudgetExhausted):
        run_on()
    assert sum(row.output_tokens for row in book.rows) <= 30
    assert [row.decision.tools_disabled for row in book.rows if row.decision][-1]
    constraints = [request.prompt.constraint for request in engine.requests]
    assert constraints[0] != constraints[-1]  # the last may not call
    assert book.rows[-1].error is not None
    forced = dataclasses.replace(now, tool_choice=ToolChoice(mode="any"), run_context=RunContext(root_run_id="other"))
    assert pipeline.run(forced).reply


def test_a_rules_estimator_is_asked_by_name() -> None:
    rules = [{"name": "fixed", "estimator": "deep"}]
    deep = FixedEstimator(Intensity(1))
    pipeline, book, _ = made(["7"], {"deep": deep}, rules=rules)
    assert pipeline.run(adding("auto")).record.decision.intensity == 1
    assert book.rows[0].frontier == FRONTIER.fingerprint
    with pytest.raises(InvalidPolicy, match=r"(?s)no estimator is named 'deep'.*own: fixed"):
        made([], rules=rules)


def test_a_budget_never_asks_for_more_than_the_context_leaves() -> None:
    pipeline, _, engine = made(["7", "8"], run={"max_tokens": 100_000})
    engine.info = dataclasses.replace(engine.info, context_length=300)
    pipeline.run(adding(1.0))
    prompt, limits = engine.requests[0].prompt, engine.requests[0].decision.limits
    assert limits.max_tokens == 300 - len(prompt.token_ids)
    assert 0 < limits.answer_reserve <= limits.max_tokens // 2
    own = dataclasses.replace(adding(1.0), limits=Limits(max_tokens=999))  # the caller's own mistake is told
    pipeline.run(own)
    assert engine.requests[1].decision.limits.max_tokens == 999


# ---- time ------------------------------------------------------------------------------------------------------------

LATE = DeadlineExceeded("the deadline passed")
LONG = FakeReply("", reasoning="one two three", error=LATE)  # in the middle of its thought


def timed(replies: Any, on_exhausted: str = "end", **policy: Any) -> tuple[Pipeline, Book, Any]:
    """A budget of 1,000 seconds; an engine that ends a call at its deadline, without the wait."""
    return made(replies, run={"max_seconds": 1000, "on_exhausted": on_exhausted}, **policy)


@pytest.mark.parametrize("on_exhausted", ["end", "taper"])
@pytest.mark.parametrize("attempts", [1, 3])
def test_time_that_runs_out_in_a_thought_leaves_an_answer(on_exhausted: str, attempts: int) -> None:
    pipeline, book, engine = timed([LONG, "Seven."], on_exhausted, escalation={"max_attempts": attempts})
    outcome = pipeline.run(adding(0.6))
    assert (outcome.reply.content, outcome.reply.reasoning) == ("Seven.", "")
    first, last = book.rows
    assert "DeadlineExceeded" in (first.error or "")
    assert (last.decision.attempt, last.decision.intensity, last.decision.tools_disabled) == (1, 0, True)
    assert "DeadlineExceeded" in last.decision.reason
    assert outcome.attempts == (first, last)
    before, after = engine.requests
    assert 899 < before.decision.limits.timeout <= 900  # a tenth is kept
    assert 990 < after.decision.limits.timeout <= 1000
    assert before.prompt.constraint != after.prompt.constraint  # no call any more


@pytest.mark.parametrize("rejected", [BROKEN, "A whole reply."])
def test_an_attempt_has_what_the_others_have_left_of_the_caller_s_time(
    rejected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = {"verifier": lambda step, reply: False} if rejected != BROKEN else {}
    pipeline, book, engine = made([rejected, LONG], escalation={"max_attempts": 2}, **never)
    now = iter([100.0, 100.0, 120.0])  # the call begins, and each of its attempts
    monkeypatch.setattr("dami_agent.pipeline.time", SimpleNamespace(monotonic=lambda: next(now)))
    outcome = pipeline.run(dataclasses.replace(adding(0.0), limits=Limits(timeout=50)))
    assert [request.decision.limits.timeout for request in engine.requests] == [50, 30]
    assert [row.error is None for row in book.rows] == [True, False]
    assert (outcome.record, outcome.reply.accepted) == (book.rows[0], False)  # better than none


@pytest.mark.parametrize(
    ("plan", "asked"),
    [({"escalation": {"max_attempts": 2}, "verifier": lambda *_: False}, 0.6), ({"cascade": {}}, "auto")],
)
def test_time_that_ends_in_a_shown_answer_leaves_no_earlier_reply_to_a_stream(plan: Any, asked: Any) -> None:
    first = FakeReply("whole.", reasoning="hm", logprob=-1.0)
    pipeline, book, _ = made([first, FakeReply("beg", error=LATE, logprob=-1.0)], **plan)
    shown = []
    with pytest.raises(DeadlineExceeded):
        shown.extend(pipeline.stream(adding(asked)))
    assert len(book.rows) == 2
    pipeline, _, _ = made([first, FakeReply("beg", error=LATE, logprob=-1.0)], **plan)
    assert pipeline.run(adding(asked)).reply.content == "whole."  # nobody has seen the other
    pipeline, _, _ = made([first, FakeReply("", reasoning="so", error=LATE, logprob=-1.0)], **plan)
    *shown, _ = pipeline.stream(adding(asked))
    assert "".join(item.text for item in shown if item.kind == "text") == "whole."
    thoughts = "".join(item.text for item in shown if item.kind == "reasoning")
    assert thoughts == ("so" if "cascade" in plan else "so\n\nhm")


def test_time_that_ends_before_the_first_reply_is_an_error_whatever_may_follow() -> None:
    pipeline, book, _ = made([LONG, "never"], escalation={"max_attempts": 2})
    with pytest.raises(DeadlineExceeded):
        pipeline.run(dataclasses.replace(adding(0.0), limits=Limits(timeout=50)))
    assert len(book.rows) == 1


def test_time_that_runs_out_in_the_shown_answer_is_an_error() -> None:
    replies = [FakeReply("one two three", error=LATE), "Seven."]
    pipeline, book, _ = timed(replies)
    with pytest.raises(DeadlineExceeded):
        list(pipeline.stream(adding(0.0)))
    assert len(book.rows) == 1


def test_time_that_runs_out_in_the_final_answer_is_an_error() -> None:
    pipeline, book, _ = timed([LONG, FakeReply("", error=LATE), "never"])
    with pytest.raises(DeadlineExceeded):
        pipeline.run(adding(1.0))
    assert len(book.rows) == 2


def test_when_time_is_up_a_run_is_answered_once_and_then_refused() -> None:
    pipeline, _, _ = timed(lambda _: "Seven.")
    now = [5.0]
    pipeline.budgets = BudgetTracker(clock=lambda: now[0])
    with closing(pipeline.stream(adding(1.0))) as stream:
        next(stream)
        now[0] += 950
    last = pipeline.run(adding(1.0)).record.decision
    assert last is not None
    assert (last.intensity, last.tools_disabled, last.limits.timeout) == (0, True, 50)
    with closing(pipeline.stream(adding(1.0))) as stream:
        next(stream)
        now[0] += 50
    with pytest.raises(BudgetExhausted, match="no seconds left"):
        pipeline.run(adding(1.0))


@pytest.mark.parametrize(
    ("on_exhausted", "limits"), [("error", Limits()), ("end", Limits(timeout=800)), ("taper", Limits(timeout=800))]
)
def test_a_deadline_that_is_not_the_budgets_stays_one(on_exhausted: str, limits: Limits) -> None:
    pipeline, book, _ = timed([LONG, "Seven."], on_exhausted)
    with pytest.raises(DeadlineExceeded):
        pipeline.run(dataclasses.replace(adding(1.0), limits=limits))
    assert len(book.rows) == 1


def test_time_that_runs_out_in_a_probe_leaves_an_answer() -> None:
    class Slow:
        name = "slow"

        def estimate(self, prompt: Prompt, decision: Decision, engine: Engine) -> Estimate:
            engine.generate(prompt, decision)
            raise AssertionError("the probe takes longer than there is time")

    replies = [FakeReply("one two", error=LATE), "Seven."]
    pipeline, book, _ = timed(replies, estimators={"slow": Slow()}, default={"estimator": "slow"})
    assert pipeline.run(adding("auto")).reply.content == "Seven."
    assert [row.error is None for row in book.rows] == [False, True]


def test_cost_by_the_second_leaves_an_answer_too() -> None:
    run = {"max_cost": 1.0, "price": {"device_second": 0.001}, "on_exhausted": "end"}
    pipeline, _, engine = made([LONG, "Seven."], run=run)
    assert pipeline.run(adding(1.0)).reply.content == "Seven."
    assert engine.requests[0].decision.limits.timeout == 500  # half: another call may run beside it
    assert engine.requests[1].decision.limits.timeout == 500  # what it had set aside was charged: nobody knows better
