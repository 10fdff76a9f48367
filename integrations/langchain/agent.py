"""A LangChain agent on the built-in pair, under ``policy.yaml``; prints what each step was given and used."""

from __future__ import annotations

from pathlib import Path

from langchain.agents import create_agent
from langchain.agents.middleware import ModelCallLimitMiddleware

import dami_agent
from dami_agent import ChatDAMI, ReasoningBudgetMiddleware


def get_price(item: str) -> int:
    """Get the price of an item."""
    return {"lamp": 12, "chair": 7}.get(item, 0)


def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return {"Rome": "sunny", "Oslo": "snow"}.get(city, "unknown")


def main() -> None:
    """Ask a few questions, each a run of its own."""
    budget = ReasoningBudgetMiddleware(policy=Path(__file__).parent / "policy.yaml", run_limit=400)
    calls = ModelCallLimitMiddleware(run_limit=8)
    agent = create_agent(ChatDAMI(seed=1), [get_price, get_weather], middleware=[budget, calls])
    with dami_agent.trace("shop") as t:
        for question in ("What is the price of a lamp?", "Start with 7. Add 5. Multiply by 3. What is the result?"):
            print(question, "->", agent.invoke({"messages": question})["messages"][-1].content)
    for step in t.steps:
        print(f"λ={step.intensity:<5g} {step.output_tokens:4} tokens  {step.charged_to:10} {step.reason}")
    for tool, sums in t.by_tool().items():
        print(f"{tool}: {sums['reasoning_tokens']} reasoning tokens in {sums['calls']} calls")


if __name__ == "__main__":
    main()
