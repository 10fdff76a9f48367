"""Run ``dami ...``: one file per command. Nothing heavy is imported before a command runs, so that help is quick."""

from dami_agent.cli.app import main

__all__ = ["main"]
