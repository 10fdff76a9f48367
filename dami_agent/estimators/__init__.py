"""Estimate λ(q), one estimator per file; they ask the engine for tokens and scores and know no messages."""

from dami_agent.estimators.confidence import ConfidenceEstimator
from dami_agent.estimators.fixed import FixedEstimator
from dami_agent.estimators.registry import estimator_named, estimator_names, register_estimator

__all__ = ["ConfidenceEstimator", "FixedEstimator", "estimator_named", "estimator_names", "register_estimator"]
