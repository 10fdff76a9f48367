"""Ledger and frontier files -> one offline HTML page. Reads nothing else, and needs no network to be opened."""

from dami_agent.report.page import ReportSource, Saved, render, write

__all__ = ["ReportSource", "Saved", "render", "write"]
