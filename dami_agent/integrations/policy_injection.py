"""Give a policy to the ChatDAMI that LangChain has wrapped; an integration never gives a λ.

Nothing here decides anything; the pipeline asks the policy, as always.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.runnables import RunnableBinding, RunnableConfig
from langchain_core.runnables.config import ensure_config, merge_configs, var_child_runnable_config

from dami_agent.chat_model import ChatDAMI
from dami_agent.chat_model.configurable import ConfigurableChatDAMI
from dami_agent.chat_model.run_tree import run_context_of
from dami_agent.errors import InvalidPolicy, UsageError
from dami_agent.policy import BudgetTracker, ReasoningPolicy
from dami_agent.policy.registry import read_policy
from dami_agent.types import RunContext

KEY = "policy"
"""Where a run's own policy stands: ``config={"configurable": {"policy": …}}`` or LangGraph's ``context``."""


def unwrap_model(model: Any, user: str) -> tuple[ChatDAMI, dict[str, Any]]:
    """Find the ChatDAMI in ``model``, configured as the run around says, and call arguments bound to it.

    LangChain's agents call ``bind_tools`` on what they are given, which throws bindings away; these are kept.

    Args:
        model: a ChatDAMI, what its ``bind``, ``with_config`` or ``configurable_fields`` made, or a mixture.
        user: who needs it, for the error.

    Raises:
        UsageError: it is none, or tools are bound to it already.
    """
    found, bound, config = model, dict[str, Any](), RunnableConfig()
    while isinstance(found, RunnableBinding):
        bound = {**found.kwargs, **bound}
        config = merge_configs(found.config, config)
        found = found.bound
    if isinstance(found, ConfigurableChatDAMI):
        found, _ = found.prepare(merge_configs(ensure_config(), config))
    if not isinstance(found, ChatDAMI):
        raise UsageError(
            f"{user} needs a ChatDAMI, the model is a {type(found).__name__}",
            hint="give the agent a ChatDAMI, or leave the middleware out for models that choose no λ",
        )
    if "tools" in bound:
        raise UsageError("tools are bound to the agent's model already", hint="give them to create_agent(tools=…)")
    own = {"tags": [*(found.tags or []), *config.get("tags", [])]}
    own_metadata = {**(found.metadata or {}), **config.get("metadata", {})}
    if config.get("tags") or config.get("metadata"):
        found = found.model_copy(update={**own, "metadata": own_metadata})
    return found, bound


def with_policy(model: ChatDAMI, policy: ReasoningPolicy, budgets: BudgetTracker) -> ChatDAMI:
    """Copy the model under another policy, with that policy's accounts; engine and ledger are shared."""
    if model.policy is policy and model.budgets is budgets:
        return model
    copy = model.model_copy(update={"policy": policy, "budgets": budgets, "ledger": model.pipeline().ledger})
    copy._pipeline = None
    return copy


def run_policy(config: RunnableConfig, context: Any) -> ReasoningPolicy | None:
    """Return the policy that this run brings along, if any; LangGraph's ``context`` goes before ``configurable``.

    Args:
        config: of the run.
        context: LangGraph's: a mapping, or an object with an attribute ``policy``; anything else has none.

    Raises:
        InvalidPolicy: what stands there is no policy.
    """
    given = context.get(KEY) if isinstance(context, Mapping) else getattr(context, KEY, None)
    given = given if given is not None else config.get("configurable", {}).get(KEY)
    cascade = given.get("cascade") if isinstance(given, Mapping) else None
    check = cascade.get("check") if isinstance(cascade, Mapping) else None
    if isinstance(check, str) and ":" in check:  # a server's clients send such dicts; reading one would import it
        raise InvalidPolicy(
            f"the policy that a run brings along names code: cascade.check {check[:80]!r}",
            hint="name functions in the model's own policy, or give the run a ReasoningPolicy object",
        )
    return read_policy(given)


def current_run() -> tuple[RunnableConfig, RunContext]:
    """Return the configuration of the run around, and where in its tree a model call made now would stand."""
    return var_child_runnable_config.get() or RunnableConfig(), run_context_of()
