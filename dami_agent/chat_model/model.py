"""ChatDAMI: the pipeline as a LangChain chat model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from dami_agent.chat_model import chunks, settings, structured
from dami_agent.chat_model.base import ConfiguredChatModel
from dami_agent.chat_model.bridge import iterate_in_thread, run_in_thread
from dami_agent.chat_model.errors import langchain_errors
from dami_agent.chat_model.messages import response_metadata, to_ai_message
from dami_agent.errors import one_error
from dami_agent.pipeline import Cancellation, Outcome

if TYPE_CHECKING:
    from dami_agent.chat_model.configurable import ConfigurableChatDAMI
    from dami_agent.dialogue import Delta


class ChatDAMI(ConfiguredChatModel):
    """A chat model that thinks only as deeply as each step needs.

    ``ChatDAMI()`` runs the small built-in pair; two folders or hub ids run any compatible Instruct/Thinking pair. For
    each call λ in [0, 1] is chosen: a number in ``reasoning_intensity``, a name in ``reasoning_effort``, or ``"auto"``
    (the default: the estimator's, snapped to the pair's measured frontier). What is marked "per call" may be given at
    init, through ``bind`` or at the call; the later one wins, and a number beats an effort name.

    λ, the template used, the reason and the call's id stand in ``response_metadata``; token counts, the thought's among
    them and rejected attempts' too, in ``usage_metadata``; the thought itself as a reasoning content block.

    Raises:
        InvalidRequest, InvalidIntensity: bad settings (inside pydantic's ``ValidationError`` at init).
        CheckpointError: on first use, if the checkpoints are no pair.
    """

    # ---- running ------------------------------------------------------------------------------------------------

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with langchain_errors():
            return self._result(self.pipeline().run(self._step(messages, stop, run_manager, kwargs)))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with langchain_errors():
            step, cancellation = self._step(messages, stop, run_manager, kwargs), Cancellation()
            try:
                outcome = await run_in_thread(lambda: self.pipeline().run(step, cancellation))
            except asyncio.CancelledError:
                cancellation.cancel()
                raise
            return self._result(outcome)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with langchain_errors():
            for item in self.pipeline().stream(self._step(messages, stop, run_manager, kwargs)):
                chunk = self._chunk(item)
                if run_manager is not None:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        with langchain_errors():
            step, cancellation = self._step(messages, stop, run_manager, kwargs), Cancellation()
            source = iterate_in_thread(lambda: self.pipeline().stream(step, cancellation), cancellation.cancel)
            async for item in source:
                chunk = self._chunk(item)
                if run_manager is not None:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    def _metadata(self, outcome: Outcome) -> dict[str, Any]:
        pipeline = self.pipeline()
        metadata = response_metadata(outcome.attempts, outcome.reply, pipeline.engine.info.fingerprint)
        logprobs = chunks.logprobs(outcome.record.generation, pipeline.dialogue)
        return metadata if logprobs is None else {**metadata, "logprobs": {"content": logprobs}}

    def _result(self, outcome: Outcome) -> ChatResult:
        metadata = self._metadata(outcome)
        message = to_ai_message(outcome.reply, outcome.attempts, metadata)
        info = {"finish_reason": outcome.reply.finish_reason}
        counts = message.usage_metadata
        output: dict[str, Any] = {"model_name": metadata["model_name"], "model_provider": metadata["model_provider"]}
        if counts is not None:
            output["token_usage"] = {
                "prompt_tokens": counts["input_tokens"],
                "completion_tokens": counts["output_tokens"],
                "total_tokens": counts["total_tokens"],
            }
        return ChatResult(generations=[ChatGeneration(message=message, generation_info=info)], llm_output=output)

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None]) -> dict[str, Any]:
        """Add up the token counts of several prompts of one ``generate``."""
        outputs = [output for output in llm_outputs if output is not None]
        if not outputs:
            return {}
        counts = [output.get("token_usage") or {} for output in outputs]
        total = {name: sum(count.get(name, 0) for count in counts) for name in counts[0]}
        return {**outputs[0], "token_usage": total}

    def _chunk(self, item: Delta | Outcome) -> ChatGenerationChunk:
        if isinstance(item, Outcome):
            return chunks.last(item.attempts, self._metadata(item), self.output_version)
        return chunks.piece(item, self.output_version)

    # ---- composition --------------------------------------------------------------------------------------------

    @langchain_errors()
    @one_error("the settings")
    def bind(self, **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:  # type: ignore[override]
        """Bind settings or call arguments; settings stay bound through ``bind_tools``, agents and structured output.

        LangChain's own ``bind`` keeps arguments in a wrapper that ``bind_tools`` and ``create_agent`` throw away.
        """
        own = settings.checked(kwargs, "bind")
        for_model = {name: value for name, value in own.items() if name in settings.SETTINGS}
        for_call = {name: value for name, value in kwargs.items() if settings.ALIASES.get(name, name) not in for_model}
        settings.ask([("bind", for_model)])
        settings.limits(for_model, None, None)
        settings.sampling(for_model)
        model = self
        if for_model:
            model = self.model_copy(update={"bound_settings": {**self.bound_settings, **for_model}})
        return model if not for_call else BaseChatModel.bind(model, **for_call)

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | dict[str, Any] | bool | None = None,
        parallel_tool_calls: bool | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools; arguments of calls can then only follow their schemas.

        Args:
            tools: anything ``convert_to_openai_tool`` knows.
            tool_choice: ``auto``, ``any`` (or ``required``), ``none``, or a tool's name.
            parallel_tool_calls: False allows at most one call a reply.
            strict: True asks for every property and allows no others, as OpenAI's strict mode does; calls follow
                their schemas in any case.
            kwargs: settings, as for ``bind``.

        Raises:
            InvalidSchema, InvalidRequest: at once, not at the call.
        """
        return bind_tools_of(self, tools, tool_choice, parallel_tool_calls, {**kwargs, "strict": strict})

    @langchain_errors()
    @one_error("the schema")
    def with_structured_output(
        self,
        schema: Any = None,
        *,
        method: structured.Method | None = None,
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Answers of the given form, at any λ, after free reasoning: a grammar sees to it.

        Args:
            schema: pydantic class, TypedDict or JSON schema; for ``json_mode`` also None.
            method: ``function_calling`` (a forced tool call, the form these models are trained on), ``json_schema``
                (the answer itself; the schema goes into the system prompt) or ``json_mode`` (the prompt must ask).
                None is ``function_calling``, or ``json_schema`` on a pair whose chat templates show no tools.
            include_raw: return ``{"raw", "parsed", "parsing_error"}`` and raise nothing.
            strict: accepted; output is always held to the schema.
            kwargs: settings, as for ``bind``.

        Raises:
            OutputTruncated: at the call, when a cap came first; never a half object.
        """
        model: Runnable[Any, Any] = self.bind(**kwargs) if kwargs else self
        return structured.structured_output(model, schema, method=method, include_raw=include_raw)

    def configurable_fields(self, **kwargs: Any) -> ConfigurableChatDAMI:
        """As LangChain's, but ``bind_tools`` and ``with_structured_output`` on the result keep what is configured."""
        from dami_agent.chat_model.configurable import ConfigurableChatDAMI

        return ConfigurableChatDAMI.of(self, kwargs)


@langchain_errors()
@one_error("the tools")
def bind_tools_of(
    model: Runnable[Any, Any],
    tools: Sequence[Any],
    tool_choice: Any,
    parallel_tool_calls: bool | None,
    kwargs: dict[str, Any],
) -> Runnable[LanguageModelInput, AIMessage]:
    """Shared by the plain and the configurable model: check now, bind what the call needs."""
    strict = kwargs.pop("strict", None)
    settings.tool_choice(tool_choice, settings.tools(tools))
    bound: dict[str, Any] = {"tools": [convert_to_openai_tool(tool, strict=strict) for tool in tools], **kwargs}
    if tool_choice is not None:
        bound["tool_choice"] = tool_choice
    if parallel_tool_calls is not None:
        bound["parallel_tool_calls"] = parallel_tool_calls
    return model.bind(**bound)
