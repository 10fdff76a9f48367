"""Step -> decision: rules, budgets, efforts, frontier. Knows no tokens' text and no weights."""

from dami_agent.policy.frontier import EFFORTS, Frontier, FrontierRow
from dami_agent.policy.policy import AskEstimator, GreedyThinkingWarning, IntensityWarning, ReasoningPolicy

__all__ = [
    "EFFORTS",
    "AskEstimator",
    "Frontier",
    "FrontierRow",
    "GreedyThinkingWarning",
    "IntensityWarning",
    "ReasoningPolicy",
]
