"""LangChain's cache under a policy: what decides a call's λ is part of its key, or the call is not cached.

LangChain's key knows messages and settings. A policy also reads tags, metadata, node and step of a call, and what its
run or thread has spent: with the same messages, another rule may win.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult

from dami_agent.chat_model.request import with_canonical_intensity
from dami_agent.chat_model.run_tree import run_context_of

_READ: ContextVar[str] = ContextVar("dami_agent_read_by_policy", default="")


class PolicyCachedChatModel(BaseChatModel):
    """A chat model whose ``policy`` is heard before LangChain's cache is."""

    def _generate_with_cache(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        model, read = self._heard(run_manager)
        token = _READ.set(read)
        try:
            return super(PolicyCachedChatModel, model)._generate_with_cache(messages, stop, run_manager, **kwargs)
        finally:
            _READ.reset(token)

    async def _agenerate_with_cache(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        model, read = self._heard(run_manager)
        token = _READ.set(read)
        try:
            made = super(PolicyCachedChatModel, model)._agenerate_with_cache(messages, stop, run_manager, **kwargs)
            return await made
        finally:
            _READ.reset(token)

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        key = super()._get_llm_string(stop=stop, **with_canonical_intensity(kwargs))
        read = [each for each in (_READ.get(), self._measured_digest()) if each]
        return "---".join([key, *read])

    def _measured_digest(self) -> str:
        """Identify what was measured of the model's pair, and λ is chosen by: heads and frontier; "" if nothing was."""
        return ""

    def _heard(self, run_manager: Any) -> tuple[PolicyCachedChatModel, str]:
        """Return the model, without a cache where an answer holds for this moment only, and what its policy reads."""
        policy = getattr(self, "policy", None)
        if policy is None:
            return self, ""
        read = policy.cache_key(run_context_of(run_manager))
        return (self.model_copy(update={"cache": False}), "") if read is None else (self, read)
