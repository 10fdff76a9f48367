"""Test agents without a model, and engines against what is expected of every engine.

- :mod:`~dami_agent.testing.fake_model`: a ``ChatDAMI`` with scripted replies, for tests of your own agents.
- :mod:`~dami_agent.testing.fake_engine`: the scripted engine under it.
- :mod:`~dami_agent.testing.engine_contract`: a pytest suite that every engine must pass; it alone needs pytest.
"""

from dami_agent.testing.fake_engine import FakeEngine, FakeJob, FakeReply, FakeRequest
from dami_agent.testing.fake_model import fake_chat_model

__all__ = ["FakeEngine", "FakeJob", "FakeReply", "FakeRequest", "fake_chat_model"]
