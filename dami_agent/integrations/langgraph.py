"""Apply a policy per run in plain LangGraph nodes and LCEL chains, where no middleware stands beside the model."""

from __future__ import annotations

from typing import Any

from langchain_core.runnables import ConfigurableField, Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config

from dami_agent.chat_model import ChatDAMI
from dami_agent.chat_model.configurable import ConfigurableChatDAMI
from dami_agent.integrations.policy_injection import KEY, run_policy

_RUNTIME = "__pregel_runtime"  # LangGraph's Runtime in a node's configuration; ``get_runtime`` reads the same


class PerRunChatDAMI(ConfigurableChatDAMI):
    """A ChatDAMI whose policy the run around it may bring along; see :func:`per_run_policy`."""

    def _prepare(self, config: RunnableConfig | None = None) -> tuple[Runnable[Any, Any], RunnableConfig]:
        config = ensure_config(config)
        configurable = config.get("configurable", {})
        policy = run_policy(config, getattr(configurable.get(_RUNTIME), "context", None))
        others = {name: value for name, value in configurable.items() if name != KEY}
        if policy is not None:
            others[KEY] = policy
        return super()._prepare({**config, "configurable": others})


def per_run_policy(model: ChatDAMI) -> PerRunChatDAMI:
    """Put a model under the policy that each run brings along, else under its own.

    ::

        model = per_run_policy(ChatDAMI())
        graph.invoke(state, context={"policy": "frugal"})                             # LangGraph
        chain.invoke(question, {"configurable": {"policy": {"run": {"max_tokens": 500}}}})  # LCEL

    A preset, a path, a dict or a ``ReasoningPolicy``; under equal ones all steps of the run spend from one account.
    Works with ``bind_tools`` and ``with_structured_output``.
    """
    field = ConfigurableField(id=KEY, name="Reasoning policy", description="preset, path, dict or ReasoningPolicy")
    return PerRunChatDAMI(default=model, fields={"policy": field})
