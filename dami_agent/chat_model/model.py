"""Run LangChain's calls through the pipeline, and compose models: ``ChatDAMI``."""

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

from dami_agent.chat_model import request, streaming, structured
from dami_agent.chat_model.async_bridge import iterate_in_thread, run_in_thread
from dami_agent.chat_model.configurable import ConfigurableChatDAMI
from dami_agent.chat_model.langchain_errors import langchain_errors
from dami_agent.chat_model.messages import response_metadata, to_ai_message
from dami_agent.chat_model.opened import OpenedChatModel
from dami_agent.chat_model.tool_binding import bind_tools_of
from dami_agent.errors import one_error
from dami_agent.pipeline import Cancellation, Outcome

if TYPE_CHECKING:
    from dami_agent.dialogue import Delta


class ChatDAMI(OpenedChatModel):
    """A chat model that thinks only as deeply as each step needs.

    ``ChatDAMI()`` runs the small built-in pair; two folders or hub ids run any compatible Instruct/Thinking pair. For
    each call λ in [0, 1] is chosen: a number in ``reasoning_intensity``, a name in ``reasoning_effort``, or ``"auto"``
    (the default: the estimator's, snapped to the pair's measured frontier).

    Setup:
        Install ``dami-agent``. No API key is needed: the model runs on this machine, on its GPU or CPU.

        ```bash
        pip install -U dami-agent
        ```

    Key init args — completion params:
        These may be given at init, through ``bind`` or at the call; the later one wins.

        reasoning_intensity: float | str | None
            λ, from 0 (Instruct) to 1 (Thinking), or ``"auto"``; with ``weights_mode="merged"`` also one per module,
            as in ``"ffn=0.9,attention=0.5,other=0.5"``.
        reasoning_effort: str | None
            ``none``, ``minimal``, ``low``, ``medium``, ``high`` or ``max``; an intensity given beside it wins.
        temperature: float | None
            Sampling temperature; None is the checkpoints' own.
        max_tokens: int | None
            Most tokens to generate, thought and answer together.
        max_reasoning_tokens: int | None
            Most tokens of the thought; it is closed there and the answer is written.
        stop: list[str] | str | None
            Strings that end the answer.
        seed: int | None
            Seed of the request's own random stream.
        logprobs: bool | None
            Whether to return log-probabilities of the answer's tokens.

    Key init args — client params:
        model: str
            ``"builtin"``, a folder with ``instruct/`` and ``thinking/`` in it, or ``"INSTRUCT+THINKING"``.
        instruct, thinking: str | None
            The two checkpoints, folders or Hugging Face ids, in place of ``model``.
        device, dtype: str
            Where and how the weights are held; ``"auto"`` looks at the machine.
        timeout: float | None
            Seconds until a call is given up; may be given at the call too.
        policy: ReasoningPolicy | str | dict | None
            Rules and budgets: an object, a file, a preset's name or a dict.
        ledger: Ledger | str | None
            Where calls go on record.

        The fields of the class are the full list.

    Instantiate:
        ```python
        from dami_agent import ChatDAMI

        model = ChatDAMI(
            max_tokens=300,
            seed=1,
            # instruct="Qwen/Qwen3-4B-Instruct-2507",
            # thinking="Qwen/Qwen3-4B-Thinking-2507",
        )
        ```

    Invoke:
        ```python
        messages = [("human", "Start with 7. Add 5. Multiply by 3. What is the result?")]
        reply = model.invoke(messages)
        print(reply.text)
        ```

    Stream:
        ```python
        for chunk in model.stream(messages):
            print(chunk.text, end="")
        ```

        Chunks add up to the message:

        ```python
        full = None
        for chunk in model.stream(messages):
            full = chunk if full is None else full + chunk
        ```

    Async:
        ```python
        reply = await model.ainvoke(messages)

        async for chunk in model.astream(messages):
            print(chunk.text, end="")

        replies = await model.abatch([messages, messages])
        ```

    Tool calling:
        ```python
        def get_price(item: str) -> int:
            \"\"\"Get the price of an item.\"\"\"
            return {"lamp": 12, "chair": 7}.get(item, 0)


        with_tools = model.bind_tools([get_price])
        print(with_tools.invoke("What is the price of a lamp?").tool_calls)
        ```

        A grammar holds calls to the tools' schemas; see ``bind_tools`` for ``tool_choice`` and ``strict``.

    Structured output:
        ```python
        from pydantic import BaseModel


        class Order(BaseModel):
            \"\"\"An order.\"\"\"

            item: str
            count: int


        structured = model.with_structured_output(Order)
        print(structured.invoke("Please order 3 lamps."))
        ```

    Reasoning intensity and budgets:
        ```python
        deep = model.invoke(messages, reasoning_intensity=1.0, max_reasoning_tokens=64)
        print([block["reasoning"] for block in deep.content_blocks if block["type"] == "reasoning"])
        shallow = model.bind(reasoning_effort="none").invoke(messages)
        print(deep.response_metadata["intensity"], shallow.response_metadata["intensity"])

        policy = {"tools": {"get_price": {"intensity": [0, 0.3], "max_reasoning_tokens": 32}}}
        frugal = ChatDAMI(max_tokens=300, seed=1, policy=policy).bind_tools([get_price])
        print(frugal.invoke("What is the price of a chair?").tool_calls)
        ```

    Token usage:
        ```python
        print(reply.usage_metadata)  # the thought's tokens are output_token_details["reasoning"]
        ```

        Streams have it on their last chunk, unless ``stream_usage`` is False.

    Logprobs:
        ```python
        reply = model.invoke(messages, logprobs=True, top_logprobs=2)
        print(reply.response_metadata["logprobs"]["content"][0])
        ```

    Response metadata:
        λ, why it was chosen, which template was used and how the answer ended:

        ```python
        print(reply.response_metadata["intensity"], reply.response_metadata["reason"])
        print(reply.response_metadata["template"], reply.response_metadata["finish_reason"])
        ```

    Raises:
        InvalidRequest, InvalidIntensity: bad settings (inside pydantic's ``ValidationError`` at init).
        CheckpointError: on first use, if the checkpoints are not a usable pair.
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
            return self._result(self.pipeline().run(self.build_step(messages, stop, run_manager, kwargs)))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with langchain_errors():
            step, cancellation = self.build_step(messages, stop, run_manager, kwargs), Cancellation()
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
        *,
        stream_usage: bool | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with langchain_errors():
            for item in self.pipeline().stream(self.build_step(messages, stop, run_manager, kwargs)):
                chunk = self._chunk(item, stream_usage)
                if run_manager is not None:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        *,
        stream_usage: bool | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        with langchain_errors():
            step, cancellation = self.build_step(messages, stop, run_manager, kwargs), Cancellation()
            source = iterate_in_thread(lambda: self.pipeline().stream(step, cancellation), cancellation.cancel)
            async for item in source:
                chunk = self._chunk(item, stream_usage)
                if run_manager is not None:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    def _metadata(self, outcome: Outcome) -> dict[str, Any]:
        pipeline = self.pipeline()
        metadata = response_metadata(outcome.attempts, outcome.reply, pipeline.engine.info.fingerprint)
        record = outcome.record
        logprobs = streaming.logprobs(record.generation, pipeline.dialogue, record.step.sampling.logprobs)
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

    def _chunk(self, item: Delta | Outcome, stream_usage: bool | None) -> ChatGenerationChunk:
        if isinstance(item, Outcome):
            with_usage = self.stream_usage if stream_usage is None else stream_usage
            return streaming.last(item.attempts, self._metadata(item), self.output_version, with_usage=with_usage)
        return streaming.piece(item, self.output_version)

    # ---- composition --------------------------------------------------------------------------------------------

    @langchain_errors()
    @one_error("the settings")
    def bind(self, **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:  # type: ignore[override]
        """Bind settings or call arguments; settings stay bound through ``bind_tools``, agents and structured output.

        LangChain's own ``bind`` keeps arguments in a wrapper that ``bind_tools`` and ``create_agent`` throw away.
        """
        own = request.normalize_settings(kwargs, "bind")
        self._check_pair(own)
        for_model = {name: value for name, value in own.items() if name in request.SETTINGS}
        for_call = {name: value for name, value in kwargs.items() if request.ALIASES.get(name, name) not in for_model}
        request.intensity_request([("bind", for_model)])
        request.limits(for_model, None, None)
        request.sampling(for_model)
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
        """Bind tools; unless ``strict`` is False, arguments of calls can then only follow their schemas.

        Args:
            tools: anything ``convert_to_openai_tool`` knows.
            tool_choice: ``auto``, ``any`` (or ``required``), ``none``, or a tool's name.
            parallel_tool_calls: False allows at most one call a reply.
            strict: as OpenAI's. True requires every declared property, allows no others, and refuses a schema that no
                grammar enforces in full. False has the grammar see to the tool's name and to JSON alone; arguments that
                break the schema reach the tool, which says so to the model. None follows the schema as it stands, as
                far as a grammar can, and checks the rest when the call is finished.
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
        """Hold answers to a form, at any λ, after free reasoning: a grammar sees to it.

        Args:
            schema: pydantic class, TypedDict or JSON schema; for ``json_mode`` also None.
            method: ``function_calling`` (a forced tool call, the form these models are trained on), ``json_schema``
                (the answer itself; the schema goes into the system prompt) or ``json_mode`` (the prompt must ask).
                None is ``function_calling``, or ``json_schema`` on a pair whose chat templates show no tools.
            include_raw: return ``{"raw", "parsed", "parsing_error"}`` and raise nothing.
            strict: True requires every declared property and allows no others; else output is held to the schema as
                it stands.
            kwargs: settings, as for ``bind``.

        Raises:
            OutputTruncated: at the call, when a cap came first; never a half object.
        """
        model: Runnable[Any, Any] = self.bind(**kwargs) if kwargs else self
        return structured.structured_output(model, schema, method=method, include_raw=include_raw, strict=strict)

    def configurable_fields(self, **kwargs: Any) -> ConfigurableChatDAMI:
        """Make settings configurable as LangChain does; ``bind_tools`` and structured output keep them."""
        return ConfigurableChatDAMI.of(self, kwargs)
