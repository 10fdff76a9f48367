"""Replies as LangChain messages: content, calls, usage and metadata."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from langchain_core.messages import AIMessage, InvalidToolCall, ToolCall
from langchain_core.messages.ai import OutputTokenDetails, UsageMetadata, add_usage

from dami_agent.types import CallRecord, Reply, modules_of
from dami_agent.types import InvalidToolCall as OwnInvalidToolCall


def to_ai_message(reply: Reply, attempts: Sequence[CallRecord], response_metadata: dict[str, Any]) -> AIMessage:
    """Convert a finished reply to LangChain's message: text as content, the thought as a reasoning block beside it."""
    return AIMessage(
        content=reply.content,
        additional_kwargs={"reasoning_content": reply.reasoning} if reply.reasoning else {},
        tool_calls=[ToolCall(name=c.name, args=dict(c.arguments), id=c.id) for c in reply.tool_calls],
        invalid_tool_calls=[
            InvalidToolCall(name=c.name, args=invalid_arguments(c), id=c.id, error=c.error, type="invalid_tool_call")
            for c in reply.invalid_tool_calls
        ],
        usage_metadata=usage(attempts),
        response_metadata=response_metadata,
    )


def invalid_arguments(call: OwnInvalidToolCall) -> str:
    """Return all the model wrote, from its ``<tool_call>`` on.

    The marker also keeps LangChain's lenient parser, which mends broken JSON in streams, from making it a valid call.
    """
    return f"<tool_call>{call.text}"


def usage(attempts: Sequence[CallRecord]) -> UsageMetadata:
    """Token counts of a call: of all its attempts, as the caller pays for all of them. Ints only."""
    return reduce(add_usage, map(_usage, attempts))


def _usage(record: CallRecord) -> UsageMetadata:
    """Count the tokens of one attempt; ``discarded`` are those of a probe, or of an answer begun at another λ."""
    prompt = len(record.prompt.token_ids) if record.prompt else 0
    details = OutputTokenDetails(reasoning=record.generation.reasoning_tokens if record.generation else 0)
    if discarded := record.probe_tokens + record.discarded_tokens:
        details["discarded"] = discarded  # type: ignore[typeddict-unknown-key]
    return UsageMetadata(
        input_tokens=prompt,
        output_tokens=record.output_tokens,
        total_tokens=prompt + record.output_tokens,
        input_token_details={"cache_read": record.cached_tokens},
        output_token_details=details,
    )


def response_metadata(attempts: Sequence[CallRecord], reply: Reply, fingerprint: str) -> dict[str, Any]:
    """Return everything about how the answer came about that is not text: λ, template, reason, weights, times.

    All of it is the last attempt's, the one that gave the answer; ``attempt_usage`` are its own tokens, where there
    were others.
    """
    record = attempts[-1]
    decision, generation = record.decision, record.generation
    assert decision is not None
    assert generation is not None
    estimate = decision.estimate
    metadata: dict[str, Any] = {
        "model_name": record.model,
        "model_provider": "dami",
        "finish_reason": reply.finish_reason,
        "intensity": float(decision.intensity),
        "prefix_intensity": None if generation.prefix_intensity is None else float(generation.prefix_intensity),
        "template": decision.template,
        "reason": decision.reason,
        "policy": decision.policy,
        "thought_closed_by": generation.thought_closed_by,
        "closing_words": generation.closing_words,
        "weights_mode": generation.weights_mode,
        "weights_version": generation.weights_version,
        "fingerprint": fingerprint,
        "seed": generation.sampling.seed,
        "call_id": record.step.run_context.call_id,
        "probe_tokens": record.probe_tokens,
        "reread_tokens": record.reread_tokens,
        "seconds": round(record.seconds, 6),
        "first_token_seconds": round(generation.timing.first_token, 6),
        "attempts": len(attempts),
    }
    if (per_module := modules_of(decision.intensity)) is not None:
        metadata["intensity_modules"] = per_module
    if len(attempts) > 1:
        metadata["attempt_usage"] = dict(_usage(record))
    if estimate is not None:
        metadata["estimate"] = {
            "estimator": estimate.estimator,
            "intensity": float(estimate.intensity),
            "features": {name: round(value, 6) for name, value in estimate.features.items()},
        }
    return metadata
