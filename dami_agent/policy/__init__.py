"""Turn a step into a decision: rules, budgets, efforts, frontier. Knows no tokens' text and no weights."""

from dami_agent.policy.accounts import Spent
from dami_agent.policy.budget_tracker import BudgetTracker
from dami_agent.policy.cautions import GreedyThinkingWarning, IntensityWarning
from dami_agent.policy.checkers import Checker
from dami_agent.policy.escalation import Verifier
from dami_agent.policy.frontier import EFFORTS, Frontier, FrontierRow
from dami_agent.policy.plans import Cascade, SelfConsistency
from dami_agent.policy.policy import ReasoningPolicy
from dami_agent.policy.presets import PRESETS
from dami_agent.policy.resolve import EstimateFn
from dami_agent.policy.rules import Escalation, Rule, RunBudget, Settings, ToolSettings, When
from dami_agent.policy.spelling import UnknownNameWarning
from dami_agent.types import Price, Usage

__all__ = [
    "EFFORTS",
    "PRESETS",
    "BudgetTracker",
    "Cascade",
    "Checker",
    "Escalation",
    "EstimateFn",
    "Frontier",
    "FrontierRow",
    "GreedyThinkingWarning",
    "IntensityWarning",
    "Price",
    "ReasoningPolicy",
    "Rule",
    "RunBudget",
    "SelfConsistency",
    "Settings",
    "Spent",
    "ToolSettings",
    "UnknownNameWarning",
    "Usage",
    "Verifier",
    "When",
]
