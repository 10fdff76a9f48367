"""Every call on record, and questions to it. Knows SQL; knows neither tokens nor models.

One row per attempt at a call, failures included, committed before the answer is returned. No prompt and no answer text.
"""

from dami_agent.ledger.ledger import Ledger
from dami_agent.ledger.location import default_location
from dami_agent.ledger.row import Row

__all__ = ["Ledger", "Row", "default_location"]
