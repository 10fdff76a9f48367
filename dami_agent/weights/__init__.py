"""θ(λ) = (1−λ)·θ_Instruct + λ·θ_Thinking: a transformers model whose weights are those of any λ.

Two ways, one interface (:class:`Weights`):

- ``merged``: one working copy of the weights at one λ, for every ``AutoModelForCausalLM``.
- ``mixed``: every row of a batch has its own λ, for the architectures that :func:`supports_mixed` names.

Nothing here knows a token's meaning, a request or LangChain.
"""

from __future__ import annotations

from dami_agent.weights.base import Weights
from dami_agent.weights.load import load_weights
from dami_agent.weights.mixed import supports_mixed

__all__ = ["Weights", "load_weights", "supports_mixed"]
