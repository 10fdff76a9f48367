"""Cascades: a low λ first, the next one where a check fails; nothing shown twice, no tool run twice, budgets hold."""

from __future__ import annotations

import dataclasses
import math
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda, RunnableParallel
from typer.testing import CliRunner

from dami_agent import ChatDAMI
from dami_agent.cli.app import app
from dami_agent.errors import BudgetExhausted, CheckFailed, DeadlineExceeded, InvalidPolicy, InvalidRequest
from dami_agent.estimators.reply_confidence import reply_confidence
from dami_agent.integrations.policy_injection import run_policy
from dami_agent.ledger import Ledger
from dami_agent.pipeline import Outcome
from dami_agent.policy import Cascade, ReasoningPolicy
from dami_agent.tasks import questions
from dami_agent.testing import FakeReply, fake_chat_model
from dami_agent.types import Intensity, Limits, Message, Reply
from tests.policy.support import FRONTIER
from tests.test_escalation import BROKEN, adding, made

SURE, UNSURE = math.log(0.95), math.log(0.4)


def low(text: str, logprob: float = UNSURE) -> FakeReply:
    return FakeReply(text, logprob=logprob)


def deep(text: str) -> FakeReply:
    return FakeReply(text, reasoning="let me see", logprob=SURE)


def is_even(messages: tuple[Message, ...], reply: Reply) -> bool:
    """A user's check, named ``tests.test_cascade:is_even`` in policies."""
    assert messages[-1].content
    return reply.content.strip().isdigit() and int(reply.content) % 2 == 0


def fails(messages: tuple[Message, ...], reply: Reply) -> bool:
    raise ZeroDivisionError("a bug in the check")


async def later(messages: tuple[Message, ...], reply: Reply) -> bool:
    return True


def lambdas(book: Any) -> list[float]:
    return [float(row.decision.intensity) for row in book.rows]


# ---- what it does ----------------------------------------------------------------------------------------------------


def test_a_confident_reply_stands_and_an_unsure_one_is_followed_by_a_deeper_one() -> None:
    pipeline, book, engine = made([low("7", SURE)], cascade={"accept": 0.9})
    outcome = pipeline.run(adding("auto"))
    assert (outcome.reply.content, outcome.reply.accepted, len(outcome.attempts)) == ("7", True, 1)
    assert "cascade 0 → 1: first; confidence 0.95, 0.9 is enough" in book.rows[0].decision.reason
    assert book.rows[0].decision.estimate.features["reply_confidence"] == pytest.approx(0.95)

    pipeline, book, engine = made([low("7"), deep("8")], cascade={"accept": 0.9})
    outcome = pipeline.run(adding("auto"))
    assert outcome.reply.content == "8"
    assert lambdas(book) == [0, 1]
    assert [row.reply.accepted for row in book.rows] == [False, True]
    assert "attempt 1 after λ=0: confidence 0.4 is below 0.9" in book.rows[1].decision.reason
    assert outcome.attempts == tuple(book.rows)
    assert len(engine.requests) == 2


def test_it_goes_up_all_its_lambdas_and_the_last_is_not_checked() -> None:
    cascade = {"intensities": [0, 0.5, 1], "check": fails}
    seen: list[str] = []

    def never_right(messages: tuple[Message, ...], reply: Reply) -> bool:
        seen.append(reply.content)
        return False

    pipeline, book, _ = made([low("1"), deep("2"), deep("3")], cascade={**cascade, "check": never_right})
    assert pipeline.run(adding("auto")).reply.content == "3"
    assert lambdas(book) == [0, 0.5, 1]  # as written: not snapped to the grid
    assert seen == ["1", "2"]
    assert book.rows[-1].reply.accepted


def test_two_replies_that_agree_stand_and_two_that_differ_do_not() -> None:
    pipeline, book, engine = made(["It is 7.", "7"], cascade={"check": "agreement"})
    outcome = pipeline.run(adding("auto"))
    assert outcome.reply.content == "7"
    assert lambdas(book) == [0, 0]
    assert "two replies agree" in book.rows[1].decision.reason
    assert [request.decision.sampling.seed for request in engine.requests] == [None, None]

    pipeline, book, _ = made(["7", "9", deep("8")], cascade={"check": "agreement"})
    assert pipeline.run(adding("auto")).reply.content == "8"
    assert lambdas(book) == [0, 0, 1]
    assert "two replies disagree" in book.rows[2].decision.reason


def test_a_seed_draws_two_different_streams_and_the_same_ones_again() -> None:
    step = dataclasses.replace(adding("auto"), sampling=dataclasses.replace(adding().sampling, seed=5))
    seeds = []
    for _ in range(2):
        pipeline, _, engine = made(["7", "9", deep("8")], cascade={"check": "agreement"})
        pipeline.run(step)
        seeds.append([request.decision.sampling.seed for request in engine.requests])
    assert seeds == [[5, 6, 5]] * 2


def test_greedy_decoding_has_nothing_to_compare() -> None:
    step = dataclasses.replace(adding("auto"), sampling=dataclasses.replace(adding().sampling, temperature=0))
    pipeline, _, engine = made([], cascade={"check": "agreement"})
    with pytest.raises(InvalidRequest, match="temperature=0 draws the same one twice"):
        pipeline.run(step)
    assert not engine.requests
    pipeline, _, _ = made([low("7", SURE)], cascade={})
    assert pipeline.run(step).reply.content == "7"  # a confidence it has


@pytest.mark.parametrize("check", [is_even, "tests.test_cascade:is_even"])
def test_a_users_own_check_sees_messages_and_reply(check: Any) -> None:
    pipeline, book, _ = made(["7", deep("8")], cascade={"check": check})
    assert pipeline.run(adding("auto")).reply.content == "8"
    assert "rejected by the cascade's check" in book.rows[1].decision.reason
    pipeline, book, _ = made(["6"], cascade={"check": check})
    assert pipeline.run(adding("auto")).reply.content == "6"


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (fails, "fails of the cascade failed: ZeroDivisionError: a bug in the check"),
        (later, "later of the cascade is async"),
        (lambda messages, reply: None, "returned None, neither True nor False"),
        (lambda reply: True, "TypeError"),
    ],
)
def test_a_check_that_cannot_tell_is_an_error_of_ours_and_what_was_decoded_is_on_record(check: Any, said: str) -> None:
    pipeline, book, _ = made(["7", deep("8")], cascade={"check": check}, run={"max_tokens": 500})
    step = adding("auto")
    with pytest.raises(CheckFailed, match=said):
        pipeline.run(step)
    (row,) = book.rows
    assert "CheckFailed" in row.error
    assert row.output_tokens == pipeline.budgets.spent(pipeline.policy, step.run_context).tokens > 0


def test_a_broken_call_and_an_empty_reply_are_followed_by_a_deeper_one_whatever_the_check() -> None:
    for reply, check in ((BROKEN, "confidence"), (BROKEN, "agreement"), ("", "agreement"), ("", "confidence")):
        call = FakeReply(reasoning="hm", tool_calls=[("add", {"a": 3})])
        pipeline, book, _ = made([low(reply), call], cascade={"check": check})
        assert pipeline.run(adding("auto")).reply.tool_calls
        assert lambdas(book) == [0, 1]


def test_an_engine_without_log_probabilities_cannot_be_confident() -> None:
    pipeline, book, _ = made(["7"], cascade={})
    with pytest.raises(InvalidRequest, match="gave no log-probabilities"):
        pipeline.run(adding("auto"))
    assert len(book.rows) == 1


# ---- where it begins, and who goes before it -------------------------------------------------------------------------


def test_a_lambda_that_was_asked_for_is_no_cascades() -> None:
    for asked in (0.6, "low", 0.0):
        pipeline, book, engine = made([low("7")], cascade={})
        pipeline.run(adding(asked))
        assert len(book.rows) == 1
        assert book.rows[0].decision.plan == ""
        assert engine.requests[0].decision.sampling.logprobs is None
    rules = [{"name": "own", "estimator": "fixed"}]
    pipeline, book, _ = made([deep("7")], cascade={}, rules=rules)
    pipeline.run(adding("auto"))
    assert book.rows[0].decision.estimate.estimator == "fixed"


def test_bounds_hold_for_every_lambda_of_it() -> None:
    rules = [{"name": "some", "intensity": (0.2, 0.8)}]
    pipeline, book, _ = made([deep("7"), deep("8")], cascade={"check": lambda messages, reply: False}, rules=rules)
    pipeline.run(adding("auto"))
    assert lambdas(book) == [0.2, 0.8]
    pipeline, book, _ = made(["7"], cascade={"check": fails}, rules=[{"name": "none", "intensity": (0, 0)}])
    pipeline.run(adding("auto"))
    assert lambdas(book) == [0]


def test_it_is_off_unless_a_policy_says_so() -> None:
    assert ReasoningPolicy().cascade is None
    assert ReasoningPolicy().attempts == 2  # a tool call that cannot be read is asked for once more
    assert ReasoningPolicy.from_dict({"cascade": {}}).cascade == Cascade()


# ---- what is shown, and what is run ----------------------------------------------------------------------------------


def test_a_stream_shows_nothing_of_a_rejected_reply() -> None:
    pipeline, _, _ = made([low("seven it is"), deep("8")], cascade={})
    items = list(pipeline.stream(adding("auto")))
    assert "".join(item.text for item in items[:-1] if item.kind == "text") == "8"
    assert "".join(item.text for item in items[:-1] if item.kind == "reasoning") == "let me see"
    pipeline, book, _ = made([low("7", SURE)], cascade={})
    items = list(pipeline.stream(adding("auto")))
    assert [item.text for item in items[:-1]] == ["7"]
    pipeline, book, _ = made([low("7"), deep("eight of them all")], cascade={})
    with_last = pipeline.stream(adding("auto"))
    next(with_last)
    assert len(book.rows) == 1  # the last λ's reply streams: it is not on record yet
    with_last.close()  # type: ignore[attr-defined]
    assert "GeneratorExit" in book.rows[1].error


async def test_all_ways_to_call_a_model_give_the_same_and_count_all_attempts() -> None:
    replies = [low("seven"), deep("8")]
    policy = {"cascade": {"accept": 0.9}}
    invoked = fake_chat_model(replies, policy=policy).invoke("?")
    ainvoked = await fake_chat_model(replies, policy=policy).ainvoke("?")
    chunks = list(fake_chat_model(replies, policy=policy).stream("?"))
    achunks = [chunk async for chunk in fake_chat_model(replies, policy=policy).astream("?")]
    (batched,) = fake_chat_model(replies, policy=policy).batch(["?"])
    for parts in (chunks, achunks):
        assert "seven" not in "".join(part.text for part in parts)
    summed = [sum(chunks[1:], chunks[0]), sum(achunks[1:], achunks[0])]
    model = fake_chat_model(replies, policy=policy)
    model.invoke("?")
    tokens = sum(row.output_tokens for row in model.ledger.rows())
    for message in (invoked, ainvoked, batched, *summed):
        assert message.text == "8"
        assert message.usage_metadata["output_tokens"] == tokens
        assert message.response_metadata["attempts"] == 2
        assert message.response_metadata["intensity"] == 1
        assert "logprobs" not in message.response_metadata


def test_tools_run_once_whatever_was_rejected() -> None:
    ran: list[tuple[int, int]] = []

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        ran.append((a, b))
        return a + b

    for check, tries in (("confidence", 1), ("agreement", 2)):
        ran.clear()
        wrong = [FakeReply(tool_calls=[("add", {"a": n, "b": 9})], logprob=UNSURE) for n in range(tries)]
        right = FakeReply(reasoning="hm", tool_calls=[("add", {"a": 3, "b": 4})], logprob=SURE)
        sure = FakeReply("It is 7.", logprob=SURE)
        model = fake_chat_model([*wrong, right, *[sure] * tries], policy={"cascade": {"check": check}})
        agent = create_agent(model, [add])
        said = agent.invoke({"messages": [HumanMessage("3 + 4?")]})["messages"]
        assert ran == [(3, 4)]
        assert said[-1].text == "It is 7."
        assert [len(message.tool_calls) for message in said if message.type == "ai"] == [1, 0]
        assert len(model.ledger.rows()) == 2 * tries + 1


def test_two_replies_agree_that_call_the_same_tools() -> None:
    call = FakeReply(tool_calls=[("add", {"a": 3})])
    pipeline, book, _ = made([call, FakeReply("Well.", tool_calls=[("add", {"a": 3})])], cascade={"check": "agreement"})
    outcome = pipeline.run(adding("auto"))
    assert len(outcome.reply.tool_calls) == 1
    assert lambdas(book) == [0, 0]


# ---- budgets and time ------------------------------------------------------------------------------------------------


def long_or_short(request: Any) -> FakeReply:
    return deep("eight " * 9) if request.prompt.in_thought else low("seven " * 9)


def test_every_attempt_is_paid_and_a_budget_is_never_exceeded() -> None:
    for most in range(20, 300, 15):
        for on_exhausted in ("error", "end", "taper"):
            run = {"max_tokens": most, "on_exhausted": on_exhausted}
            pipeline, book, _ = made(
                lambda r: deep("eight " * 9) if r.prompt.in_thought else low("7 " * 9), cascade={}, run=run
            )
            try:
                for _ in range(8):
                    pipeline.run(dataclasses.replace(adding("auto")))
            except BudgetExhausted:
                pass
            spent = pipeline.budgets.spent(pipeline.policy, adding().run_context).tokens
            assert sum(row.output_tokens for row in book.rows) == spent <= most


def test_parallel_cascades_stay_within_the_budget_together() -> None:
    for on_exhausted in ("error", "end", "taper"):
        run = {"max_tokens": 400, "on_exhausted": on_exhausted}
        model = fake_chat_model(long_or_short, policy={"cascade": {}, "run": run}, seconds_per_token=1e-4)

        def ask(_: Any, model: Any = model) -> str:
            try:
                return str(model.invoke("?").text)
            except BudgetExhausted:
                return "none"

        branches = {str(n): RunnableLambda(ask) for n in range(8)}
        RunnableParallel(branches).invoke("go", {"max_concurrency": 8})
        rows = model.ledger.rows()
        assert 0 < sum(row.output_tokens for row in rows) <= 400
        assert len({row.root_run_id for row in rows}) == 1


def test_the_reply_stands_where_no_budget_is_left_for_a_deeper_one() -> None:
    _, _, engine = made([])
    first = len(engine.encode("7 of them"))
    for check, more in ((lambda messages, reply: False, 1), (lambda messages, reply: False, 63), ("agreement", 1)):
        run = {"max_tokens": first + more, "on_exhausted": "error"}
        pipeline, book, _ = made([low("7 of them")] * 2 + [deep("8")], cascade={"check": check}, run=run)
        items = list(pipeline.stream(adding("auto")))
        assert "".join(item.text for item in items[:-1]) == "7 of them"
        assert isinstance(items[-1], Outcome)
        assert not items[-1].reply.accepted
        assert "BudgetExhausted" in book.rows[-1].error
    for on_exhausted in ("end", "taper"):  # what is kept for the final answer is not spent on another λ=0
        run = {"max_tokens": 3 * first, "on_exhausted": on_exhausted, "answer_reserve": first}
        pipeline, book, _ = made([low("7 of them"), deep("8")], cascade={"check": lambda m, r: False}, run=run)
        assert pipeline.run(adding("auto")).reply.content == "7 of them"
        assert sum(row.output_tokens for row in book.rows) == first


def test_all_attempts_share_the_callers_time() -> None:
    late = FakeReply("", reasoning="one two three", error=DeadlineExceeded("the deadline passed"))
    pipeline, book, engine = made([low("7"), late], cascade={})
    step = dataclasses.replace(adding("auto"), limits=Limits(timeout=50))
    outcome = pipeline.run(step)
    assert outcome.reply.content == "7"  # better than none
    assert engine.requests[1].decision.limits.timeout < 50
    assert sum(row.output_tokens for row in outcome.attempts) == sum(row.output_tokens for row in book.rows)


# ---- what a policy may say -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"intensities": [1, 0]}, "do not rise"),
        ({"intensities": [0.5]}, "a list of 2 to 10 λs"),
        ({"intensities": [0, 1.5]}, r"numbers in \[0, 1\]"),
        ({"intensities": [0, True]}, r"numbers in \[0, 1\]"),
        ({"intensities": [0, Intensity("ffn=0.9,other=0.5")]}, r"numbers in \[0, 1\]"),
        ({"check": "confident"}, "'confident' is no check"),
        ({"check": "no_such_module:f"}, "cannot be imported: ModuleNotFoundError"),
        ({"check": "tests.test_cascade:nothing"}, "cannot be imported: AttributeError"),
        ({"check": "tests.test_cascade:SURE"}, r"is -0\.05\d+, not a function"),
        ({"check": 3}, "3 is no check"),
        ({"accept": 2}, r"not a number in \[0, 1\]"),
        ({"check": "agreement", "accept": 0.5}, "accept says something of check: confidence alone"),
        ({"treshold": 0.5}, "unknown key 'treshold'"),
    ],
)
def test_what_makes_no_sense_is_refused_up_front(given: Any, said: str) -> None:
    with pytest.raises(InvalidPolicy, match=said):
        ReasoningPolicy(cascade=given)


def test_a_file_is_refused_by_line_and_two_plans_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("name: x\ncascade:\n  intensities: [1, 0]\n", encoding="utf-8")
    with pytest.raises(InvalidPolicy, match=r"policy.yaml:3: cascade.intensities: the λs"):
        ReasoningPolicy.from_file(path)
    path = tmp_path / "policy.toml"
    path.write_text('[cascade]\ncheck = "agreement"\n[self_consistency]\nsamples = 3\n', encoding="utf-8")
    with pytest.raises(InvalidPolicy, match="self_consistency: beside a cascade"):
        ReasoningPolicy.from_file(path)
    with pytest.raises(InvalidPolicy, match="a cascade takes the estimator's place"):
        ReasoningPolicy.from_dict({"cascade": {}, "default": {"estimator": "confidence"}})


def test_a_policy_with_a_function_is_the_same_in_every_process() -> None:
    one, other = (ReasoningPolicy(cascade={"check": is_even}) for _ in range(2))
    assert one.fingerprint == other.fingerprint != ReasoningPolicy(cascade={"check": fails}).fingerprint
    assert "check=tests.test_cascade.is_even" in repr(one)
    again = pickle.loads(pickle.dumps(one))
    assert (again.cascade.check, again.fingerprint) == (is_even, one.fingerprint)


def test_a_policy_that_a_run_brings_along_names_no_code() -> None:
    given = {"cascade": {"check": "os:getcwd"}}
    with pytest.raises(InvalidPolicy, match="names code"):
        run_policy({"configurable": {"policy": given}}, None)
    found = run_policy({"configurable": {"policy": {"cascade": {"check": "agreement"}}}}, None)
    assert found is not None
    assert found.cascade == Cascade(check="agreement")


# ---- the built-in pair -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair() -> ChatDAMI:
    return ChatDAMI(seed=3, max_tokens=400, ledger=Ledger.open(":memory:"))


def under(pair: ChatDAMI, cascade: dict[str, Any]) -> ChatDAMI:
    policy = {"cascade": cascade}
    return ChatDAMI(seed=3, max_tokens=400, ledger=Ledger.open(":memory:"), policy=policy)


@pytest.mark.slow
def test_the_built_in_pair_answers_easy_questions_low_and_others_high_reproducibly(pair: ChatDAMI) -> None:
    asked = [question.prompt for question in questions("calibration", 14, seed=5)]
    for cascade in ({"accept": 0.8}, {"check": "agreement"}):
        model = under(pair, cascade)
        first = [model.invoke(prompt) for prompt in asked]
        last = [message.response_metadata["intensity"] for message in first]
        assert set(last) == {0, 1}
        with ThreadPoolExecutor(4) as pool:
            again = list(pool.map(under(pair, cascade).invoke, asked))
        assert [message.content for message in again] == [message.content for message in first]
        for row in model.ledger.rows():
            assert row.features.get("reply_calibrated", 1.0) == 1.0
        paid = sum(message.usage_metadata["output_tokens"] for message in first)
        assert paid == sum(row.output_tokens for row in model.ledger.rows())


def test_confidence_of_instructs_replies_is_the_heads_probability(pair: ChatDAMI) -> None:
    pipeline = pair.pipeline()
    step = dataclasses.replace(adding(0.0), messages=(Message(role="user", content="What is 3 plus 4?"),), tools=())
    step = dataclasses.replace(step, sampling=dataclasses.replace(step.sampling, logprobs=0, seed=1))
    record = pipeline.run(step).record
    assert record.prompt is not None
    assert record.generation is not None
    found = reply_confidence(pipeline.engine, record.prompt, record.generation, "min")
    assert found.calibrated
    assert 0.5 < found.value <= 1
    assert found.scored_tokens == record.generation.output_tokens
    raw = reply_confidence(fake_chat_model([]).engine, record.prompt, record.generation, "min")  # a pair without heads
    logprobs = [event.logprob.logprob for event in record.generation.events if event.logprob is not None]
    assert (raw.calibrated, raw.value) == (False, pytest.approx(math.exp(min(logprobs))))
    mean = reply_confidence(fake_chat_model([]).engine, record.prompt, record.generation, "mean")
    assert mean.value == pytest.approx(math.exp(sum(logprobs) / len(logprobs)))


def test_explain_tells_both_attempts(tmp_path: Path) -> None:
    url = str(tmp_path / "ledger.sqlite")
    model = fake_chat_model([low("7"), deep("8")], policy={"cascade": {}}, ledger=Ledger.open(url))
    model.invoke("?")
    model.ledger.flush()
    said = CliRunner().invoke(app, ["explain", "--ledger", url]).output
    assert "reply_confidence 0.4" in said
    assert "cascade 0 → 1: first" in said
    assert "not accepted" in said
    assert "attempt 1 after λ=0: confidence 0.4 is below 0.8" in said


def test_frontier_without_rows_is_enough() -> None:
    assert FRONTIER.rows
    pipeline, book, _ = made([low("7"), deep("8")], cascade={})
    pipeline.policy = ReasoningPolicy(cascade={})
    pipeline.run(adding("auto"))
    assert lambdas(book) == [0, 1]
