"""Questions through the project's own engine, many at a time: the shared driver of sweep, tools and calibration.

A question takes the road that a ChatDAMI call takes — policy, dialogue, engine, parser — without LangChain around it,
so that hundreds of rows share every forward pass.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from dami_agent.checkpoints.pair import both_or_neither
from dami_agent.errors import RunError
from dami_agent.policy import Frontier, ReasoningPolicy
from dami_agent.session import Session, SessionKey, open_session
from dami_agent.types import (
    Decision,
    Generation,
    Intensity,
    IntensityRequest,
    Job,
    Limits,
    Message,
    Prompt,
    Reply,
    Sampling,
    Step,
    Template,
    Tool,
)

MAX_TOKENS = 2048
"""Output tokens of one call in every measurement here. 512 of them are kept for the answer (the policy's rule), so a
thought may take 1,536; the built-in pair's longest take some 800."""

WINDOW = 900
"""Requests in flight: below the engine's default queue of 1,024, and enough to keep any batch full."""

BATCH = 384
"""Rows decoded together: 64, 192, 384 gave 1,800, 2,300, 2,700 tokens a CPU second at λ=1 of the built-in pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Hold one call to make: what to send, and at which λ."""

    step: Step
    intensity: Intensity
    template: Template | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Hold what came back; ``error`` is set instead where the call failed, which counts as a wrong answer."""

    reply: Reply
    generation: Generation | None
    decision: Decision
    prompt: Prompt
    error: str | None = None

    @property
    def tokens(self) -> int:
        """Return all output tokens, thought and answer."""
        return self.generation.output_tokens if self.generation else 0

    @property
    def thought(self) -> bool:
        """Return whether a thought with any text in it was written."""
        return bool(self.reply.reasoning.strip())

    @property
    def finished(self) -> bool:
        """Return whether the model ended its thought and its reply itself, before any cap."""
        if self.generation is None or self.error is not None:
            return False
        return self.generation.finish_reason == "stop" and self.generation.thought_closed_by != "cap"


POLICY = ReasoningPolicy()
"""Of a pair without a frontier: limits as ChatDAMI sets them, any λ as asked."""


def open_batch_session(
    instruct: str | None = None,
    thinking: str | None = None,
    *,
    weights_mode: str = "merged",
    batch: int = BATCH,
    revision: str | None = None,
) -> Session:
    """Open the pair, made for throughput: one λ at a time needs no mixed weights.

    Args:
        instruct, thinking: both checkpoints, or neither for the built-in pair.
        weights_mode: as ``ChatDAMI``'s.
        batch: requests decoded together at most.
        revision: branch, tag or commit of both hub ids.

    Raises:
        InvalidRequest: only one of the two checkpoints is given.
        CheckpointError: the pair cannot be used.
    """
    both_or_neither(instruct, thinking, "--instruct and --thinking")
    return open_session(
        SessionKey(
            instruct=instruct, thinking=thinking, revision=revision, weights_mode=weights_mode, max_batch_size=batch
        )
    )


def stream_seed(*key: object) -> int:
    """Return the seed of one request's random stream, from what identifies it; the same on every machine."""
    return int.from_bytes(blake2b(repr(key).encode(), digest_size=6).digest(), "big")


def question_step(prompt: str, *, tools: tuple[Tool, ...] = (), sampling: Sampling, max_tokens: int | None) -> Step:
    """Make a step of one user message, as an application would send it.

    Args:
        prompt: the user's message.
        tools: bound to the step.
        sampling: how tokens are drawn.
        max_tokens: most output tokens; None: what the context window leaves.
    """
    return Step(
        messages=(Message(role="user", content=prompt),),
        tools=tools,
        sampling=sampling,
        limits=Limits(max_tokens=max_tokens),
    )


def decide(policy: ReasoningPolicy, request: Request) -> Decision:
    """Decide as the policy does at an explicit λ; ``request.template`` overrules its choice of template."""
    step = dataclasses.replace(
        request.step, intensity_request=IntensityRequest(intensity=request.intensity, origin="bench")
    )
    decision = policy.decide(step, 0, _no_estimate)
    return decision if request.template is None else dataclasses.replace(decision, template=request.template)


def _no_estimate(_: Decision) -> Any:
    raise AssertionError("an explicit λ asks no estimator")


def answers(
    session: Session,
    requests: Iterable[Request],
    *,
    switch_point: float = 0.0,
    prefix_intensity: Intensity | None = None,
    done: Callable[[int], None] | None = None,
) -> Iterator[Answer]:
    """Run requests, hundreds in flight, and yield their answers in order.

    Args:
        session: the pair.
        requests: read as room for them appears.
        switch_point: λ up to which Instruct's template is used.
        prefix_intensity: λ that prompts are read at where their step does not say; None: that of the reply.
        done: called with 1 after each answer, for a progress bar.
    """
    policy = ReasoningPolicy(frontier=Frontier(switch_point=switch_point, prefix_intensity=prefix_intensity))
    waiting: deque[tuple[Request, Decision, Prompt, Job]] = deque()
    for request in requests:
        if len(waiting) >= WINDOW:
            yield _finish(session, waiting.popleft(), done)
        decision = decide(policy, request)
        prompt = session.dialogue.render(request.step, decision.template)
        waiting.append((request, decision, prompt, session.engine.submit(prompt, decision)))
    while waiting:
        yield _finish(session, waiting.popleft(), done)


def _finish(
    session: Session, item: tuple[Request, Decision, Prompt, Job], done: Callable[[int], None] | None
) -> Answer:
    request, decision, prompt, job = item
    generation, reply, error = None, Reply(), None
    try:
        generation = job.result()
        reply = session.dialogue.parse(generation, prompt, request.step)
    except RunError as failure:
        generation, error = failure.generation, f"{type(failure).__name__}: {failure.message}"
    if done is not None:
        done(1)
    return Answer(reply=reply, generation=generation, decision=decision, prompt=prompt, error=error)
