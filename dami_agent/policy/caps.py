"""Cap one step: the caller's caps under the policy's, what a pair or window sets, and what a probe leaves of them."""

from __future__ import annotations

import dataclasses
import math
from typing import TypeVar

from dami_agent.policy.frontier import Frontier
from dami_agent.policy.rules import Rule, Settings
from dami_agent.types import Decision, Limits

Number = TypeVar("Number", int, float)

DEFAULT_ANSWER_RESERVE = 512
"""Tokens of ``max_tokens`` that a thought may not use up, at most half of it."""


def with_default(rule: Rule | None, default: Settings) -> Settings:
    """Merge a rule's caps, estimator and λ of the answer with the default's; the rule's win."""
    if rule is None:
        return default
    names = ("answer_intensity", "estimator", "max_reasoning_tokens", "max_tokens", "timeout")
    own = {name: getattr(rule, name) for name in names if getattr(rule, name) is not None}
    return default.model_copy(update=own)


def tighten(limits: Limits, settings: Settings) -> Limits:
    """Apply the policy's caps to the caller's limits; the smaller of the two holds."""
    most = _smaller(limits.max_tokens, settings.max_tokens)
    return dataclasses.replace(
        limits,
        max_tokens=most,
        max_tokens_by="" if most is None else "caller" if most == limits.max_tokens else "policy",
        max_reasoning_tokens=_smaller(limits.max_reasoning_tokens, settings.max_reasoning_tokens),
        timeout=_smaller(limits.timeout, settings.timeout),
    )


def with_default_cap(limits: Limits, frontier: Frontier, context_left: int | None) -> Limits:
    """Cap the output tokens where nobody did: at what the pair never comes near, or at what the window leaves.

    Args:
        limits: after :func:`tighten`.
        frontier: of the pair; its ``reply_limit`` is the cap.
        context_left: output tokens that the context window leaves; None: unknown.
    """
    limit = frontier.reply_limit
    if limits.max_tokens is not None:
        return limits
    if context_left is not None and 0 < context_left < (math.inf if limit is None else limit):
        return dataclasses.replace(limits, max_tokens=context_left, max_tokens_by="window")
    return dataclasses.replace(limits, max_tokens=limit, max_tokens_by="" if limit is None else "frontier")


def with_answer_reserve(limits: Limits, least: int = 0) -> Limits:
    """Reserve tokens for the answer, so that a thought cannot use up ``max_tokens``; ``least`` is a budget's."""
    half = DEFAULT_ANSWER_RESERVE if limits.max_tokens is None else limits.max_tokens // 2
    own = limits.answer_reserve or min(DEFAULT_ANSWER_RESERVE, half)
    return dataclasses.replace(limits, answer_reserve=max(own, least))


def thought_room(limits: Limits, spent: int = 0) -> float:
    """Return the tokens that a thought may have under some limits; infinite where nothing caps it.

    Args:
        limits: with what is reserved for the answer.
        spent: tokens of a probe that is discarded where there is a thought.
    """
    beside = math.inf if limits.max_tokens is None else limits.max_tokens - spent - limits.answer_reserve
    own = math.inf if limits.max_reasoning_tokens is None else limits.max_reasoning_tokens
    return max(0, min(own, beside))


def charge_probe(decision: Decision, *, timed: bool = True) -> Decision:
    """Take a probe that is not carried on from the limits; a budget has set those aside for the whole attempt.

    Args:
        decision: with the estimate.
        timed: its seconds too; False where the limits were computed after them.
    """
    estimate, limits = decision.estimate, decision.limits
    if estimate is None:
        return decision
    seconds = estimate.seconds if timed else 0.0
    if estimate.tokens == 0:  # it only read, which takes time alone
        timeout = _less(limits.timeout, seconds, 1e-3)
        return dataclasses.replace(decision, limits=dataclasses.replace(limits, timeout=timeout))
    probe, prompt = estimate.probe, estimate.probe_prompt
    if probe is not None and prompt is not None:
        if (probe.intensity, prompt.template) == (decision.intensity, decision.template):
            return decision
        left = math.inf if limits.max_tokens is None else limits.max_tokens - estimate.tokens - limits.answer_reserve
        if left < estimate.tokens:  # a thought shorter than the probe is not worth discarding the probe
            reason = f"{decision.reason}; the budget ends with the probe"
            return dataclasses.replace(decision, intensity=probe.intensity, template=prompt.template, reason=reason)
    thought = 0 if probe is None else sum(event.part == "reasoning" for event in probe.events)
    limits = dataclasses.replace(
        limits,
        max_tokens=_less(limits.max_tokens, estimate.tokens, 1),
        max_reasoning_tokens=_less(limits.max_reasoning_tokens, thought, 0),
        timeout=_less(limits.timeout, seconds, 1e-3),
    )
    return dataclasses.replace(decision, limits=limits)


def _smaller(one: Number | None, other: Number | None) -> Number | None:
    given = [value for value in (one, other) if value is not None]
    return min(given) if given else None


def _less(limit: Number | None, used: Number, least: Number) -> Number | None:
    return None if limit is None else max(least, limit - used)
