"""Every engine passes the contract, and a broken one fails the part of it that it breaks."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import pytest

from dami_agent.checkpoints import CheckpointPair
from dami_agent.errors import Cancelled
from dami_agent.runtime import LocalEngine
from dami_agent.testing import FakeEngine, FakeReply, FakeRequest
from dami_agent.testing.engine_claims import TEXTS, prompt_of
from dami_agent.testing.engine_contract import EngineContract
from dami_agent.types import Engine
from tests.broken_engines import BROKEN, AnEngine
from tests.pairs import write_pair
from tests.plain_engine import PlainEngine


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> CheckpointPair:
    return CheckpointPair.open(*write_pair(tmp_path_factory.mktemp("pair"), seed=7, dtype="float32"))


class OfAPair(EngineContract):
    @pytest.fixture(scope="class")
    @classmethod
    def tokenizer(cls, pair: CheckpointPair) -> Any:
        return pair.instruct.tokenizer()


class TestLocalMerged(OfAPair):
    mode = "merged"

    @pytest.fixture(scope="class")
    @classmethod
    def open_engine(cls, pair: CheckpointPair) -> Callable[[], Engine]:
        return lambda: LocalEngine.open(
            pair, device="cpu", dtype="float32", mode=cls.mode, context_length=256, loop_rule=None
        )


class TestLocalMixed(TestLocalMerged):
    mode = "mixed"


class TestPlain(OfAPair):
    """An engine of somebody else's."""

    supports_grammars = False

    @pytest.fixture(scope="class")
    @classmethod
    def open_engine(cls, pair: CheckpointPair) -> Callable[[], Engine]:
        return lambda: PlainEngine.open(pair, device="cpu", dtype="float32", mode="auto", context_length=256)


class TestFake(OfAPair):
    """The scripted one: no weights, no grammars, no randomness."""

    supports_seeds = supports_logprobs = supports_scoring = supports_grammars = False

    @pytest.fixture(scope="class")
    @classmethod
    def open_engine(cls, tokenizer: Any) -> Callable[[], Engine]:
        def reply(request: FakeRequest) -> FakeReply:
            text = f"At {request.decision.intensity:g} I say: " + " ".join(str(n) for n in range(60))
            return FakeReply(text, reasoning="So it is 42. Wait, let me check the quick brown fox.")

        def encode(text: str) -> list[int]:
            return list(tokenizer.encode(text, add_special_tokens=False))

        return lambda: FakeEngine(reply, encode, context_length=256, seconds_per_token=0.0005)


# ---- the contract can fail ------------------------------------------------------------------------------------------

FAILS = (AssertionError, pytest.fail.Exception, Cancelled, jsonschema.ValidationError, json.JSONDecodeError)


@pytest.fixture(scope="module")
def sound(pair: CheckpointPair) -> Iterator[Engine]:
    with LocalEngine.open(
        pair, device="cpu", dtype="float32", mode="mixed", context_length=256, loop_rule=None
    ) as engine:
        yield engine


@pytest.mark.parametrize(("test", "broken"), BROKEN, ids=[f"{test}-{kind.__name__}" for test, kind in BROKEN])
def test_a_broken_engine_fails(
    sound: Engine, pair: CheckpointPair, test: str, broken: type[AnEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    contract, tokenizer = EngineContract(), pair.instruct.tokenizer()
    monkeypatch.setattr("dami_agent.testing.engine_contract.TRIES", 1)
    prompts = [prompt_of(tokenizer, text) for text in TEXTS]
    given = {"engine": broken(sound), "tokenizer": tokenizer, "prompts": prompts, "open_engine": lambda: broken(sound)}
    needed = {name: given[name] for name in inspect.signature(getattr(contract, test)).parameters}
    with pytest.raises(FAILS):
        getattr(contract, test)(**needed)


def test_every_part_of_the_contract_has_an_engine_that_fails_it() -> None:
    assert {test for test, _ in BROKEN} == {name for name in dir(EngineContract) if name.startswith("test_")}
