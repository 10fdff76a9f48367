"""Dialogue: messages and tools to prompt tokens, output tokens to reasoning, answer and tool calls.

Builds grammars (``Prompt.constraint``) but applies none; knows no weights, no engine and no LangChain.
"""

from dami_agent.dialogue.dialogue import Dialogue
from dami_agent.dialogue.parser import Delta, ReplyParser

__all__ = ["Delta", "Dialogue", "ReplyParser"]
