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


V1 = "v1"
"""LangChain's name of the message format whose content is a list of typed blocks."""


PARTIAL_CALL = "partial_call"
"""Field of a chunk with what is written of a call so far, for streams of structured output."""


def piece(delta: Delta, version: str | None = None) -> ChatGenerationChunk:
    """Convert one delta of a reply to LangChain's chunk.

    Args:
        delta: a piece of the thought, of the answer's text, or a whole call.
        version: LangChain's ``output_version``. For ``"v1"`` the content is made here, each block with an index of its
            own: the ones LangChain would number by their order collide with those of the calls.
    """
    if delta.kind == "reasoning":
        if version == V1:
            return _blocks({"type": "reasoning", "reasoning": delta.text, "index": 0})
        return _chunk(AIMessageChunk(content="", additional_kwargs={"reasoning_content": delta.text}))
    if delta.kind == "text":
        if version == V1:
            return _blocks({"type": "text", "text": delta.text, "index": 1})
        return _chunk(AIMessageChunk(content=delta.text))
    if delta.kind == "partial_call":  # LangChain drops the field where it adds chunks up
        fields: Any = {PARTIAL_CALL: delta.text}
        return _chunk(AIMessageChunk(content=[] if version == V1 else "", **fields))
    call = delta.call
    assert call is not None
    if version == V1:  # calls are numbered from 1
        shown = _call_chunk(call, delta.index + 1)
        # An invalid call stands in invalid_tool_calls only, as in the message that LangChain makes for invoke.
        blocks = [{**shown, "type": "tool_call_chunk"}] if isinstance(call, ToolCall) else []
        return _blocks(*blocks, tool_call_chunks=[shown])
    return _chunk(AIMessageChunk(content="", tool_call_chunks=[_call_chunk(call, delta.index)]))


def _chunk(message: AIMessageChunk) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=message)


def _blocks(*blocks: dict[str, Any], **fields: Any) -> ChatGenerationChunk:
    return _chunk(AIMessageChunk(content=list(blocks), response_metadata={"output_version": V1}, **fields))


def _call_chunk(call: ToolCall | InvalidToolCall, index: int) -> Any:
    if isinstance(call, ToolCall):
        arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
    else:
        arguments = invalid_arguments(call)
    return tool_call_chunk(name=call.name, args=arguments, id=call.id, index=index)


def last(
    attempts: Sequence[CallRecord], metadata: dict[str, Any], version: str | None = None, *, with_usage: bool = True
) -> ChatGenerationChunk:
    """Return the final chunk: usage, and all that must stand on exactly one chunk because numbers would be merged.

    Args:
        attempts: all of the call; the usage is theirs together.
        metadata: the response metadata.
        version: LangChain's ``output_version``.
        with_usage: False leaves the usage out.
    """
    message = AIMessageChunk(
        content=[] if version == V1 else "",
        usage_metadata=usage(attempts) if with_usage else None,
        response_metadata={**metadata, "output_version": V1} if version == V1 else metadata,
        chunk_position="last",
    )
    return ChatGenerationChunk(message=message, generation_info={"finish_reason": metadata["finish_reason"]})


def logprobs(generation: Generation | None, dialogue: Dialogue, most: int | None) -> list[dict[str, Any]] | None:
    """Return log-probs of the answer's tokens in OpenAI's layout, or None if none were asked for.

    Args:
        generation: the reply's; an estimator's probe that became the reply knows more than was asked for.
        dialogue: turns tokens into text.
        most: alternatives that the caller asked for beside each token; None: no log-probs.
    """
    if generation is None or most is None:
        return None
    return [
        {
            "token": dialogue.token_text(event.token_id),
            "logprob": event.logprob.logprob,
            "top_logprobs": [
                {"token": dialogue.token_text(token), "logprob": value} for token, value in event.logprob.top[:most]
            ],
        }
        for event in generation.events
        if event.logprob is not None
    ]
