"""Seeded questions and agent tasks with graders: pure Python, shared by training, bench and demo."""

from dami_agent.tasks.agent import agent_tasks
from dami_agent.tasks.arithmetic import FAMILIES, LEVELS, questions
from dami_agent.tasks.catalogue import CATALOGUE, World
from dami_agent.tasks.model import (
    AgentTask,
    Operation,
    PlannedCall,
    Question,
    Split,
    Tool,
    ToolSpec,
    final_number,
    split_of,
)
from dami_agent.tasks.novel import novel_task

__all__ = [
    "CATALOGUE",
    "FAMILIES",
    "LEVELS",
    "AgentTask",
    "Operation",
    "PlannedCall",
    "Question",
    "Split",
    "Tool",
    "ToolSpec",
    "World",
    "agent_tasks",
    "final_number",
    "novel_task",
    "questions",
    "split_of",
]
