"""Turn two folders or hub ids into one verified pair: what fits, what does not, and what it will take to run.

Knows files, configs and headers; no weight is read here, and no code that comes with a checkpoint is ever run.
"""

from dami_agent.checkpoints.checkpoint import Checkpoint
from dami_agent.checkpoints.compatibility import Check, Inspection, compare
from dami_agent.checkpoints.headers import TensorEntry
from dami_agent.checkpoints.layout import Layout
from dami_agent.checkpoints.pair import CheckpointPair
from dami_agent.checkpoints.plan import Plan, plan

__all__ = ["Check", "Checkpoint", "CheckpointPair", "Inspection", "Layout", "Plan", "TensorEntry", "compare", "plan"]
