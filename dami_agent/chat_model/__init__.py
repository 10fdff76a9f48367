"""Adapt the pipeline to LangChain; thin on purpose."""

from dami_agent.chat_model.model import ChatDAMI

__all__ = ["ChatDAMI"]
