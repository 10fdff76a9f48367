"""The engine does what every engine is expected to, with the built-in pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dami_agent.checkpoints import CheckpointPair
from dami_agent.testing.engine_contract import EngineContract


class TestVllmEngine(EngineContract):
    @pytest.fixture(scope="class")
    @classmethod
    def open_engine(cls) -> Callable[[], Any]:
        from dami_agent.integrations.vllm import VllmEngine

        pair = CheckpointPair.builtin()
        return lambda: VllmEngine.open(pair, dtype="float32", context_length=256, enforce_eager=True)

    @pytest.fixture(scope="class")
    @classmethod
    def tokenizer(cls) -> Any:
        return CheckpointPair.builtin().instruct.tokenizer()
