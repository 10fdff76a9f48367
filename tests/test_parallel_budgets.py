"""Budgets under calls that run at the same time: as deep as one after another, never overspent, never hung."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda, RunnableParallel

from dami_agent import ReasoningBudgetMiddleware
from dami_agent.chat_model import ChatDAMI
from dami_agent.errors import BudgetExhausted, Cancelled
from dami_agent.policy import BudgetTracker, Price, ReasoningPolicy, RunBudget, budgets
from dami_agent.policy.budgets import Budgets
from dami_agent.testing import FakeEngine, FakeJob, FakeReply, fake_chat_model
from dami_agent.types import Decision, Limits, Prompt, Usage

THOUGHT = "one two three four five six seven eight nine ten " * 4
REPLY = FakeReply("It is seven.", THOUGHT)


class Gathering(FakeEngine):
    """Takes requests only when that many have been decided: all of them are open at the same time."""

    gate: threading.Barrier | None = None

    def submit(self, prompt: Prompt, decision: Decision) -> FakeJob:
        if self.gate is not None:
            self.gate.wait(30)
        return super().submit(prompt, decision)


def gathering(together: int = 0, reply: Any = None, seconds_per_token: float = 0.0, **more: Any) -> ChatDAMI:
    model = fake_chat_model([], **more)
    engine = Gathering(reply or (lambda _: REPLY), model.engine.encode, seconds_per_token=seconds_per_token)
    engine.gate = threading.Barrier(together) if together else None
    return model.model_copy(update={"engine": engine})


def at_once(call: Callable[[Any], Any], times: int) -> dict[str, Any]:
    """So many calls as branches of one run."""
    return RunnableParallel({str(n): RunnableLambda(call) for n in range(times)}).invoke(
        "go", {"max_concurrency": times}
    )


def after_search(model: ChatDAMI, **settings: Any) -> Any:
    """A step that reads a result of the tool ``search``."""
    call = {"name": "search", "args": {}, "id": "1"}
    return model.invoke(
        [HumanMessage("go"), AIMessage("", tool_calls=[call]), ToolMessage("r", tool_call_id="1")], **settings
    )


def lambdas(model: ChatDAMI) -> list[float]:
    return [row.intensity for row in model.ledger.rows()]


def test_six_agents_at_once_think_as_deeply_as_one() -> None:
    model = gathering(6)
    middleware = [ReasoningBudgetMiddleware(run_limit=100_000)]
    agent = create_agent(model.bind(reasoning_intensity=1), middleware=middleware)
    at_once(lambda _: agent.invoke({"messages": [("user", "go")]}), 6)
    rows = model.ledger.rows()
    assert [row.intensity for row in rows] == [1.0] * 6
    assert all("left" not in row.reason for row in rows)  # next to nothing is spent
    assert {row.root_run_id for row in rows} == {rows[0].root_run_id}


@pytest.mark.parametrize("together", [8, 0])
def test_eight_steps_at_once_share_a_tools_thoughts(together: int) -> None:
    policy = ReasoningPolicy(tools={"search": {"run_max_reasoning_tokens": 5000, "max_reasoning_tokens": 600}})
    model = gathering(together, policy=policy, seconds_per_token=0 if together else 1e-3)
    at_once(lambda _: after_search(model, reasoning_intensity=1), 8)
    assert lambdas(model) == [1.0] * 8


def test_who_names_no_cap_waits_for_a_tools_thoughts_rather_than_have_none() -> None:
    model = gathering(policy={"tools": {"search": {"run_max_reasoning_tokens": 5000}}}, seconds_per_token=1e-3)
    at_once(lambda _: after_search(model, reasoning_intensity=1), 12)
    assert lambdas(model) == [1.0] * 12
    assert sum(row.reasoning_tokens for row in model.ledger.rows()) <= 5000


@pytest.mark.slow
def test_cost_does_not_disable_tools_while_it_is_hardly_touched() -> None:
    for price in (Price(output=2.0), Price(output=2.0, device_second=1e-4), Price(device_second=1e-3)):
        run = RunBudget(max_cost=0.1, price=price)
        model = gathering(policy=ReasoningPolicy(run=run), seconds_per_token=1e-3)
        at_once(lambda _, model=model: model.invoke("go", reasoning_intensity=0.9), 8)
        rows = model.ledger.rows()
        assert [row.tools_disabled for row in rows] == [False] * 8
        assert [row.intensity for row in rows] == [0.9] * 8
        (root,) = {row.root_run_id for row in rows}
        spent = model.budgets.spent(model.policy, rows and _trace(root))  # type: ignore[union-attr]
        assert 0 < spent.cost < 0.05 * 0.1


def _trace(root: str | None) -> Any:
    from dami_agent.types import RunContext

    return RunContext(root_run_id=root)


@pytest.mark.parametrize("limit", [{"max_tokens": 400}, {"max_cost": 4e-4, "price": {"output": 1.0}}])
def test_an_error_budget_does_not_refuse_the_second_of_two_calls(limit: dict[str, Any]) -> None:
    model = gathering(policy={"run": {**limit, "on_exhausted": "error"}}, seconds_per_token=1e-3)
    answers = at_once(lambda _: model.invoke("go", reasoning_intensity=1).content, 2)
    assert list(answers.values()) == ["It is seven."] * 2
    assert lambdas(model) == [1.0, 1.0]


def spend(model: ChatDAMI, config: Any) -> None:
    for _ in range(20):
        model.invoke("go", config)
        list(model.stream("go", config))


def test_a_bare_model_spends_from_its_threads_budget() -> None:
    model = gathering(policy={"run": {"max_tokens": 150, "per": "thread"}}, reasoning_intensity=1)
    for thread in ("a", "b", 7):
        config: Any = {"configurable": {"thread_id": thread}}
        with pytest.raises(BudgetExhausted):
            spend(model, config)
        spent = sum(row.output_tokens for row in model.ledger.rows(thread=str(thread)))
        assert 60 < spent <= 150
    config = {"configurable": {"thread_id": "c"}}
    with ThreadPoolExecutor(8) as pool:
        errors = [done.exception() for done in [pool.submit(model.invoke, "go", config) for _ in range(16)]]
    assert None in errors
    assert all(error is None or isinstance(error, BudgetExhausted) for error in errors)
    assert sum(row.output_tokens for row in model.ledger.rows(thread="c")) <= 150


far = st.fixed_dictionaries(
    {"max_tokens": st.just(60_000)},
    optional={
        "max_reasoning_tokens": st.just(60_000),
        "on_exhausted": st.sampled_from(["taper", "end", "error"]),
        "answer_reserve": st.integers(1, 400),
    },
)


@settings(max_examples=40, deadline=None)
@given(run=far, asked=st.lists(st.sampled_from([None, 0, 0.3, 0.7, 1]), min_size=2, max_size=12))
def test_at_once_and_one_after_another_give_the_same_lambdas(run: dict[str, Any], asked: list[float | None]) -> None:
    """A budget far above what is used, and the context window of 4,096 tokens that each call might fill."""
    policies = [ReasoningPolicy(run=run, default={"intensity": 0.4}) for _ in range(2)]
    taken: list[list[float]] = []
    for policy, together in zip(policies, (True, False), strict=True):
        decisions, budgets = [], BudgetTracker()
        for n, value in enumerate(asked):
            step = _step(value, n)
            decisions.append(policy.decide(step, 0, _no_estimator, budgets=budgets, context_left=4_000))
            if not together:
                budgets.settle(policy, step, 0, Usage(tokens=60, reasoning_tokens=40))
        taken.append([float(d.intensity) for d in decisions])
        assert not any(d.tools_disabled or "budget" in d.reason for d in decisions)
    assert taken[0] == taken[1]


def _step(value: float | None, n: int) -> Any:
    from dami_agent.types import Intensity, IntensityRequest
    from tests.policy.support import step, user

    request = IntensityRequest() if value is None else IntensityRequest(intensity=Intensity(value))
    return step(user("go"), intensity_request=request, root_run_id="run", call_id=str(n))


def _no_estimator(_: Decision) -> Any:
    raise AssertionError("not asked for")


# ---- waiting for what others have set aside -----------------------------------------------------------------------


def reserved_elsewhere(kept: Budgets, limits: Limits = Limits(), key: str = "other") -> None:
    thread = threading.Thread(target=lambda: kept.reserve("run", key, limits, "answer"))
    thread.start()
    thread.join()


def test_a_step_waits_until_what_stands_in_its_way_is_settled() -> None:
    kept = Budgets(RunBudget(max_tokens=300, on_exhausted="error"))
    reserved_elsewhere(kept)
    timer = threading.Timer(0.2, lambda: kept.settle("run", "other", Usage(tokens=40)))
    timer.start()
    started = time.monotonic()
    grant = kept.reserve("run", "mine", Limits(timeout=30), "answer")
    assert grant.limits.max_tokens == 260
    assert 0.15 < time.monotonic() - started < 10
    assert grant.limits.timeout is not None
    assert grant.limits.timeout < 29.9  # the wait is part of the call's time
    timer.join()


def test_waiting_ends_with_the_callers_patience_or_its_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "PATIENCE", 0.1)
    kept = Budgets(RunBudget(max_tokens=300, on_exhausted="error"))
    reserved_elsewhere(kept)
    with pytest.raises(BudgetExhausted, match="set aside for calls that are running"):
        kept.reserve("run", "mine", Limits(), "answer")
    monkeypatch.setattr(budgets, "PATIENCE", 60)

    def cancelled() -> None:
        raise Cancelled("no")

    with pytest.raises(Cancelled):
        kept.reserve("run", "mine", Limits(), "answer", check=cancelled)
    with pytest.raises(BudgetExhausted):  # half of its own time
        kept.reserve("run", "mine", Limits(timeout=0.2), "answer")


def test_what_waiting_would_not_help_is_refused_at_once() -> None:
    kept = Budgets(RunBudget(max_tokens=300, on_exhausted="end"))
    kept.charge("run", Usage(tokens=280), "before")
    started = time.monotonic()
    reserved_elsewhere(kept, Limits(max_tokens=5))
    with pytest.raises(BudgetExhausted):
        kept.reserve("run", "mine", Limits(), "answer")
    assert time.monotonic() - started < 5


def test_a_stream_read_half_way_does_not_hold_up_its_own_thread() -> None:
    model = gathering(policy={"run": {"max_tokens": 300, "on_exhausted": "error"}}, reasoning_intensity=1)

    def both(_: Any) -> str:
        stream = model.stream("go")
        next(stream)
        with pytest.raises(BudgetExhausted, match="set aside"):
            model.invoke("go")
        list(stream)
        return str(model.invoke("go").content)

    started = time.monotonic()
    assert RunnableLambda(both).invoke("go") == "It is seven."
    assert time.monotonic() - started < 20


async def test_sixty_async_branches_wait_their_turn() -> None:
    import asyncio

    model = gathering(policy={"run": {"max_tokens": 20_000, "on_exhausted": "error"}}, seconds_per_token=1e-5)

    async def branches(_: Any) -> list[Any]:
        return await asyncio.gather(*(model.ainvoke("go", reasoning_intensity=1) for _ in range(60)))

    answers = await RunnableLambda(branches).ainvoke("go")
    assert len(answers) == 60
    assert set(lambdas(model)) == {1.0}
    assert sum(row.output_tokens for row in model.ledger.rows()) <= 20_000


def test_a_forked_child_does_not_wait_for_its_parents_calls() -> None:
    kept = Budgets(RunBudget(max_tokens=300, on_exhausted="error"))
    reserved_elsewhere(kept)
    kept.charge("run", Usage(tokens=100), "before")
    kept._lock.acquire()  # as another thread may hold it at that moment
    try:
        budgets._after_fork()
        assert kept.reserve("run", "mine", Limits(), "answer").limits.max_tokens == 200
    finally:
        kept._lock = threading.Condition()
