"""Random call records, finished and failed."""

from __future__ import annotations

import random
import uuid

from dami_agent.types import (
    CallRecord,
    Decision,
    Estimate,
    Generation,
    Intensity,
    IntensityRequest,
    InvalidToolCall,
    Limits,
    Message,
    Prompt,
    Reply,
    RunContext,
    Sampling,
    Step,
    Timing,
    TokenEvent,
    Tool,
    ToolCall,
)


def make_step(rng: random.Random, **run_context: object) -> Step:
    digested = rng.choice([None, "search", "add", "read_file"])
    messages = [Message(role="user", content="SECRET QUESTION")]
    if digested:
        messages += [
            Message(role="assistant", tool_calls=(ToolCall(id="c1", name=digested, arguments={}),)),
            Message(role="tool", tool_call_id="c1", content="SECRET RESULT"),
        ]
    known = {"call_id": uuid.UUID(int=rng.getrandbits(128)).hex, "run_id": "run", "root_run_id": "root"}
    return Step(
        messages=tuple(messages),
        tools=tuple(Tool(name=n, description="", parameters={}) for n in ("search", "add")),
        intensity_request=rng.choice(
            [
                IntensityRequest(),
                IntensityRequest(intensity="auto", origin="init"),
                IntensityRequest(intensity=Intensity(0.5)),
                IntensityRequest(effort="high"),
            ]
        ),
        run_context=RunContext(**{**known, **run_context}),  # type: ignore[arg-type]
    )


def make_generation(rng: random.Random, intensity: Intensity) -> Generation:
    parts = ["reasoning"] * rng.randint(0, 9) + ["control"] * rng.randint(0, 2) + ["answer"] * rng.randint(0, 9)
    return Generation(
        events=tuple(TokenEvent(token_id=rng.randrange(100), part=p) for p in parts),  # type: ignore[arg-type]
        finish_reason=rng.choice(["stop", "length"]),  # type: ignore[arg-type]
        intensity=intensity,
        sampling=Sampling(temperature=0.6, top_p=0.95, top_k=20, seed=rng.getrandbits(63)),
        thought_closed_by=rng.choice([None, "model", "cap"]),  # type: ignore[arg-type]
        prompt_tokens=rng.randint(1, 500),
        weights_version=rng.randint(0, 9),
        timing=Timing(queue=0.1, switch=0.2, prefill=0.3, first_token=0.65, decode=1.5, total=2.1),
    )


def make_record(
    seed: int, *, error: str | None = None, started_at: float | None = None, **run_context: object
) -> CallRecord:
    """A random record; with ``error`` one that failed while decoding."""
    rng = random.Random(seed)
    intensity = Intensity(rng.random())
    probe = make_generation(rng, Intensity(0)) if rng.random() < 0.5 else None
    estimate = Estimate(
        estimator="confidence",
        intensity=Intensity(rng.random()),
        features={"surprise": rng.random(), "entropy": float("inf")},
        probe=probe,
        tokens=probe.output_tokens if probe else 0,
        scored_tokens=rng.randint(0, 32),
        seconds=rng.random(),
    )
    decision = Decision(
        intensity=intensity,
        template="thinking",
        reason="estimated 0.43, snapped to 0.5",
        limits=Limits(max_tokens=100, stop=("END",)),
        estimate=estimate,
        requested=rng.choice([None, 0.5]),
        attempt=rng.randint(0, 2),
    )
    reply = Reply(
        content="SECRET ANSWER",
        reasoning="SECRET THOUGHT",
        tool_calls=tuple(
            ToolCall(id=str(i), name=n, arguments={"q": "SECRET ARG"}) for i, n in enumerate(["add", "search"])
        ),
        invalid_tool_calls=(InvalidToolCall(id="x", name=None, text="SECRET CALL", error="no JSON"),),
        finish_reason="tool_calls",
    )
    return CallRecord(
        step=make_step(rng, **run_context),
        decision=decision,
        generation=make_generation(rng, intensity),
        reply=None if error else reply,
        model="tiny",
        started_at=1_790_000_000 + seed if started_at is None else started_at,
        seconds=rng.random(),
        prompt=Prompt(token_ids=(1, 2, 3), template="thinking"),
        error=error,
    )
