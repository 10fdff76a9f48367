"""A LangChain chat model that thinks only as deeply as each step needs.

::

    from dami_agent import ChatDAMI

    ChatDAMI().invoke("Start with 7. Add 5. Multiply by 3. What is the result?")

Every public name is here and is imported when it is first used: importing this package takes no torch and no disk.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dami_agent.chat_model import ChatDAMI
    from dami_agent.checkpoints import CheckpointPair
    from dami_agent.errors import DamiError
    from dami_agent.estimators import ConfidenceEstimator, FixedEstimator
    from dami_agent.integrations.langchain import ReasoningBudgetMiddleware
    from dami_agent.ledger import Ledger, Prices, trace
    from dami_agent.policy import BudgetTracker, Frontier, ReasoningPolicy
    from dami_agent.runtime import LocalEngine
    from dami_agent.types import Intensity

_HOMES = {
    "BudgetTracker": "dami_agent.policy",
    "ChatDAMI": "dami_agent.chat_model",
    "CheckpointPair": "dami_agent.checkpoints",
    "ConfidenceEstimator": "dami_agent.estimators",
    "DamiError": "dami_agent.errors",
    "FixedEstimator": "dami_agent.estimators",
    "Frontier": "dami_agent.policy",
    "Intensity": "dami_agent.types",
    "Ledger": "dami_agent.ledger",
    "LocalEngine": "dami_agent.runtime",
    "Prices": "dami_agent.ledger",
    "ReasoningBudgetMiddleware": "dami_agent.integrations.langchain",
    "ReasoningPolicy": "dami_agent.policy",
    "trace": "dami_agent.ledger",
}

__all__ = [
    "BudgetTracker",
    "ChatDAMI",
    "CheckpointPair",
    "ConfidenceEstimator",
    "DamiError",
    "FixedEstimator",
    "Frontier",
    "Intensity",
    "Ledger",
    "LocalEngine",
    "Prices",
    "ReasoningBudgetMiddleware",
    "ReasoningPolicy",
    "__version__",
    "trace",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("dami-agent")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
