"""Frontiers, steps and estimators for the policy's tests."""

from __future__ import annotations

from typing import Any

from dami_agent.policy import Frontier, FrontierRow
from dami_agent.types import (
    Decision,
    Estimate,
    Intensity,
    IntensityRequest,
    Limits,
    Message,
    RunContext,
    Step,
    Tool,
    ToolCall,
    ToolChoice,
)

ROWS = ((0, 0.5, 10), (0.2, 0.6, 20), (0.4, 0.55, 40), (0.6, 0.8, 60), (0.8, 0.85, 80), (1, 0.9, 100))
FRONTIER = Frontier(
    rows=tuple(FrontierRow(intensity=Intensity(x), accuracy=a, tokens=t, accuracy_ci=0.01) for x, a, t in ROWS)
)
"""Its grid is 0, .2, .6, .8, 1; .4 lies in a valley; efforts: low .2, medium .6, high .8."""


def user(text: str) -> Message:
    return Message(role="user", content=text)


def said(text: str) -> Message:
    return Message(role="assistant", content=text)


def round_of(*names: str, failed: bool = False) -> tuple[Message, ...]:
    """One assistant turn calling these tools, and their results."""
    calls = tuple(ToolCall(id=f"{n}-{i}", name=n, arguments={}) for i, n in enumerate(names))
    results = (
        Message(role="tool", content="r", name=c.name, tool_call_id=c.id, status="error" if failed else "success")
        for c in calls
    )
    return (Message(role="assistant", tool_calls=calls), *results)


def step(
    *messages: Message,
    intensity_request: IntensityRequest = IntensityRequest(),
    limits: Limits = Limits(),
    tools: tuple[str, ...] = (),
    choice: ToolChoice = ToolChoice(),
    **run_context: Any,
) -> Step:
    bound = tuple(Tool(name=n, description="", parameters={"type": "object"}) for n in tools)
    return Step(
        messages=messages or (user("hi"),),
        intensity_request=intensity_request,
        limits=limits,
        tools=bound,
        tool_choice=choice,
        run_context=RunContext(**run_context),
    )


def requested(value: float | str) -> IntensityRequest:
    """What a caller asks: a number, ``auto`` or an effort."""
    if isinstance(value, str) and value != "auto":
        return IntensityRequest(effort=value, origin="call")
    return IntensityRequest(intensity=value if value == "auto" else Intensity(value), origin="call")  # type: ignore[arg-type]


def never(_: Decision) -> Estimate:
    raise AssertionError("the estimator must not be asked")


def saying(value: float) -> Any:
    """An estimator that always says this."""
    return lambda _: Estimate(estimator="test", intensity=Intensity(value))
