"""What leaves the chat model is an error of ours and of LangChain's, and LangChain's middleware acts on it."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelFallbackMiddleware, ModelRetryMiddleware, SummarizationMiddleware
from langchain_core import exceptions as theirs
from langchain_core.messages import AIMessage, HumanMessage
from pydantic import BaseModel

from dami_agent import errors as ours
from dami_agent.chat_model import ChatDAMI
from dami_agent.chat_model.langchain_errors import as_langchain_error
from dami_agent.integrations.langchain import ReasoningBudgetMiddleware
from dami_agent.testing import FakeReply, fake_chat_model

KINDS: list[tuple[ours.DamiError, tuple[type[Exception], ...], bool]] = [
    (ours.ContextOverflow("long"), (theirs.ContextOverflowError, theirs.ModelInvalidRequestError, ValueError), False),
    (ours.EngineBusy("full"), (theirs.ModelRateLimitError,), True),
    (ours.DeadlineExceeded("late"), (theirs.ModelTimeoutError, TimeoutError), True),
    (ours.EngineClosed("closed"), (theirs.ModelConnectionError,), True),
    (ours.RunError("out of memory"), (theirs.ModelAPIError,), True),
    (ours.InvalidRequest("no messages"), (theirs.ModelInvalidRequestError, ValueError), False),
    (ours.InvalidIntensity("2"), (theirs.ModelInvalidRequestError, ValueError), False),
    (ours.InvalidSchema("odd"), (theirs.ModelInvalidRequestError, ValueError), False),
    (ours.InvalidPolicy("odd"), (theirs.ModelInvalidRequestError, ValueError), False),
    (ours.BudgetExhausted("spent"), (theirs.ModelError,), False),
    (ours.Cancelled("by the caller"), (theirs.ModelError,), False),
    (ours.CheckpointNotFound("nowhere"), (theirs.ModelNotFoundError,), False),
    (ours.IncompatiblePair("two", [ours.Mismatch("config.json", "x", "1", "2", "none")]), (theirs.ModelError,), False),
    (ours.LedgerError("locked"), (theirs.ModelError,), False),
]
CONSUMED: dict[str, Callable[[Any], Any]] = {
    "invoke": lambda m: m.invoke("hi"),
    "ainvoke": lambda m: asyncio.run(m.ainvoke("hi")),
    "stream": lambda m: list(m.stream("hi")),
    "astream": lambda m: asyncio.run(_drain(m.astream("hi"))),
    "batch": lambda m: m.batch(["hi", "hi"]),
    "generate": lambda m: m.generate([[HumanMessage("hi")]]),
    "structured": lambda m: m.with_structured_output(Person).invoke("hi"),
    "structured stream": lambda m: list(m.with_structured_output(Person).stream("hi")),
    "include_raw": lambda m: m.with_structured_output(Person, include_raw=True).invoke("hi"),
    "tools": lambda m: m.bind_tools([Person]).invoke("hi"),
}


class Person(BaseModel):
    """A person."""

    name: str


async def _drain(chunks: Any) -> None:
    async for _ in chunks:
        pass


@pytest.mark.parametrize(("error", "bases", "retryable"), KINDS, ids=lambda v: type(v).__name__)
def test_every_error_is_of_both_kinds_and_says_the_same(
    error: ours.DamiError, bases: tuple[type[Exception], ...], retryable: bool
) -> None:
    error.hint = "what to do"
    both: Any = as_langchain_error(error)
    assert isinstance(both, (type(error), ours.DamiError))
    assert all(isinstance(both, base) for base in (type(error), *bases, theirs.LangChainException))
    assert (str(both), both.args, type(both).__name__) == (str(error), error.args, type(error).__name__)
    assert both.is_retryable is retryable  # type: ignore[attr-defined]
    assert as_langchain_error(both) is both
    copied = pickle.loads(pickle.dumps(both))
    assert (type(copied), str(copied), copied.hint) == (type(both), str(both), "what to do")
    assert getattr(copied, "mismatches", ()) == getattr(error, "mismatches", ())


def test_all_errors_of_the_package_are_covered() -> None:
    named = [getattr(ours, name) for name in ours.__all__ if name != "Mismatch"]
    for own in named:
        assert isinstance(as_langchain_error(own("x")), (own, theirs.LangChainException))


def test_an_error_of_somebody_elses_engine_keeps_its_class() -> None:
    class QuotaSpent(ours.EngineBusy):
        """By an engine of a plug-in."""

    both = as_langchain_error(QuotaSpent("no more"))
    assert isinstance(both, (QuotaSpent, theirs.ModelRateLimitError))


@pytest.mark.parametrize("way", CONSUMED)
@pytest.mark.parametrize(
    ("error", "base"),
    [
        (ours.EngineBusy("the queue is full"), theirs.ModelRateLimitError),
        (ours.DeadlineExceeded("the deadline passed"), TimeoutError),
        (ours.RunError("the device is out of memory"), theirs.ModelAPIError),
        (ours.ContextOverflow("the prompt does not fit"), theirs.ContextOverflowError),
        (ours.InvalidRequest("top_p must not be 7"), ValueError),
    ],
)
def test_a_failing_run_raises_it_however_it_is_consumed(way: str, error: Exception, base: type[Exception]) -> None:
    model = fake_chat_model(lambda _: FakeReply("yes", error=error))
    with pytest.raises(base, match=str(error)) as caught:
        CONSUMED[way](model)
    assert isinstance(caught.value, type(error))
    assert model.ledger.rows()[0].error_type == type(error).__name__


BAD: dict[str, Callable[[ChatDAMI], Any]] = {
    "no messages": lambda m: m.invoke([]),
    "no messages, async stream": lambda m: asyncio.run(_drain(m.astream([]))),
    "a setting at the call": lambda m: m.invoke("hi", max_tokens=0),
    "an unknown setting": lambda m: m.bind(temprature=1),
    "an effort": lambda m: list(m.stream("hi", reasoning_effort="hi")),
    "a tool": lambda m: m.bind_tools(["no tool"]),  # type: ignore[list-item]
    "a tool choice": lambda m: m.bind_tools([Person], tool_choice="Animal"),
    "a method": lambda m: m.with_structured_output(Person, method="yaml"),  # type: ignore[arg-type]
    "a schema": lambda m: m.configurable_fields().with_structured_output(7),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_raise_value_errors_of_both_kinds(case: str) -> None:
    with pytest.raises(theirs.ModelInvalidRequestError) as caught:
        BAD[case](fake_chat_model(lambda _: "yes"))
    assert isinstance(caught.value, (ours.UsageError, ValueError))


def test_output_that_does_not_parse_is_langchains_parser_error() -> None:
    model = fake_chat_model(lambda _: '{"name": 7}').with_structured_output(Person, method="json_schema")
    with pytest.raises(theirs.OutputParserException) as caught:
        model.invoke("hi")
    assert isinstance(caught.value, ours.OutputInvalid)
    assert caught.value.llm_output == '{"name": 7}'
    cut = fake_chat_model(lambda _: '{"name": "a much longer name"}', max_tokens=3).with_structured_output(
        Person, method="json_schema"
    )
    with pytest.raises(theirs.OutputParserException) as caught:
        cut.invoke("hi")
    assert isinstance(caught.value, ours.OutputTruncated)


# ---- LangChain's middleware -------------------------------------------------------------------------------------


def _agent(replies: list[Any], *middleware: Any) -> tuple[Any, ChatDAMI]:
    model = fake_chat_model(replies)
    return create_agent(model, [], middleware=list(middleware)), model


def _said(agent: Any, how: str) -> str:
    asked = {"messages": [("user", "hi")]}
    answer = agent.invoke(asked) if how == "sync" else asyncio.run(agent.ainvoke(asked))
    return str(answer["messages"][-1].content)


RETRY: Any = {"max_retries": 3, "initial_delay": 0.0, "on_failure": "error"}


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("error", [error for error, _, retryable in KINDS if retryable], ids=lambda e: type(e).__name__)
def test_what_may_pass_is_retried(error: Exception, how: str) -> None:
    agent, model = _agent([FakeReply(error=error), FakeReply(error=error), "yes"], ModelRetryMiddleware(**RETRY))
    assert _said(agent, how) == "yes"
    assert len(model.engine.requests) == 3


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("error", [e for e, _, retryable in KINDS if not retryable], ids=lambda e: type(e).__name__)
def test_what_stays_wrong_is_not_retried(error: Exception, how: str) -> None:
    agent, model = _agent([FakeReply(error=error), "yes"], ModelRetryMiddleware(**RETRY))
    with pytest.raises(type(error)):
        _said(agent, how)
    assert len(model.engine.requests) == 1


def test_a_misspelt_policy_of_a_run_is_not_retried() -> None:
    tries: list[int] = []

    def count(error: Exception) -> bool:
        tries.append(1)
        return getattr(error, "is_retryable", True)

    budget = ReasoningBudgetMiddleware(run_limit=100)
    retry = ModelRetryMiddleware(max_retries=2, initial_delay=0.0, on_failure="error", retry_on=count)
    agent, _ = _agent(["yes"], retry, budget)
    with pytest.raises(ours.InvalidPolicy):
        agent.invoke({"messages": [("user", "hi")]}, {"configurable": {"policy": "frugl"}})
    assert tries == [1]


def test_a_fallback_model_answers_when_the_queue_is_full() -> None:
    other = fake_chat_model(["from the other"])
    agent, _ = _agent([FakeReply(error=ours.EngineBusy("full"))], ModelFallbackMiddleware(other))
    assert _said(agent, "sync") == "from the other"


@pytest.mark.parametrize("how", ["sync", "async"])
def test_the_summariser_shortens_a_prompt_that_overflows(how: str) -> None:
    """Its rescue catches LangChain's ContextOverflowError; the engine's window is really too small here."""
    writer = fake_chat_model(lambda _: "short of it")
    writer.engine.info = writer.engine.info.__class__(
        **{name: getattr(writer.engine.info, name) for name in writer.engine.info.__slots__} | {"context_length": 6000}
    )
    summary = SummarizationMiddleware(
        writer,
        trigger=("messages", 3),
        keep=("messages", 1),
        trim_tokens_to_summarize=None,
        summary_prompt="Make it short: {messages}",
    )
    agent = create_agent(fake_chat_model(lambda _: "fine"), [], middleware=[summary])
    long = [HumanMessage("word " * 800), AIMessage("word " * 800), HumanMessage("word " * 800), AIMessage("so")]
    asked = {"messages": [*long, HumanMessage("hi")]}
    result = agent.invoke(asked) if how == "sync" else asyncio.run(agent.ainvoke(asked))
    assert "short of it" in result["messages"][0].text
    assert [row.error_type for row in writer.ledger.rows()].count("ContextOverflow") == 1


def test_the_built_in_pairs_own_errors(tmp_path: Any) -> None:
    model = ChatDAMI(ledger=tmp_path / "ledger.db", context_length=256, reasoning_intensity=0.0, max_tokens=40)
    with pytest.raises(theirs.ContextOverflowError):
        model.invoke("word " * 800)
    with pytest.raises(TimeoutError):
        model.invoke("Start with 7. Add 5.", timeout=1e-6)
    model.close()
