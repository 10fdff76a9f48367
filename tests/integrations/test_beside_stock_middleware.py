"""ReasoningBudgetMiddleware beside LangChain's own, in both orders: each does its work, no budget is overspent."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    HumanInTheLoopMiddleware,
    ModelCallLimitMiddleware,
    ModelRetryMiddleware,
    SummarizationMiddleware,
    ToolCallLimitMiddleware,
    ToolRetryMiddleware,
)
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from dami_agent import BudgetTracker, ReasoningBudgetMiddleware, ReasoningPolicy
from dami_agent.integrations.langchain import ReasoningBudgetExceededError
from dami_agent.testing import fake_chat_model
from tests.integrations.agents import FINAL, after, agent_of, ask, decoded, output, restless

HOW = pytest.mark.parametrize("how", ["sync", "async"])
ORDER = pytest.mark.parametrize("order", [1, -1], ids=["ours first", "ours last"])
LIMIT = 400


def both(stock: Any, order: int, **settings: Any) -> Sequence[Any]:
    return [ReasoningBudgetMiddleware(**{"run_limit": LIMIT, "exit_behavior": "end", **settings}), stock][::order]


@HOW
@ORDER
def test_model_call_limit(how: str, order: int) -> None:
    agent, model = agent_of(restless, both(ModelCallLimitMiddleware(run_limit=2), order))
    result = ask(agent, how)
    assert result["messages"][-1].content == "Model call limits exceeded: run limit (2/2)"
    assert output(model) <= LIMIT
    agent, model = agent_of(restless, both(ModelCallLimitMiddleware(run_limit=100), order))
    assert ask(agent, how)["messages"][-1].content == FINAL
    assert output(model) <= LIMIT


@HOW
@ORDER
def test_tool_call_limit(how: str, order: int) -> None:
    stock = ToolCallLimitMiddleware(tool_name="search", run_limit=1, exit_behavior="continue")
    agent, model = agent_of(restless, both(stock, order))
    result = ask(agent, how)
    assert result["messages"][-1].content == FINAL
    assert sum("limit exceeded" in str(m.content) for m in result["messages"] if m.type == "tool") >= 1
    assert output(model) <= LIMIT


@HOW
@ORDER
def test_model_retry(how: str, order: int) -> None:
    """Every other call fails after it was decoded; what it had cost counts."""
    calls = itertools.count()

    def flaky(request: Any) -> Any:
        reply = restless(request)
        broken = RuntimeError("flaky") if next(calls) % 2 == 0 else None
        return type(reply)(reply.answer, reply.reasoning, reply.tool_calls, error=broken)

    stock = ModelRetryMiddleware(max_retries=2, initial_delay=0.0, jitter=False)
    agent, model = agent_of(flaky, both(stock, order))
    result = ask(agent, how)
    assert result["messages"][-1].type == "ai"
    assert any(row.error_type for row in model.ledger.rows())
    assert decoded(model) <= LIMIT


@HOW
def test_an_exceeded_budget_is_not_retried(how: str) -> None:
    stock = ModelRetryMiddleware(max_retries=5, initial_delay=60.0)
    agent, _ = agent_of(restless, both(stock, -1, exit_behavior="error", run_limit=20))
    with pytest.raises(ReasoningBudgetExceededError):
        ask(agent, how)


@HOW
@ORDER
@pytest.mark.parametrize("failures", [1, 9])
def test_tool_retry(how: str, order: int, failures: int) -> None:
    """A tool that a retry mends costs no model call; one that it does not is an error, which deepens the next step."""
    calls = itertools.count()

    @tool
    def search(query: str) -> str:
        """Search the web."""
        if next(calls) < failures:
            raise RuntimeError("flaky")
        return f"about {query}"

    policy = ReasoningPolicy(default={"intensity": 0.25}, escalation={"max_attempts": 2, "on": ["tool_error"]})
    stock = ToolRetryMiddleware(max_retries=2, initial_delay=0.0, jitter=False, on_failure="continue")
    model = fake_chat_model(after(1), policy=policy)
    agent = create_agent(model, tools=[search], middleware=list(both(stock, order)))
    assert ask(agent, how)["messages"][-1].content == FINAL
    first, second = (float(request.decision.intensity) for request in model.engine.requests)
    assert (first, second > first) == (0.25, failures == 9)
    assert next(calls) == (2 if failures == 1 else 3)
    assert output(model) <= LIMIT


@HOW
@ORDER
def test_summarization_spends_from_the_run_too(how: str, order: int) -> None:
    """The summariser is a model of its own; given the same policy and tracker it draws on the same account."""
    budgets = BudgetTracker()
    policy = ReasoningPolicy(
        name="shared",
        run={"max_tokens": LIMIT, "on_exhausted": "end"},
        rules=[{"name": "summaries", "when": {"metadata": {"lc_source": "summarization"}}, "intensity": 0}],
    )
    writer = fake_chat_model(lambda _: "They searched.", policy=policy, budgets=budgets)
    stock = SummarizationMiddleware(model=writer, trigger=("messages", 4), keep=("messages", 2))
    agent, model = agent_of(
        restless, both(stock, order, run_limit=None, exit_behavior=None, policy=policy), budgets=budgets
    )
    result = ask(agent, how)
    assert result["messages"][-1].content == FINAL
    written = list(writer.ledger.rows())
    assert written
    assert {row.rule for row in written} == {"summaries"}
    assert {row.root_run_id for row in written} == {row.root_run_id for row in model.ledger.rows()}
    assert output(model) + output(writer) <= LIMIT


@HOW
@ORDER
def test_human_in_the_loop(how: str, order: int) -> None:
    """A thread's budget holds over interruptions, and over a process that ends in between."""
    saver, config, spent = InMemorySaver(), {"configurable": {"thread_id": "t"}}, 0
    given: Any = "What is it?"
    for _ in range(20):
        stock = HumanInTheLoopMiddleware(interrupt_on={"search": True})
        budget = both(stock, order, run_limit=None, thread_limit=LIMIT)
        agent, model = agent_of(restless, budget, checkpointer=saver)
        result = ask(agent, how, config, given)
        spent += output(model)
        if "__interrupt__" not in result:
            break
        given = Command(resume={"decisions": [{"type": "approve"}]})
    assert result["messages"][-1].content == FINAL
    assert spent == agent.get_state(config).values["thread_model_tokens"] <= LIMIT
    assert sum(m.type == "tool" for m in result["messages"]) >= 2


@HOW
def test_all_of_them_together(how: str) -> None:
    stock = [
        ModelCallLimitMiddleware(run_limit=50),
        ToolCallLimitMiddleware(run_limit=50),
        ModelRetryMiddleware(initial_delay=0.0),
        SummarizationMiddleware(model=fake_chat_model(lambda _: "So far."), trigger=("messages", 6)),
    ]
    agent, model = agent_of(after(3), [*stock[:2], *both(stock[2], 1), stock[3]])
    assert ask(agent, how)["messages"][-1].content == FINAL
    assert output(model) <= LIMIT
