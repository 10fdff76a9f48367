"""Measure for ``dami doctor --speed`` how fast a pair loads, changes λ and decodes on this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dami_agent.checkpoints import CheckpointPair, Plan
    from dami_agent.dialogue import Dialogue
    from dami_agent.runtime import LocalEngine

BATCHES = (1, 8)
TOKENS = 64  # of one reply at most
SECONDS = 3.0  # each batch size is decoded for at least so long, or ``ROUNDS`` times
ROUNDS = 20
SWITCHES = (0.3, 0.6, 0.4)  # λs that are switched to in turn; the first, which takes memory, is not counted
QUESTION = "Count from 1 to 100, one number after another, and explain each step. ({})"


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Holds what was measured on this machine, with nothing else in the engine.

    Attributes:
        load_seconds: both endpoints from disk; the second time it may be less, from the system's cache.
        switch_seconds: mean time until another λ is in force; mixed weights switch nothing, and prepare a row's λ.
        tokens_per_second: batch size → output tokens a second, over all rows, prefill included.
    """

    load_seconds: float
    switch_seconds: float
    tokens_per_second: Mapping[int, float]


def measure(pair: CheckpointPair, plan: Plan) -> Speed:
    """Load ``pair`` as planned, switch λ and decode; takes at least some seconds.

    Raises:
        DamiError: it does not load or decode.
    """
    from dami_agent.dialogue import Dialogue
    from dami_agent.runtime import LocalEngine
    from dami_agent.weights import load_weights

    where: dict[str, Any] = {"mode": plan.mode, "device": plan.device, "dtype": plan.dtype}
    began = time.perf_counter()
    weights = load_weights(pair.instruct.path, pair.thinking.path, device_map=plan.device_map, **where)
    loaded = time.perf_counter() - began
    for number, intensity in enumerate(SWITCHES):
        with weights.at([intensity]):
            if number == 0:
                before = weights.switch_seconds
    switch = (weights.switch_seconds - before) / (len(SWITCHES) - 1)
    del weights
    templates: Any = {"instruct": pair.instruct.chat_template, "thinking": pair.thinking.chat_template}
    dialogue = Dialogue(pair.instruct.tokenizer(), templates=templates)
    engine = LocalEngine.open(pair, context_length=plan.context_length, **where)
    try:
        _decode(engine, dialogue, 1)  # loads the weights again, and warms up
        rates = {size: _rate(engine, dialogue, size) for size in BATCHES}
    finally:
        engine.close()
    return Speed(load_seconds=loaded, switch_seconds=switch, tokens_per_second=rates)


def _rate(engine: LocalEngine, dialogue: Dialogue, size: int) -> float:
    began, tokens = time.perf_counter(), 0
    for _ in range(ROUNDS):
        tokens += _decode(engine, dialogue, size)
        if time.perf_counter() - began >= SECONDS:
            break
    return tokens / (time.perf_counter() - began)


def _decode(engine: LocalEngine, dialogue: Dialogue, size: int) -> int:
    """Decode ``size`` replies at once at λ=1; return the number of output tokens."""
    from dami_agent.types import Decision, Intensity, Limits, Message, Sampling, Step

    decision = Decision(
        intensity=Intensity(1),
        template="thinking",
        reason="speed",
        sampling=Sampling(temperature=1.0, seed=0),
        limits=Limits(max_tokens=min(TOKENS, engine.info.context_length // 2)),
    )
    steps = [Step(messages=(Message(role="user", content=QUESTION.format(n)),)) for n in range(size)]
    jobs = [engine.submit(dialogue.render(step, decision.template), decision) for step in steps]
    return sum(len(job.result().events) for job in jobs)
