"""ReasoningBudgetMiddleware by itself: limits are hard, agents end as asked, every shape of model and policy works."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import ConfigurableField
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

from dami_agent import ReasoningBudgetMiddleware, ReasoningPolicy
from dami_agent.errors import BudgetExhausted, InvalidPolicy, UsageError
from dami_agent.integrations.langchain import ReasoningBudgetExceededError
from dami_agent.testing import FakeReply, fake_chat_model
from tests.integrations.agents import FINAL, THOUGHT, after, agent_of, ask, decoded, output, restless, search, thoughts

HOW = pytest.mark.parametrize("how", ["sync", "async"])


@pytest.mark.parametrize("how", ["sync", "async", "stream"])
@pytest.mark.parametrize("exit_behavior", ["end", "taper"])
def test_a_run_ends_with_an_answer_inside_its_limit(how: str, exit_behavior: Any) -> None:
    agent, model = agent_of(restless, [ReasoningBudgetMiddleware(run_limit=400, exit_behavior=exit_behavior)])
    result = ask(agent, how)
    if result is not None:
        assert result["messages"][-1].content == FINAL
        assert "run_model_tokens" not in result  # private
    rows = list(model.ledger.rows())
    assert len(rows) > 2
    assert output(model) <= 400
    assert sum(request.decision.tools_disabled for request in model.engine.requests) == 1


def test_taper_lowers_lambda_and_end_does_not() -> None:
    seen = {}
    for behavior in ("taper", "end"):
        agent, model = agent_of(restless, [ReasoningBudgetMiddleware(run_limit=600, exit_behavior=behavior)])
        ask(agent, "sync")
        seen[behavior] = [float(r.decision.intensity) for r in model.engine.requests]
    assert seen["end"] == sorted(seen["end"], reverse=True)
    assert set(seen["end"]) == {0.9, 0}  # as asked, or no thought at all where one would be cut short
    assert seen["end"].count(0.9) > 2
    assert any(0 < intensity < 0.9 for intensity in seen["taper"])
    assert (seen["taper"][-1], seen["end"][-1]) == (0, 0)


@HOW
def test_error(how: str) -> None:
    agent, model = agent_of(restless, [ReasoningBudgetMiddleware(run_limit=150, exit_behavior="error")])
    with pytest.raises(ReasoningBudgetExceededError, match="run limit") as raised:
        ask(agent, how)
    assert isinstance(raised.value, BudgetExhausted)
    assert raised.value.run_tokens == raised.value.run_limit == output(model) == 150


@HOW
def test_a_thread_keeps_its_count_in_the_checkpoint(how: str) -> None:
    saver, spent = InMemorySaver(), 0
    config = {"configurable": {"thread_id": "t"}}
    for _ in range(40):  # each turn in what might be another process: nothing is shared but the checkpoint
        budget = ReasoningBudgetMiddleware(thread_limit=500, run_limit=200, exit_behavior="end")
        agent, model = agent_of(after(1), [budget], checkpointer=saver)
        result = ask(agent, how, config)
        spent += output(model)
        values = agent.get_state(config).values
        assert values["thread_model_tokens"] == spent <= 500
        assert "run_model_tokens" not in values or values["run_model_tokens"] <= 200
        if not model.engine.requests:
            break
    assert 500 - 500 // 8 < spent <= 500  # no answer is begun in less than an answer is kept
    last = result["messages"][-1].content
    assert last.startswith("Reasoning budget exceeded: ")
    assert f"thread {spent}/500 tokens" in last or f"thread limit ({spent}/500 tokens)" in last
    other, model = agent_of(after(1), [budget], checkpointer=saver)
    assert ask(other, how, {"configurable": {"thread_id": "u"}})["messages"][-1].content == FINAL


def test_a_thread_that_is_used_up_can_be_an_error() -> None:
    budget = ReasoningBudgetMiddleware(thread_limit=60, exit_behavior="error")
    agent, _ = agent_of(restless, [budget], checkpointer=InMemorySaver())
    for _ in range(2):
        with pytest.raises(ReasoningBudgetExceededError, match="thread limit \\(60/60"):
            ask(agent, "sync", {"configurable": {"thread_id": "t"}})


def test_tokens_of_runs_that_failed_count_for_their_thread() -> None:
    """They leave no checkpoint."""

    def broken(_: Any) -> FakeReply:
        return FakeReply(FINAL, reasoning=THOUGHT, error=RuntimeError("out of order"))

    budget = ReasoningBudgetMiddleware(thread_limit=300, exit_behavior="end")
    agent, model = agent_of(broken, [budget], checkpointer=InMemorySaver())
    config, failed = {"configurable": {"thread_id": "t"}}, 0
    for _ in range(40):
        try:
            result = ask(agent, "sync", config)
            break
        except RuntimeError:
            failed += 1
    assert failed > 2
    last = result["messages"][-1].content
    assert last.startswith("Reasoning budget exceeded: ")
    spent = decoded(model)
    assert f"{spent}/300 tokens)" in last
    assert 300 - 300 // 8 < spent <= 300


def test_agents_at_once_have_a_budget_each() -> None:
    budget = ReasoningBudgetMiddleware(run_limit=300, exit_behavior="end")
    agent, model = agent_of(restless, [budget])

    async def together() -> list[Any]:
        given = {"messages": [("user", "What is it?")]}
        return await asyncio.gather(*(agent.ainvoke(given, {"recursion_limit": 200}) for _ in range(6)))

    assert [result["messages"][-1].content for result in asyncio.run(together())] == [FINAL] * 6
    runs: dict[str, int] = {}
    for row in model.ledger.rows():
        runs[row.root_run_id] = runs.get(row.root_run_id, 0) + row.output_tokens
    assert len(runs) == 6
    assert all(100 < used <= 300 for used in runs.values())


@HOW
def test_an_agent_behind_a_tool_spends_from_the_same_account(how: str) -> None:
    budget = ReasoningBudgetMiddleware(run_limit=500, exit_behavior="end")
    inner, inner_model = agent_of(after(1), [budget])

    @tool
    def delegate(question: str) -> str:
        """Ask another agent."""
        return str(ask(inner, "sync", text=question)["messages"][-1].content)

    outer_model = fake_chat_model(after(3, ("delegate", {"question": "why?"})), intensity=0.9)
    outer = create_agent(outer_model, tools=[delegate], middleware=[budget])
    assert ask(outer, how)["messages"][-1].type == "ai"
    assert output(inner_model) > 0
    assert output(inner_model) + output(outer_model) <= 500


@HOW
def test_a_tools_budget(how: str) -> None:
    budget = ReasoningBudgetMiddleware(tools={"search": {"run_max_reasoning_tokens": 50}})
    agent, model = agent_of(after(4, ("search", {"query": "x"}), ("add", {"a": 1, "b": 2})), [budget])
    assert ask(agent, how)["messages"][-1].content == FINAL
    charged: dict[str, int] = {}
    for thought, row in zip(thoughts(model), model.ledger.rows(), strict=True):
        charged[row.charged_to] = charged.get(row.charged_to, 0) + thought
    assert 0 < charged["search"] <= 50
    assert charged["add"] > 50  # two steps, as deep as they like


def test_a_reasoning_limit_leaves_the_tools() -> None:
    budget = ReasoningBudgetMiddleware(run_reasoning_limit=60, exit_behavior="taper")
    agent, model = agent_of(after(5), [budget])
    assert ask(agent, "sync")["messages"][-1].content == FINAL
    assert 0 < sum(thoughts(model)) <= 60
    assert len(model.engine.requests) == 6


@pytest.mark.parametrize("seed", range(3))
def test_random_agents_never_overspend(seed: int) -> None:
    rng = random.Random(seed)
    thread, run = rng.randint(100, 600), rng.randint(10, 100)
    behavior = rng.choice(["taper", "end", "error"])

    def reply(request: Any) -> Any:
        made = restless(request)
        return type(made)(made.answer, "word " * rng.randint(0, 60), made.tool_calls)

    budget = ReasoningBudgetMiddleware(thread_limit=thread, run_limit=run, exit_behavior=behavior)
    agent, model = agent_of(reply, [budget], checkpointer=InMemorySaver())
    before = 0
    for _ in range(8):
        try:
            ask(agent, rng.choice(["sync", "async"]), {"configurable": {"thread_id": "t"}})
        except ReasoningBudgetExceededError:
            assert behavior == "error"
        assert output(model) - before <= run
        before = output(model)
    assert before <= thread


# ---- the shapes of models ---------------------------------------------------------------------------------------


def _configurable(model: Any) -> Any:
    return model.configurable_fields(reasoning_intensity=ConfigurableField(id="depth"))


@pytest.mark.parametrize(
    ("wrap", "depth"),
    [
        (lambda m: m.bind(reasoning_intensity=0.3), 0.3),
        (_configurable, 0.7),
        (lambda m: _configurable(m).bind(reasoning_intensity=0.2), 0.2),
        (lambda m: _configurable(m).with_config(configurable={"depth": 0.4}, tags=["mine"]), 0.4),
        (lambda m: m.bind(stop=["seven"], reasoning_intensity=0.6), 0.6),
    ],
)
@HOW
def test_what_is_bound_to_the_model_stays(wrap: Any, depth: float, how: str) -> None:
    config = {"configurable": {"depth": 0.7}} if wrap is _configurable else {}
    agent, model = agent_of(after(1), [ReasoningBudgetMiddleware(run_limit=900, exit_behavior="end")], wrap)
    ask(agent, how, config)
    assert [float(r.decision.intensity) for r in model.engine.requests] == [depth] * 2
    tagged = {"mine" in row.tags for row in model.ledger.rows()}
    stops = {request.decision.limits.stop for request in model.engine.requests}
    assert (tagged, stops) in (({False}, {()}), ({True}, {()}), ({False}, {("seven",)}))


def test_other_models_are_refused() -> None:
    agent = create_agent(FakeListChatModel(responses=["hi"]), middleware=[ReasoningBudgetMiddleware(run_limit=9)])
    with pytest.raises(UsageError, match="needs a ChatDAMI, the model is a FakeListChatModel"):
        ask(agent, "sync")
    bound, _ = agent_of(restless, [ReasoningBudgetMiddleware(run_limit=9)], lambda m: m.bind_tools([search]))
    with pytest.raises(UsageError, match="tools are bound"):
        ask(bound, "sync")


# ---- the policy -------------------------------------------------------------------------------------------------


@dataclass
class Context:
    """What a user's graph is given per run."""

    policy: Any = None


@HOW
def test_a_run_brings_its_own_policy(how: str) -> None:
    own = {"name": "own", "default": {"intensity": 0.25}}
    budget = ReasoningBudgetMiddleware(policy={"name": "fixed", "default": {"intensity": 0.75}}, run_limit=500)
    agent, model = agent_of(after(1), [budget], context_schema=Context)
    ask(agent, how, context=Context())
    ask(agent, how, context=Context(policy=own))
    ask(agent, how, {"configurable": {"policy": own}})
    assert [row.policy for row in model.ledger.rows()] == ["fixed"] * 2 + ["own"] * 4
    assert [float(r.decision.intensity) for r in model.engine.requests] == [0.75] * 2 + [0.25] * 4
    with pytest.raises(InvalidPolicy, match="nonsense"):
        ask(agent, how, context=Context(policy="nonsense"))


def test_the_models_own_policy_is_the_ground() -> None:
    own = ReasoningPolicy(name="mine", run={"max_tokens": 300, "on_exhausted": "end"}, default={"intensity": 0.4})
    agent, model = agent_of(restless, [ReasoningBudgetMiddleware(run_limit=900)], policy=own)
    ask(agent, "sync")
    assert output(model) <= 300  # the smaller one
    assert {row.policy for row in model.ledger.rows()} == {"mine"}


def test_thread_policies_and_limits_do_not_mix() -> None:
    policy = {"run": {"max_tokens": 300, "per": "thread"}}
    agent, _ = agent_of(restless, [ReasoningBudgetMiddleware(policy=policy, run_limit=50)])
    with pytest.raises(UsageError, match="per: thread"):
        ask(agent, "sync")


@pytest.mark.parametrize(
    "settings",
    [
        {"run_limit": 0},
        {"run_limit": True},
        {"thread_limit": 1.5},
        {"run_limit": 9, "thread_limit": 8},
        {"run_reasoning_limit": -1},
        {"exit_behavior": "continue"},
        {"tools": {"search": {"run_max": 1}}},
        {"policy": "no-such-preset"},
    ],
)
def test_bad_settings_are_refused_at_once(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        ReasoningBudgetMiddleware(**settings)


def test_without_langchain_the_error_says_what_to_install() -> None:
    code = "import sys; sys.modules['langchain'] = None; import dami_agent; dami_agent.ReasoningBudgetMiddleware"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "UsageError" in done.stderr
    assert 'pip install "dami-agent[agents]"' in done.stderr


def test_the_thought_is_long_enough_to_matter() -> None:
    _, model = agent_of(restless, [])
    assert len(model.engine.encode(THOUGHT)) > 50
