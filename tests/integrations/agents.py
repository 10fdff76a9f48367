"""Agents over a scripted engine: they never stop calling tools by themselves, so only a budget ends them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from langchain.agents import create_agent
from langchain_core.tools import tool

from dami_agent.testing import FakeReply, FakeRequest, fake_chat_model

THOUGHT = "one two three four five six seven eight nine ten " * 4
FINAL = "It is seven."


@tool
def search(query: str) -> str:
    """Search the web."""
    return f"about {query}"


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def restless(request: FakeRequest) -> FakeReply:
    """Thinks, then calls a tool again; answers only where tools are disabled."""
    if request.decision.tools_disabled:
        return FakeReply(FINAL)
    return FakeReply(tool_calls=[("search", {"query": "x"})], reasoning=THOUGHT)


def after(calls: int, *tools: tuple[str, dict[str, Any]]) -> Callable[[FakeRequest], FakeReply]:
    """Thinks; ``calls`` tool calls in turn, then an answer."""
    state = {"calls": 0}
    names = tools or (("search", {"query": "x"}),)

    def reply(request: FakeRequest) -> FakeReply:
        if request.decision.tools_disabled or state["calls"] >= calls:
            state["calls"] = 0
            return FakeReply(FINAL, reasoning=THOUGHT)
        state["calls"] += 1
        return FakeReply(tool_calls=[names[(state["calls"] - 1) % len(names)]], reasoning=THOUGHT)

    return reply


def agent_of(reply: Any, middleware: Sequence[Any], wrap: Callable[[Any], Any] = lambda m: m, **more: Any) -> Any:
    """The agent, and the model that its ledger is read from."""
    settings = {k: more.pop(k) for k in ("policy", "budgets", "intensity") if k in more}
    model = fake_chat_model(reply, **{"intensity": 0.9, **settings})
    return create_agent(wrap(model), tools=[search, add], middleware=list(middleware), **more), model


def ask(agent: Any, how: str, config: dict[str, Any] | None = None, text: Any = "What is it?", **more: Any) -> Any:
    """Invoke, by ``how``: ``sync``, ``async`` or ``stream``."""
    given = text if isinstance(text, dict) or not isinstance(text, str) else {"messages": [("user", text)]}
    config = {"recursion_limit": 200, **(config or {})}
    if how == "async":
        return asyncio.run(agent.ainvoke(given, config, **more))
    if how == "stream":
        for _ in agent.stream(given, config, stream_mode="messages", **more):
            pass
        return None
    return agent.invoke(given, config, **more)


def output(model: Any) -> int:
    """Output tokens on record, of failed attempts and probes too."""
    return sum(row.output_tokens for row in model.ledger.rows())


def thoughts(model: Any) -> list[int]:
    """Tokens of the thought of each call that the engine was asked for, without the markers around it."""
    return [sum(event.part == "reasoning" for event in job.generation.events) for job in model.engine.jobs]


def decoded(model: Any) -> int:
    """Tokens that the engine decoded, also for calls that failed after their last one."""
    return sum(len(job.generation.events) for job in model.engine.jobs)
