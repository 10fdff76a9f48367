"""Pieces of a reply as LangChain stream chunks, and log-probs in OpenAI's layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk

from dami_agent.chat_model.messages import invalid_arguments, usage
from dami_agent.types import CallRecord, Generation, InvalidToolCall, ToolCall

if TYPE_CHECKING:
    from dami_agent.dialogue import Delta, Dialogue


def piece(delta: Delta) -> ChatGenerationChunk:
    """One delta. Tool calls start at index 1: at 0 LangChain would merge them into the reasoning block."""
    if delta.kind == "reasoning":
        message = AIMessageChunk(content="", additional_kwargs={"reasoning_content": delta.text})
    elif delta.kind == "text":
        message = AIMessageChunk(content=delta.text)
    else:
        call = delta.call
        assert call is not None
        message = AIMessageChunk(content="", tool_call_chunks=[_call_chunk(call, delta.index)])
    return ChatGenerationChunk(message=message)


def _call_chunk(call: ToolCall | InvalidToolCall, index: int) -> Any:
    if isinstance(call, ToolCall):
        arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
    else:
        arguments = invalid_arguments(call)
    return tool_call_chunk(name=call.name, args=arguments, id=call.id, index=index)


def last(attempts: Sequence[CallRecord], metadata: dict[str, Any]) -> ChatGenerationChunk:
    """The final chunk: usage, and everything that must stand on exactly one chunk because numbers would be merged."""
    message = AIMessageChunk(
        content="", usage_metadata=usage(attempts), response_metadata=metadata, chunk_position="last"
    )
    return ChatGenerationChunk(message=message, generation_info={"finish_reason": metadata["finish_reason"]})


def logprobs(generation: Generation | None, dialogue: Dialogue) -> list[dict[str, Any]] | None:
    """Log-probs of the answer's tokens in OpenAI's layout, or None if none were asked for."""
    if generation is None or generation.sampling.logprobs is None:
        return None
    return [
        {
            "token": dialogue.token_text(event.token_id),
            "logprob": event.logprob.logprob,
            "top_logprobs": [
                {"token": dialogue.token_text(token), "logprob": value} for token, value in event.logprob.top
            ],
        }
        for event in generation.events
        if event.logprob is not None
    ]
