"""Copies of a chat model: deep copies share the engine, pickled ones and forked children open their own."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.rate_limiters import InMemoryRateLimiter
from pydantic import BaseModel, ConfigDict

from dami_agent import ChatDAMI, Ledger, ReasoningPolicy
from dami_agent.errors import EngineClosed, InvalidRequest
from dami_agent.testing import FakeReply, fake_chat_model

QUESTION = "Start with 7. Add 5. What is the result?"
SETTINGS: dict[str, Any] = {"reasoning_intensity": 0, "temperature": 0, "max_tokens": 24}


def loaded(tmp_path: Path, **settings: Any) -> ChatDAMI:
    model = ChatDAMI(ledger=tmp_path / "calls.sqlite", **{**SETTINGS, **settings})
    model.invoke(QUESTION)
    return model


@pytest.mark.parametrize(
    "copied",
    [
        pytest.param(copy.deepcopy, id="deepcopy"),
        pytest.param(copy.copy, id="copy"),
        pytest.param(lambda model: model.model_copy(deep=True), id="model_copy, deep"),
        pytest.param(lambda model: copy.deepcopy({"a": [model]})["a"][0], id="inside something else"),
        pytest.param(lambda model: model.model_copy(update={"temperature": 0.0}), id="model_copy"),
    ],
)
def test_a_copy_shares_engine_ledger_and_budgets(tmp_path: Path, copied: Callable[[ChatDAMI], ChatDAMI]) -> None:
    model = loaded(
        tmp_path,
        policy=ReasoningPolicy(run={"max_tokens": 10_000}),
        callbacks=[UsageMetadataCallbackHandler()],
        cache=InMemoryCache(),
        rate_limiter=InMemoryRateLimiter(requests_per_second=1000),
    )
    other = copied(model)
    assert other.invoke(QUESTION + " ").content == model.invoke(QUESTION + " ").content
    assert other.pipeline().engine is model.pipeline().engine
    assert other.pipeline().ledger is not None
    assert other.policy is model.policy
    assert other.budgets is other.pipeline().budgets is model.budgets
    assert other.callbacks == model.callbacks
    assert other.cache is model.cache


def test_a_deep_copy_has_its_own_settings(tmp_path: Path) -> None:
    model = loaded(tmp_path, stop=["x"])
    other = copy.deepcopy(model)
    assert isinstance(other.stop, list)
    other.stop.append("y")
    assert model.stop == ["x"]


def test_a_model_may_be_a_pydantic_default(tmp_path: Path) -> None:
    class Settings(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        model: BaseChatModel = loaded(tmp_path)

    first, second = Settings(), Settings()
    assert first.model.invoke(QUESTION).content == second.model.invoke(QUESTION).content


def test_a_pickled_model_keeps_its_settings_and_reopens(tmp_path: Path) -> None:
    model = loaded(tmp_path, policy={"run": {"max_tokens": 500}}, estimator="confidence").bind(seed=3)
    other = pickle.loads(pickle.dumps(model))
    assert repr(other.policy) == repr(model.policy)  # type: ignore[attr-defined]
    assert other._identifying_params == model._identifying_params  # type: ignore[attr-defined]
    assert other.invoke(QUESTION).content == model.invoke(QUESTION).content
    assert len(Ledger.open(tmp_path / "calls.sqlite").rows()) == 3


def test_a_ledger_object_is_pickled_by_what_it_was_opened_with(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "calls.sqlite", keep_text=True)
    other = pickle.loads(pickle.dumps(ledger))
    assert (other.url, other.keep_text) == (ledger.url, True)
    assert copy.deepcopy(ledger) is ledger


def test_an_engine_given_as_an_object_is_shared_by_copies_and_never_pickled(tmp_path: Path) -> None:
    opened = loaded(tmp_path).pipeline()
    model = ChatDAMI(engine=opened.engine, dialogue=opened.dialogue, ledger=Ledger.disabled(), **SETTINGS)
    assert copy.deepcopy(model).pipeline().engine is opened.engine
    with pytest.raises(InvalidRequest, match="another process"):
        pickle.dumps(model)


def test_a_scripted_model_can_be_copied() -> None:
    model = fake_chat_model([FakeReply("one"), FakeReply("two")])
    assert [model.invoke("a").content, copy.deepcopy(model).invoke("b").content] == ["one", "two"]


def test_first_calls_at_the_same_time_share_one_pipeline_and_one_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAMI_LEDGER", str(tmp_path / "calls.sqlite"))
    opened: list[Ledger] = []
    of = Ledger.of

    def slowly(ledger: Any) -> Ledger:
        time.sleep(0.05)
        opened.append(of(ledger))
        return opened[-1]

    monkeypatch.setattr(Ledger, "of", slowly)
    model = fake_chat_model([], ledger=None)
    together = threading.Barrier(16)

    def first_call(_: int) -> int:
        together.wait(30)
        return id(model.pipeline())

    with ThreadPoolExecutor(16) as threads:
        found = set(threads.map(first_call, range(16)))
    assert (len(found), len(opened)) == (1, 1)
    assert model.pipeline().ledger is opened[0]


def test_closing_one_model_leaves_those_that_share_the_pair_usable(tmp_path: Path) -> None:
    first, second = loaded(tmp_path), loaded(tmp_path)
    first.close()
    assert second.invoke(QUESTION).content == first.invoke(QUESTION).content


async def test_awaiting_after_close_opens_the_pair_again(tmp_path: Path) -> None:
    model = loaded(tmp_path)
    await model.ainvoke(QUESTION)
    model.close()
    assert (await model.ainvoke(QUESTION)).content
    assert [c async for c in model.astream(QUESTION)]


# ---- other processes --------------------------------------------------------------------------------------------


def ask(model: ChatDAMI) -> str:
    return str(model.invoke(QUESTION).content)


def ask_anew(_: int) -> str:
    return str(ChatDAMI(ledger="off", **SETTINGS).invoke(QUESTION).content)


async def _ask_async() -> str:
    return str((await ChatDAMI(ledger="off", **SETTINGS).ainvoke(QUESTION)).content)


def ask_async(_: int) -> str:
    import asyncio

    return asyncio.run(_ask_async())


def pool(method: str) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method))


needs_fork = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")


@pytest.mark.slow
@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # Python 3.12 warns when other threads run
@pytest.mark.parametrize("asked", [ask_anew, ask_async])
def test_a_new_model_in_a_forked_child_works(tmp_path: Path, asked: Callable[[int], str]) -> None:
    expected = ask(loaded(tmp_path))  # the parent's engine and its threads are running when it forks
    with pool("fork") as children:
        assert children.submit(asked, 0).result(timeout=60) == expected


@pytest.mark.slow
@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_the_parents_model_in_a_forked_child_opens_the_pair_anew(tmp_path: Path) -> None:
    model = loaded(tmp_path)
    expected = ask(model)
    context = multiprocessing.get_context("fork")
    answers: Any = context.SimpleQueue()
    child = context.Process(target=lambda: answers.put(ask(model)))
    child.start()
    child.join(timeout=60)
    assert child.exitcode == 0
    assert answers.get() == expected


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["spawn", pytest.param("fork", marks=needs_fork)])
def test_a_model_is_sent_to_worker_processes(tmp_path: Path, method: str) -> None:
    model = loaded(tmp_path)
    expected = ask(model)
    with warnings.catch_warnings(), pool(method) as children:
        assert list(children.map(ask, [model] * 3)) == [expected] * 3


@pytest.mark.slow
@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_an_engine_object_says_in_a_forked_child_that_it_is_the_parents(tmp_path: Path) -> None:
    opened = loaded(tmp_path).pipeline()
    model = ChatDAMI(engine=opened.engine, dialogue=opened.dialogue, ledger=Ledger.disabled(), **SETTINGS)
    context = multiprocessing.get_context("fork")
    answers: Any = context.SimpleQueue()

    def child() -> None:
        try:
            answers.put(ask(model))
        except EngineClosed as error:
            answers.put(str(error))

    process = context.Process(target=child)
    process.start()
    process.join(timeout=60)
    assert "parent process" in answers.get()
