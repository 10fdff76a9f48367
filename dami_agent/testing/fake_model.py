"""Give people who test their own agents a ``ChatDAMI`` with scripted replies: no weights, the same every time.

::

    from dami_agent.testing import FakeReply, fake_chat_model

    replies = [FakeReply(tool_calls=[("add", {"a": 3, "b": 4})]), FakeReply("It is 7.", reasoning="3 + 4")]
    model = fake_chat_model(replies)
    agent = create_agent(model, [add])
    agent.invoke(...)
    model.engine.requests[0].decision.intensity   # what your policy chose
    model.ledger.rows()                           # what a real run would have put on record

All of ``ChatDAMI`` is real (policy, templates, parsing, ledger); only the engine is not
(:mod:`~dami_agent.testing.fake_engine`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dami_agent.testing.fake_engine import FakeEngine, FakeReply, FakeRequest
from dami_agent.types import Intensity, WeightsMode

if TYPE_CHECKING:
    from dami_agent.chat_model import ChatDAMI

__all__ = ["fake_chat_model"]


@functools.cache
def _builtin_dialogue() -> tuple[Any, Mapping[Any, Any]]:
    """Read the built-in pair's tokenizer and both its chat templates, once per process."""
    from transformers import PreTrainedTokenizerFast  # AutoTokenizer would bring torch along

    from dami_agent.checkpoints.pair import builtin_checkpoints

    instruct, thinking = builtin_checkpoints()
    templates = {"instruct": instruct.chat_template, "thinking": thinking.chat_template}
    return PreTrainedTokenizerFast.from_pretrained(instruct.path), templates


def fake_chat_model(
    replies: Iterable[str | FakeReply] | Callable[[FakeRequest], str | FakeReply],
    *,
    intensity: float = 0.5,
    seconds_per_token: float = 0.0,
    **settings: Any,
) -> ChatDAMI:
    """Make a ``ChatDAMI`` with scripted replies, the built-in pair's templates and tokenizer, a ledger in memory.

    Args:
        replies: see :class:`FakeEngine`; ``model.engine.requests`` holds what it was asked.
        intensity: what the estimator answers when λ is left to it.
        seconds_per_token: how long each token takes.
        settings: of ``ChatDAMI``: ``reasoning_effort``, ``policy``, ``estimator``, ``ledger``, …;
            a λ per module needs ``weights_mode="merged"``, as in a real run.
    """
    from dami_agent.chat_model import ChatDAMI
    from dami_agent.dialogue import Dialogue
    from dami_agent.estimators import FixedEstimator
    from dami_agent.ledger import Ledger

    tokenizer, templates = _builtin_dialogue()

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False))

    mode: WeightsMode = "merged" if settings.get("weights_mode") == "merged" else "mixed"
    engine = FakeEngine(replies, encode, seconds_per_token=seconds_per_token, weights_mode=mode)
    own = {
        "engine": engine,
        "dialogue": Dialogue(tokenizer, templates=templates),
        "estimator": FixedEstimator(Intensity(intensity)),
        "ledger": Ledger.open(":memory:"),
    }
    return ChatDAMI(**{**own, **settings})
