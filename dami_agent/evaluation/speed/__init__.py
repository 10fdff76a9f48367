"""Measure how fast the local engine is, each number against a named reference in the same run."""

from __future__ import annotations

from dami_agent.evaluation.speed.goals import GOALS, Goal
from dami_agent.evaluation.speed.measure import SpeedPlan, speed
from dami_agent.evaluation.speed.random_pair import SHAPES

__all__ = ["GOALS", "SHAPES", "Goal", "SpeedPlan", "speed"]
