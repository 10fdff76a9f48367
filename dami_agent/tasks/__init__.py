"""Seeded questions and agent tasks with graders: pure Python, shared by training, bench and demo."""

from dami_agent.tasks.agent import agent_tasks
from dami_agent.tasks.catalogue import CATALOGUE
from dami_agent.tasks.novel import novel_task
from dami_agent.tasks.questions import FAMILIES, LEVELS, UNSEEN, Unseen, questions
from dami_agent.tasks.single import single_calls
from dami_agent.tasks.task import (
    AgentTask,
    Note,
    Operation,
    PlannedCall,
    Question,
    Split,
    TaskTool,
    ToolSpec,
    Working,
    final_number,
    final_word,
    split_of,
)
from dami_agent.tasks.world import World

__all__ = [
    "CATALOGUE",
    "FAMILIES",
    "LEVELS",
    "UNSEEN",
    "AgentTask",
    "Note",
    "Operation",
    "PlannedCall",
    "Question",
    "Split",
    "TaskTool",
    "ToolSpec",
    "Unseen",
    "Working",
    "World",
    "agent_tasks",
    "final_number",
    "final_word",
    "novel_task",
    "questions",
    "single_calls",
    "split_of",
]
