"""Run many requests, each at its own λ: token ids in, token ids out.

Knows no message and no tool: rendering and parsing belong to ``dialogue``. Imports torch.
"""

from __future__ import annotations

from dami_agent.runtime.engine import LocalEngine
from dami_agent.runtime.repetition import LoopRule
from dami_agent.runtime.thought import ThoughtMarkers

__all__ = ["LocalEngine", "LoopRule", "ThoughtMarkers"]
