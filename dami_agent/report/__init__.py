"""Turn ledger and frontier files into one offline HTML page, and read nothing else."""

from dami_agent.report.page import ReportSource, Saved, render, write

__all__ = ["ReportSource", "Saved", "render", "write"]
