"""Estimate λ(q), one estimator per file; they ask the engine for tokens and scores and know no messages."""

from dami_agent.estimators.auto import AutoEstimator
from dami_agent.estimators.confidence import ConfidenceEstimator
from dami_agent.estimators.entropy import EntropyEstimator
from dami_agent.estimators.fixed import FixedEstimator
from dami_agent.estimators.joint import JointEstimator
from dami_agent.estimators.preference import PreferenceEstimator
from dami_agent.estimators.registry import estimator_named, estimator_names, register_estimator
from dami_agent.estimators.router import RouterEstimator
from dami_agent.estimators.staged import StagedEstimator

__all__ = [
    "AutoEstimator",
    "ConfidenceEstimator",
    "EntropyEstimator",
    "FixedEstimator",
    "JointEstimator",
    "PreferenceEstimator",
    "RouterEstimator",
    "StagedEstimator",
    "estimator_named",
    "estimator_names",
    "register_estimator",
]
