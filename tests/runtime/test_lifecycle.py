"""How requests and engines end: cancelled, expired, closed, refused, failed, forgotten."""

from __future__ import annotations

import gc
import multiprocessing
import threading
import time
import warnings
import weakref
from collections.abc import Callable

import pytest
import torch

from dami_agent.errors import (
    Cancelled,
    CheckpointNotFound,
    DeadlineExceeded,
    EngineBusy,
    EngineClosed,
    RunError,
)
from dami_agent.runtime import LocalEngine
from tests.runtime.scripted import ScriptedWeights
from tests.runtime.support import Lab, ask, prompt_of

PROMPT = prompt_of([1, 2, 3])


class Gate:
    """Holds the model at the door until opened."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.reached = threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        assert self.open.wait(30)


NewThreads = Callable[[], list[threading.Thread]]


def endless(lab: Lab, before: Callable[[], None] = lambda: None, **options: object) -> LocalEngine:
    """An engine whose model never stops by itself, a millisecond per token."""

    def slowly() -> None:
        before()
        time.sleep(0.001)

    return lab.engine(weights=ScriptedWeights(lambda _: 7, slowly), context_length=10**6, loop_rule=None, **options)


@pytest.fixture
def new_threads() -> Callable[[], list[threading.Thread]]:
    """Engine threads that began during the test."""
    before = set(threading.enumerate())
    return lambda: [t for t in threading.enumerate() if t.name == "dami-engine" and t not in before]


def test_cancelled_while_decoding(lab: Lab) -> None:
    with endless(lab) as engine:
        job = engine.submit(PROMPT, ask())
        tokens = iter(job)
        first = [next(tokens) for _ in range(5)]
        job.cancel()
        job.cancel()
        with pytest.raises(Cancelled) as caught:
            job.result(5)
        partial = caught.value.generation
        assert partial is not None
        assert list(partial.events[:5]) == first
        assert partial.finish_reason == "length"
        with pytest.raises(Cancelled):
            list(tokens)
        assert engine.generate(PROMPT, ask(max_tokens=2)).output_tokens == 2  # the row is gone, the engine lives


def test_cancelled_while_queued(lab: Lab) -> None:
    gate = Gate()
    with endless(lab, gate, max_batch_size=1) as engine:
        running, queued = engine.submit(PROMPT, ask(max_tokens=2)), engine.submit(PROMPT, ask(max_tokens=2))
        assert gate.reached.wait(10)
        queued.cancel()
        with pytest.raises(Cancelled) as caught:
            queued.result(0)
        assert caught.value.generation is not None
        assert caught.value.generation.events == ()
        gate.open.set()
        assert running.result(10).output_tokens == 2


def test_deadline_while_decoding(lab: Lab) -> None:
    with endless(lab) as engine:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="decoding") as caught:
            engine.generate(PROMPT, ask(timeout=1.0))
        assert 0.99 < time.monotonic() - began < 10
        assert caught.value.generation is not None
        assert caught.value.generation.output_tokens > 0
        unattended = engine.submit(PROMPT, ask(timeout=0.05))
        for _ in range(1000):  # nobody waits for it: the worker sees to it
            time.sleep(0 if unattended.done else 0.01)
        assert unattended.done


def test_deadline_while_queued(lab: Lab) -> None:
    gate = Gate()
    with endless(lab, gate, max_batch_size=1) as engine:
        engine.submit(PROMPT, ask(max_tokens=1))
        with pytest.raises(DeadlineExceeded, match="queued"):
            engine.generate(PROMPT, ask(timeout=0.05))
        with pytest.raises(DeadlineExceeded):
            list(engine.submit(PROMPT, ask(timeout=0.0)))
        gate.open.set()


def test_result_may_time_out_without_harm(lab: Lab) -> None:
    with endless(lab) as engine:
        job = engine.submit(PROMPT, ask(max_tokens=300))
        with pytest.raises(TimeoutError):
            job.result(0.01)
        assert job.result(30).output_tokens == 300


def test_close_fails_what_is_running_and_queued(lab: Lab, new_threads: NewThreads) -> None:
    engine = endless(lab, max_batch_size=1)
    running, queued = engine.submit(PROMPT, ask()), engine.submit(PROMPT, ask())
    next(iter(running))
    engine.close()
    engine.close()
    for job in (running, queued):
        with pytest.raises(EngineClosed) as caught:
            job.result(5)
        assert caught.value.generation is not None
    with pytest.raises(EngineClosed):
        engine.submit(PROMPT, ask())
    with pytest.raises(EngineClosed):
        engine.score(PROMPT, [1], ask().intensity)
    with pytest.raises(EngineClosed):
        engine.load()
    assert not new_threads()


def test_a_full_queue_refuses(lab: Lab) -> None:
    gate = Gate()
    with endless(lab, gate, max_batch_size=1, max_queue=2) as engine:
        jobs = [engine.submit(PROMPT, ask(max_tokens=1))]
        assert gate.reached.wait(10)
        jobs += [engine.submit(PROMPT, ask(max_tokens=1)) for _ in range(2)]
        with pytest.raises(EngineBusy, match="2 requests"):
            engine.submit(PROMPT, ask(max_tokens=1))
        jobs.pop().cancel()
        gate.open.set()
        for job in jobs:
            job.result(10)


def test_a_failing_model_fails_its_batch_only(lab: Lab) -> None:
    trouble: list[Exception] = []

    def before() -> None:
        if trouble:
            raise trouble.pop()

    with endless(lab, before) as engine:
        jobs = [engine.submit(PROMPT, ask()) for _ in range(3)]
        for job in jobs:
            next(iter(job))
        trouble.append(torch.OutOfMemoryError("no room"))
        errors = []
        for job in jobs:
            with pytest.raises(RunError, match="OutOfMemoryError: no room") as caught:
                job.result(5)
            errors.append(caught.value)
        assert "max_batch_size" in str(errors[0])
        assert len({id(e) for e in errors}) == 3  # each carries its own tokens
        assert all(e.generation is not None and e.generation.output_tokens > 0 for e in errors)
        trouble.append(ZeroDivisionError("a bug"))
        with pytest.raises(RunError, match="ZeroDivisionError"):
            engine.score(PROMPT, [1], ask().intensity)
        assert engine.generate(PROMPT, ask(max_tokens=2)).output_tokens == 2


def test_a_kept_error_keeps_no_tensors(lab: Lab) -> None:
    class Trouble:
        """Stands for a tensor inside the failing frame."""

    kept: list[weakref.ref[Trouble]] = []

    def before() -> None:
        local = Trouble()
        kept.append(weakref.ref(local))
        raise torch.OutOfMemoryError("no room")

    with lab.engine(weights=ScriptedWeights(lambda _: 7, before)) as engine:
        with pytest.raises(RunError) as caught:
            engine.generate(PROMPT, ask())
        assert caught.value.__cause__ is not None
        gc.collect()
        assert kept[0]() is None


def test_weights_that_do_not_load_are_tried_again(lab: Lab) -> None:
    attempts: list[int] = []

    def load() -> ScriptedWeights:
        attempts.append(1)
        if len(attempts) == 1:
            raise CheckpointNotFound("gone")
        return ScriptedWeights(lambda _: 7)

    with lab.engine(weights=load) as engine:
        assert not attempts  # nothing is read until needed
        with pytest.raises(CheckpointNotFound, match="gone"):
            engine.generate(PROMPT, ask(max_tokens=1))
        engine.load()
        engine.load()
        assert engine.generate(PROMPT, ask(max_tokens=1)).output_tokens == 1
        assert len(attempts) == 2


def test_a_forgotten_engine_ends_its_thread(lab: Lab, new_threads: NewThreads) -> None:
    engine = lab.engine(weights=ScriptedWeights(lambda _: 7))
    engine.generate(PROMPT, ask(max_tokens=1))
    gone = weakref.ref(engine)
    assert len(new_threads()) == 1
    del engine
    gc.collect()
    assert gone() is None
    assert not new_threads()


def test_a_running_job_keeps_its_engine(lab: Lab, new_threads: NewThreads) -> None:
    job = endless(lab).submit(PROMPT, ask(max_tokens=50))
    gc.collect()
    assert job.result(10).output_tokens == 50
    del job
    gc.collect()
    for thread in new_threads():
        thread.join(5)
    assert not new_threads()


def test_no_thread_and_no_weights_before_the_first_request(lab: Lab, new_threads: NewThreads) -> None:
    engine = lab.engine(weights=lambda: pytest.fail("loaded"))
    assert not new_threads()
    engine.close()


def _in_child(engine: LocalEngine, answers: multiprocessing.Queue[str]) -> None:
    try:
        engine.submit(PROMPT, ask())
    except EngineClosed as error:
        answers.put(str(error))


def test_a_forked_child_is_told_to_make_its_own(lab: Lab) -> None:
    context = multiprocessing.get_context("fork")
    with lab.engine(weights=ScriptedWeights(lambda _: 7)) as engine:
        engine.generate(PROMPT, ask(max_tokens=1))
        answers: multiprocessing.Queue[str] = context.Queue()
        child = context.Process(target=_in_child, args=(engine, answers))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: forking beside threads, the point here
            child.start()
        assert "after the fork" in answers.get(timeout=30)
        child.join(30)
        assert engine.generate(PROMPT, ask(max_tokens=1)).output_tokens == 1


@pytest.mark.parametrize("streaming", [True, False])
def test_waiting_and_streaming_from_many_threads(lab: Lab, streaming: bool) -> None:
    with endless(lab) as engine:
        job = engine.submit(PROMPT, ask(max_tokens=50))
        results: list[int] = []
        read = (lambda: len(list(job))) if streaming else (lambda: job.result().output_tokens)
        threads = [threading.Thread(target=lambda: results.append(read())) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert results == [50] * 8
