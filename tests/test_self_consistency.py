"""Second tries: more replies where the first is unsure, the majority's answer, stopped when it cannot change."""

from __future__ import annotations

import dataclasses
import itertools
import math
from contextlib import closing, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda, RunnableParallel

from dami_agent import ChatDAMI
from dami_agent.errors import BudgetExhausted, DeadlineExceeded, InvalidPolicy, OutputInvalid, RunError
from dami_agent.ledger import Ledger
from dami_agent.policy import ReasoningPolicy
from dami_agent.policy.plans import SelfConsistency, Vote, chance_to_lead, closed, elected
from dami_agent.tasks import questions
from dami_agent.testing import FakeReply, fake_chat_model
from tests.test_escalation import BROKEN, adding, made

SURE, UNSURE = math.log(0.95), math.log(0.4)


def said(text: str, probability: float = 0.4, **more: Any) -> FakeReply:
    return FakeReply(text, reasoning="hm", logprob=math.log(probability), **more)


def contents(book: Any) -> list[str]:
    return [row.reply.content for row in book.rows if row.reply]


# ---- the vote --------------------------------------------------------------------------------------------------------


def test_a_sure_first_reply_stands_alone() -> None:
    pipeline, book, engine = made([said("7", 0.95)], self_consistency={"samples": 3, "accept": 0.9})
    outcome = pipeline.run(adding(0.6))
    assert (outcome.reply.content, outcome.reply.accepted, len(book.rows)) == ("7", True, 1)
    assert "confidence 0.95, 0.9 is enough" in book.rows[0].decision.reason
    assert len(engine.requests) == 1


def test_the_majority_is_taken_the_most_probable_reply_of_it_and_the_rows_say_which() -> None:
    replies = [said("9"), said("It is 7.", 0.5), said("8"), said("7", 0.6), said("The answer: 7", 0.3)]
    pipeline, book, _ = made(replies, self_consistency={"samples": 5})
    outcome = pipeline.run(adding(0.6))
    assert outcome.reply.content == "7"
    assert contents(book) == ["9", "It is 7.", "8", "7", "The answer: 7"]
    assert [row.reply.accepted for row in book.rows] == [False, False, False, True, False]
    assert "3 of 5 replies say so" in book.rows[3].decision.reason
    assert {float(row.decision.intensity) for row in book.rows} == {0.6}
    assert [row.decision.sample for row in book.rows] == [0, 1, 2, 3, 4]
    assert set(map(id, outcome.attempts)) == set(map(id, book.rows))
    assert outcome.record is book.rows[3]
    assert len({row.step.run_context.call_id for row in book.rows}) == 1


@pytest.mark.parametrize(
    ("answers", "samples", "drawn"),
    [
        (["7", "7", "7", "1", "1"], 5, 3),
        (["7", "7", "1", "7", "1"], 5, 4),
        (["7", "1", "7", "1", "2"], 5, 5),
        (["7", "7", "1"], 3, 2),
        (["7", "7", "1", "1"], 4, 4),
    ],
)
def test_it_stops_as_soon_as_the_majority_can_no_longer_change(answers: list[str], samples: int, drawn: int) -> None:
    pipeline, book, _ = made([said(each) for each in answers], self_consistency={"samples": samples})
    assert pipeline.run(adding(0.6)).reply.content == "7"
    assert len(book.rows) == drawn


votes = st.lists(
    st.builds(
        Vote,
        answer=st.sampled_from(["a", "b", "c", None]),
        logprob=st.none() | st.floats(-5, 0),
    ),
    min_size=1,
    max_size=6,
)


@given(votes)
def test_what_is_stopped_early_is_what_all_samples_would_have_elected(drawn: list[Vote]) -> None:
    spec = SelfConsistency(samples=len(drawn) if len(drawn) > 1 else 2)
    for count in range(1, len(drawn)):
        if closed(spec, drawn[:count]):
            assert drawn[elected(drawn[:count])].answer == drawn[elected(drawn)].answer
            rest = spec.samples - count
            for more in itertools.product(["a", "b", "c", None], repeat=min(rest, 3)):
                whole = [*drawn[:count], *(Vote(answer=each, logprob=0.0) for each in more)]
                assert whole[elected(whole)].answer == drawn[elected(drawn[:count])].answer
            break


def test_ties_go_to_the_most_probable_and_replies_without_an_answer_have_no_vote() -> None:
    assert elected([Vote(answer="a", logprob=-2), Vote(answer="b", logprob=-1)]) == 1
    assert elected([Vote(answer="a", logprob=-2), Vote(answer="b", logprob=-1), Vote(answer="a", logprob=-3)]) == 0
    assert elected([Vote(answer=None, logprob=0), Vote(answer="b", logprob=-9)]) == 1
    assert elected([Vote(answer="a"), Vote(answer="b")]) == 0  # an engine that does not tell
    pipeline, book, _ = made([said("", 0.9), said(BROKEN, 0.9), said("7")], self_consistency={"samples": 3})
    assert pipeline.run(adding(0.6)).reply.content == "7"
    assert len(book.rows) == 3


def test_certainty_below_one_stops_by_the_beta_criterion() -> None:
    for first, second in itertools.product(range(6), range(4)):
        steps = 4000
        a, b = first + 1, second + 1
        norm = math.gamma(a + b) / math.gamma(a) / math.gamma(b)
        points = (0.5 + (place + 0.5) / (2 * steps) for place in range(steps))
        area = sum(p ** (a - 1) * (1 - p) ** (b - 1) for p in points) / (2 * steps) * norm
        assert chance_to_lead(first, second) == pytest.approx(area, abs=1e-5)
    pipeline, book, _ = made(lambda _: said("7"), self_consistency={"samples": 9, "certainty": 0.95})
    pipeline.run(adding(0.6))
    assert len(book.rows) == 4  # 31/32; sure by count alone it is after 5
    pipeline, book, _ = made(lambda _: said("7"), self_consistency={"samples": 9})
    pipeline.run(adding(0.6))
    assert len(book.rows) == 5


def test_replies_that_a_verifier_rejects_have_no_vote() -> None:
    pipeline, _, _ = made(
        [said("9"), said("9"), said("7")],
        self_consistency={"samples": 3},
        verifier=lambda step, reply: reply.content != "9",
    )
    assert pipeline.run(adding(0.6)).reply.content == "7"


# ---- λ, seeds, what is shown -----------------------------------------------------------------------------------------


def test_it_keeps_the_estimates_lambda_and_asks_the_estimator_once() -> None:
    pipeline, book, _ = made([said("7"), said("8"), said("7")], self_consistency={"samples": 3})
    pipeline.run(adding("auto"))
    assert {float(row.decision.intensity) for row in book.rows} == {0.6}  # the fake's 0.5, snapped
    assert [row.decision.estimate is not None for row in book.rows] == [True, False, False]
    assert book.rows[0].decision.estimate.features["reply_confidence"] == pytest.approx(0.4)


def test_each_sample_has_a_stream_of_its_own_and_greedy_decoding_has_one() -> None:
    sampling = dataclasses.replace(adding().sampling, seed=5)
    pipeline, _, engine = made([said("7"), said("8"), said("7")], self_consistency={"samples": 3})
    pipeline.run(dataclasses.replace(adding(0.6), sampling=sampling))
    assert [request.decision.sampling.seed for request in engine.requests] == [5, 6, 7]
    pipeline, book, _ = made(["7"], self_consistency={"samples": 3})
    pipeline.run(dataclasses.replace(adding(0.0), sampling=dataclasses.replace(sampling, temperature=0)))
    assert len(book.rows) == 1


async def test_streamed_or_not_the_elected_reply_alone_is_shown() -> None:
    replies = [said("nine"), said("7"), said("It is 7.")]
    policy = {"self_consistency": {"samples": 3}}

    def model() -> ChatDAMI:
        return fake_chat_model(replies, policy=policy)

    invoked, chunks = model().invoke("?"), list(model().stream("?"))
    achunks = [chunk async for chunk in model().astream("?")]
    ainvoked = await model().ainvoke("?")
    for message in (invoked, ainvoked, sum(chunks[1:], chunks[0]), sum(achunks[1:], achunks[0])):
        assert message.text == "7"
        assert message.response_metadata["attempts"] == 3
        assert message.usage_metadata["output_tokens"] == invoked.usage_metadata["output_tokens"]
    kept = model()
    kept.invoke("?")
    assert invoked.usage_metadata["output_tokens"] == sum(row.output_tokens for row in kept.ledger.rows())
    assert "nine" not in "".join(chunk.text for chunk in [*chunks, *achunks])


def test_a_stream_closed_in_a_later_sample_has_put_all_on_record() -> None:
    class Closing(Exception):
        pass

    def reply(request: Any) -> FakeReply:
        if len(engine.requests) == 3:
            raise Closing
        return said("7" if len(engine.requests) == 1 else "8")

    pipeline, book, engine = made(reply, self_consistency={"samples": 5})
    with pytest.raises(Closing):
        pipeline.run(adding(0.6))
    assert sorted(row.decision.attempt for row in book.rows if row.decision) == [0, 1, 2]
    pipeline, book, _ = made([said("7 7 7"), said("7")], self_consistency={"samples": 2})
    with closing(pipeline.stream(adding(0.6))) as stream:
        next(stream)
    assert [row.reply.accepted for row in book.rows] == [True, False]


def test_tools_run_once() -> None:
    ran: list[tuple[int, int]] = []

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        ran.append((a, b))
        return a + b

    calls = [FakeReply(tool_calls=[("add", {"a": n, "b": 4})], logprob=UNSURE) for n in (9, 3, 3)]
    model = fake_chat_model([*calls, *[said("It is 7.", 0.99)] * 2], policy={"self_consistency": {"samples": 3}})
    messages = create_agent(model, [add]).invoke({"messages": [HumanMessage("3 + 4?")]})["messages"]
    assert ran == [(3, 4)]
    assert messages[-1].text == "It is 7."


# ---- failures, budgets, time -----------------------------------------------------------------------------------------


def test_a_sample_that_fails_its_form_has_no_vote_and_other_errors_end_the_call() -> None:
    bad = FakeReply("{", error=OutputInvalid("no JSON"))
    pipeline, book, _ = made([bad, said("7"), said("7")], self_consistency={"samples": 3})
    assert pipeline.run(adding(0.6)).reply.content == "7"
    assert [row.error is None for row in book.rows] == [False, True, True]
    pipeline, book, _ = made([said("7"), bad, bad], self_consistency={"samples": 3})
    outcome = pipeline.run(adding(0.6))
    assert outcome.reply.content == "7"
    assert sum(row.output_tokens for row in outcome.attempts) == sum(row.output_tokens for row in book.rows)
    pipeline, book, _ = made([bad] * 3, self_consistency={"samples": 3})
    with pytest.raises(OutputInvalid):
        pipeline.run(adding(0.6))
    assert len(book.rows) == 3
    pipeline, book, _ = made([said("7"), FakeReply(error=RunError("the card fell off"))], self_consistency={})
    with pytest.raises(RunError, match="card fell off"):
        pipeline.run(adding(0.6))
    assert sorted(row.decision.attempt for row in book.rows) == [0, 1]


def test_what_was_drawn_is_voted_on_where_time_or_window_end() -> None:
    late = FakeReply("", reasoning="one two", error=DeadlineExceeded("late"))
    for run in ({}, {"max_seconds": 1000, "on_exhausted": "end"}):
        pipeline, book, _ = made(
            [said("9"), said("7", 0.9), late], self_consistency={"samples": 5, "accept": None}, run=run
        )
        outcome = pipeline.run(adding(0.6))
        assert outcome.reply.content == "7"
        assert sum(row.output_tokens for row in outcome.attempts) == sum(row.output_tokens for row in book.rows)


def unsure(request: Any) -> FakeReply:
    return said("seven " * 6)


def test_a_budget_is_never_exceeded_and_bounds_the_samples() -> None:
    for most, on_exhausted in itertools.product(range(40, 400, 40), ("error", "end", "taper")):
        run = {"max_tokens": most, "on_exhausted": on_exhausted}
        pipeline, book, _ = made(unsure, self_consistency={"samples": 5}, run=run)
        with suppress(BudgetExhausted):
            for _ in range(6):
                pipeline.run(adding(0.6))
        spent = pipeline.budgets.spent(pipeline.policy, adding().run_context).tokens
        assert sum(row.output_tokens for row in book.rows) == spent <= most


def test_an_attempt_that_no_budget_had_room_for_has_its_number_on_record() -> None:
    policy = {"self_consistency": {"accept": None}, "run": {"max_tokens": 24, "on_exhausted": "end"}}
    model = fake_chat_model(lambda _: said("seven of them"), policy=policy)
    model.invoke("?")
    rows = model.ledger.rows()
    assert "no room for another reply" in rows[-1].error
    assert [row.attempt for row in rows] == list(range(len(rows)))
    assert model.ledger.verify().problems == ()


def test_parallel_votes_stay_within_the_budget_together() -> None:
    for on_exhausted in ("error", "end", "taper"):
        run = {"max_tokens": 500, "on_exhausted": on_exhausted}
        model = fake_chat_model(unsure, policy={"self_consistency": {"samples": 4}, "run": run}, seconds_per_token=1e-4)

        def ask(_: Any, model: Any = model) -> str:
            try:
                return str(model.invoke("?").text)
            except BudgetExhausted:
                return "none"

        RunnableParallel({str(n): RunnableLambda(ask) for n in range(8)}).invoke("go", {"max_concurrency": 8})
        assert 0 < sum(row.output_tokens for row in model.ledger.rows()) <= 500


# ---- what a policy may say -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"samples": 1}, "greater than or equal to 2"),
        ({"samples": 33}, "less than or equal to 32"),
        ({"certainty": 0.5}, "above 0.5"),
        ({"accept": -1}, r"not a number in \[0, 1\]"),
        ({"measure": "sum"}, "'min' or 'mean'"),
    ],
)
def test_what_makes_no_sense_is_refused_up_front(wrong: Any, message: str) -> None:
    with pytest.raises(InvalidPolicy, match=message):
        ReasoningPolicy(self_consistency=wrong)


@pytest.mark.slow
def test_the_built_in_pair_votes_reproducibly() -> None:
    asked = [question.prompt for question in questions("calibration", 4, seed=5)]

    def answers() -> list[tuple[Any, ...]]:
        policy = {"self_consistency": {"samples": 3, "accept": None}}
        model = ChatDAMI(seed=3, max_tokens=200, ledger=Ledger.open(":memory:"), policy=policy)
        found = [model.invoke(prompt) for prompt in asked]
        rows = model.ledger.rows()
        assert sum(message.usage_metadata["output_tokens"] for message in found) == sum(r.output_tokens for r in rows)
        assert len({row.call_id for row in rows if row.accepted}) == len(asked)
        return [(message.content, message.response_metadata["attempts"]) for message in found]

    assert answers() == answers()
