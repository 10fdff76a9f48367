"""Whatever ends the worker's thread, everybody hears of it: nobody waits for ever, and a new engine works."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from dami_agent.errors import CheckpointNotFound, EngineClosed, RunError
from dami_agent.runtime import LocalEngine
from dami_agent.runtime.worker import Worker
from dami_agent.types import Intensity
from tests.runtime.scripted import ScriptedWeights
from tests.runtime.support import Lab, ask, prompt_of

PROMPT = prompt_of([1, 2, 3])


class PanicException(BaseException):
    """As pyo3_runtime.PanicException, which derives from BaseException."""


ENDINGS = [PanicException("called unwrap() on a None"), SystemExit(3), KeyboardInterrupt(), GeneratorExit("gone")]


def wait_for_death(engine: LocalEngine) -> None:
    thread = engine.worker.thread
    assert thread is not None
    thread.join(30)
    assert not thread.is_alive()


def assert_broken(engine: LocalEngine, name: str) -> None:
    """Every way in says that the engine broke, and why; nothing hangs."""
    ways: list[Callable[[], Any]] = [
        lambda: engine.submit(PROMPT, ask()),
        lambda: engine.generate(PROMPT, ask()),
        lambda: engine.score(PROMPT, [1], Intensity(0)),
        engine.load,
    ]
    for way in ways:
        with pytest.raises(EngineClosed, match=name) as caught:
            way()
        assert caught.value.hint == "open a new engine"
    assert engine.closed


@pytest.mark.parametrize("error", ENDINGS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("where", ["loading", "reading", "decoding"])
def test_all_requests_hear_of_the_end(lab: Lab, where: str, error: BaseException) -> None:
    go, name = threading.Event(), type(error).__name__

    def load() -> ScriptedWeights:
        assert go.wait(30)
        if where == "loading":
            raise error
        return weights

    def before() -> None:
        if weights.passes == (1 if where == "reading" else 4):
            raise error

    weights = ScriptedWeights(lambda _: 7, before)
    engine = lab.engine(weights=load, loop_rule=None, max_batch_size=2)
    jobs = [engine.submit(PROMPT, ask(max_tokens=50)) for _ in range(4)]  # two run, two wait
    scores: list[Exception] = []

    def score() -> None:
        with pytest.raises(EngineClosed) as caught:
            engine.score(PROMPT, [1, 2], Intensity(0))
        scores.append(caught.value)

    expected = 0 if where == "decoding" else 2  # by then they would have their scores
    threads = [threading.Thread(target=score) for _ in range(expected)]
    for thread in threads:
        thread.start()
    while len(engine.worker.queue.reads()) < expected:
        threading.Event().wait(0.01)
    go.set()
    for job in jobs:
        with pytest.raises(EngineClosed, match=name) as caught:
            job.result(30)
        assert caught.value.generation is not None
        with pytest.raises(EngineClosed):
            list(job)
    for thread in threads:
        thread.join(30)
    assert all(name in str(e) for e in scores)
    assert len(scores) == expected
    wait_for_death(engine)
    assert_broken(engine, name)
    engine.close()
    with lab.engine(weights=ScriptedWeights(lambda _: 7)) as fresh:
        assert fresh.generate(PROMPT, ask(max_tokens=2)).output_tokens == 2


def test_a_load_that_waits_hears_of_the_end(lab: Lab) -> None:
    def load() -> ScriptedWeights:
        raise SystemExit("no")

    engine = lab.engine(weights=load)
    with pytest.raises(EngineClosed, match="SystemExit: no"):
        engine.load()
    wait_for_death(engine)
    assert_broken(engine, "SystemExit")


@pytest.mark.parametrize("error", [MemoryError(), CheckpointNotFound("gone"), ValueError("odd"), RecursionError()])
def test_an_ordinary_exception_while_loading_is_not_the_end(lab: Lab, error: Exception) -> None:
    attempts: list[int] = []

    def load() -> ScriptedWeights:
        attempts.append(1)
        if len(attempts) == 1:
            raise error
        return ScriptedWeights(lambda _: 7)

    with lab.engine(weights=load) as engine:
        with pytest.raises(CheckpointNotFound if isinstance(error, CheckpointNotFound) else RunError):
            engine.generate(PROMPT, ask(max_tokens=1))
        assert not engine.closed
        assert engine.generate(PROMPT, ask(max_tokens=1)).output_tokens == 1


class Mute(BaseException):
    def __str__(self) -> str:
        raise SystemExit("no text")


def test_an_ending_without_a_text_is_told_by_its_class(lab: Lab) -> None:
    submitted = threading.Event()

    def before() -> None:
        submitted.wait(30)
        raise Mute

    engine = lab.engine(weights=ScriptedWeights(lambda _: 7, before))
    jobs = [engine.submit(PROMPT, ask()) for _ in range(3)]
    submitted.set()
    for job in jobs:
        with pytest.raises(EngineClosed, match="the engine broke: Mute"):
            job.result(30)


@pytest.mark.parametrize("error", [ValueError("in the guard"), SystemExit(1)], ids=lambda e: type(e).__name__)
def test_an_error_while_failing_is_heard_too(lab: Lab, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """The round fails, and so does telling the callers: they hear of it in the second attempt."""
    real, calls = Worker.fail_all, []

    def first_fails(self: Worker, reason: BaseException) -> None:
        calls.append(reason)
        if len(calls) == 1:
            raise error
        real(self, reason)

    monkeypatch.setattr(Worker, "fail_all", first_fails)
    monkeypatch.setattr(Worker, "expire", lambda _: 1 / 0)
    engine = lab.engine(weights=ScriptedWeights(lambda _: 7))
    job = engine.submit(PROMPT, ask())
    with pytest.raises(EngineClosed, match=type(error).__name__):
        job.result(30)
    wait_for_death(engine)
    assert_broken(engine, type(error).__name__)


def test_an_end_between_queue_and_batch_loses_no_request(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from dami_agent.runtime.batches import Batches

    def breaks(*_: Any) -> None:
        raise ZeroDivisionError("in the middle of taking in")

    with lab.engine(weights=ScriptedWeights(lambda _: 7)) as engine:
        with monkeypatch.context() as patch:
            patch.setattr(Batches, "read", breaks)
            patch.setattr(Batches, "read_only", breaks)
            with pytest.raises(RunError, match="taking in"):
                engine.submit(PROMPT, ask(max_tokens=1)).result(30)
            with pytest.raises(RunError, match="taking in"):
                engine.score(PROMPT, [1], Intensity(0))
        assert engine.generate(PROMPT, ask(max_tokens=1)).output_tokens == 1


def test_a_panic_in_the_callers_thread_is_an_error_of_ours(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from dami_agent.runtime.stop_strings import StopStrings

    def panics(*_: Any) -> None:
        raise PanicException("odd tokenizer")

    with lab.engine(weights=ScriptedWeights(lambda _: 7)) as engine:
        replayed = prompt_of([1, 2, 3], reply_ids=(4, 5))
        with monkeypatch.context() as patch:
            patch.setattr(StopStrings, "push", panics)
            with pytest.raises(RunError, match="PanicException: odd tokenizer"):
                engine.submit(replayed, ask(max_tokens=5, stop=("x",)))
            with pytest.raises(RunError, match="PanicException: odd tokenizer"):  # on the worker's: that row alone
                engine.generate(PROMPT, ask(max_tokens=5, stop=("x",)))
        assert engine.generate(PROMPT, ask(max_tokens=2)).output_tokens == 2
        assert not engine.closed


def test_an_interrupt_of_the_caller_passes(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    with lab.engine(weights=ScriptedWeights(lambda _: 7)) as engine:
        with monkeypatch.context() as patch:
            patch.setattr(type(engine), "sequence_of", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                engine.submit(PROMPT, ask())
        assert engine.generate(PROMPT, ask(max_tokens=2)).output_tokens == 2
