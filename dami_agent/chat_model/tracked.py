"""Calls that know their run and thread, however they are consumed.

LangChain hands ``_generate`` the callbacks of its call, which hold run id, tags and metadata; it calls ``_stream``
without them, and neither sees the call's config. Here both are set before LangChain's own method runs, so that a call
finds itself in the :class:`~dami_agent.chat_model.run_tree.RunTree`: the same rules match and the same budgets pay.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from typing import Any, cast

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatResult
from langchain_core.runnables import RunnableConfig

from dami_agent.chat_model.run_tree import announce, current_call


class TrackedChatModel(BaseChatModel):
    """A chat model whose calls find the run and the thread that they belong to."""

    def invoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """Answer with a message; see ``BaseChatModel.invoke``."""
        config, run_id = announce(config)
        with current_call(run_id):
            return super().invoke(input, config, stop=stop, **kwargs)

    async def ainvoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """Answer with a message; see ``BaseChatModel.ainvoke``."""
        config, run_id = announce(config)
        with current_call(run_id):
            return await super().ainvoke(input, config, stop=stop, **kwargs)

    def stream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """Stream message chunks; see ``BaseChatModel.stream``."""
        config, run_id = announce(config)
        chunks = cast("Any", super().stream(input, config, stop=stop, **kwargs))
        with closing(chunks):
            with current_call(run_id):  # LangChain begins the call, and _stream, before the first chunk is there
                first = next(chunks, None)
            if first is not None:
                yield first
                yield from chunks

    async def astream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """Stream message chunks; see ``BaseChatModel.astream``."""
        config, run_id = announce(config)
        chunks = cast("Any", super().astream(input, config, stop=stop, **kwargs))
        async with aclosing(chunks):
            with current_call(run_id):
                first = await anext(chunks, None)
            if first is not None:
                yield first
                async for chunk in chunks:
                    yield chunk

    def stream_events(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Stream events; see ``BaseChatModel.stream_events``."""
        if kwargs.get("version") == "v3":  # begins its call itself; older versions use stream
            config, _ = announce(config)
        return super().stream_events(input, config, **kwargs)

    def astream_events(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Stream events; see ``BaseChatModel.astream_events``."""
        if kwargs.get("version") == "v3":
            config, _ = announce(config)
        return super().astream_events(input, config, **kwargs)

    def _generate_with_cache(
        self, messages: Any, stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        """Generate for a caller of ``invoke``; LangChain streams inside where somebody listens."""
        with current_call(run_manager.run_id if run_manager is not None else None):
            return super()._generate_with_cache(messages, stop=stop, run_manager=run_manager, **kwargs)

    async def _agenerate_with_cache(
        self, messages: Any, stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        """Generate for a caller of ``ainvoke``; LangChain streams inside where somebody listens."""
        with current_call(run_manager.run_id if run_manager is not None else None):
            return await super()._agenerate_with_cache(messages, stop=stop, run_manager=run_manager, **kwargs)
