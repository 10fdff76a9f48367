"""Keep every call on record, and answer questions about it. Knows SQL; knows neither tokens nor models.

One row per attempt at a call, failures included, committed before the answer is returned. No prompt and no answer text,
unless the user turns it on. :func:`trace` shows the calls of a ``with`` block, with or without a ledger.
"""

from dami_agent.ledger.call_text import step_of
from dami_agent.ledger.ledger import Ledger
from dami_agent.ledger.location import default_location
from dami_agent.ledger.price_table import Prices
from dami_agent.ledger.query import CallRows
from dami_agent.ledger.row import CallRow
from dami_agent.ledger.rule_coverage import unmatched_rules
from dami_agent.ledger.savings import Savings
from dami_agent.ledger.summary import RunSummary, by_called_tool, by_node, by_tool, group, runs, totals
from dami_agent.ledger.tracing import RunTrace, trace
from dami_agent.ledger.verify import Verification
from dami_agent.types import Price

__all__ = [
    "CallRow",
    "CallRows",
    "Ledger",
    "Price",
    "Prices",
    "RunSummary",
    "RunTrace",
    "Savings",
    "Verification",
    "by_called_tool",
    "by_node",
    "by_tool",
    "default_location",
    "group",
    "runs",
    "step_of",
    "totals",
    "trace",
    "unmatched_rules",
]
