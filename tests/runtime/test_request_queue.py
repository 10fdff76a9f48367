"""No request is ever lost between its caller and the worker."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from dami_agent.errors import EngineBusy, EngineClosed
from dami_agent.runtime.request_queue import RequestQueue
from dami_agent.runtime.scoring import ScoreRequest
from dami_agent.runtime.sequence import SequenceState
from dami_agent.types import Intensity
from tests.runtime.scripted import ScriptedWeights
from tests.runtime.support import Lab, ask, prompt_of


class Token:
    """Stands for a row: the queue looks at nothing but its identity."""


def row() -> SequenceState:
    return cast(SequenceState, Token())


def score() -> ScoreRequest:
    return ScoreRequest(context=(1,), completion=(2,), intensity=Intensity(0))


def queue(limit: int = 8) -> RequestQueue:
    return RequestQueue(limit, lambda: None)


class LockAtTheDoor:
    """Stands for the queue's condition: ``meanwhile`` runs when a caller reaches for the lock, before they have it."""

    def __init__(self, real: threading.Condition) -> None:
        self._real = real
        self.meanwhile: Callable[[], object] | None = None

    def __enter__(self) -> Any:
        if (meanwhile := self.meanwhile) is not None:
            self.meanwhile = None
            meanwhile()
        return self._real.__enter__()

    def __exit__(self, *exc: Any) -> None:
        self._real.__exit__(*exc)

    def notify_all(self) -> None:
        self._real.notify_all()


@pytest.mark.parametrize("kind", ["row", "score", "load"])
def test_an_item_added_while_the_worker_takes_others_out_is_kept(kind: str) -> None:
    """The caller waits for the lock; the worker removes or takes; then the caller gets the lock."""
    q = queue()
    old, new, request = row(), row(), score()
    q.add_row(old)
    q.add_read(score())
    q.add_load()
    door = LockAtTheDoor(q.changed)
    q.changed = door  # type: ignore[assignment]
    if kind == "row":
        door.meanwhile = lambda: q.remove([old])
        q.add_row(new)
        assert q.rows() == [new]
    elif kind == "score":
        door.meanwhile = lambda: q.remove_reads(q.reads())
        q.add_read(request)
        assert q.reads() == [request]
    else:
        door.meanwhile = q.take_loads
        future = q.add_load()
        assert q.take_loads() == [future]


def test_holding_the_lock_while_adding_and_removing() -> None:
    q = queue()
    old, new = row(), row()
    q.add_row(old)
    with q.changed:
        adding = threading.Thread(target=q.add_row, args=(new,))
        adding.start()
        adding.join(0.05)
        assert adding.is_alive()  # it waits for the lock
        q.remove([old])
    adding.join(10)
    assert q.rows() == [new]


def test_order_and_bounds() -> None:
    q = queue(limit=3)
    rows = [row() for _ in range(5)]
    for r in rows[:3]:
        q.add_row(r)
    with pytest.raises(EngineBusy):
        q.add_row(rows[3])
    q.remove([rows[1]])
    q.requeue(rows[3])
    assert q.rows() == [rows[3], rows[0], rows[2]]
    q.requeue(rows[4])  # whether or not there is room
    assert q.rows()[0] is rows[4]
    q.close()
    for add in (lambda: q.add_row(row()), lambda: q.add_read(score()), q.add_load):
        with pytest.raises(EngineClosed):
            add()  # type: ignore[no-untyped-call]


def test_a_worker_that_cannot_start_leaves_nothing_behind() -> None:
    starts: list[bool] = []

    def start() -> None:
        starts.append(True)
        if len(starts) == 1:
            raise RuntimeError("can't start new thread")

    q = RequestQueue(4, start)
    with pytest.raises(RuntimeError):
        q.add_row(row())
    assert q.rows() == []
    second = row()
    q.add_row(second)
    q.add_row(third := row())
    assert (q.rows(), len(starts)) == ([second, third], 2)


def test_storm_on_fresh_engines_ends_every_job(lab: Lab) -> None:
    """Several submitters at once on an engine that has just been made, again and again: each job and score ends."""
    submitters, rounds, each = 6, 25, 8
    ended = scored = 0
    for _ in range(rounds):
        with lab.engine(weights=ScriptedWeights(lambda _: 7), max_queue=1024) as engine:
            together = threading.Barrier(submitters)

            def submit(number: int, engine: Any = engine, together: threading.Barrier = together) -> tuple[int, int]:
                together.wait(30)
                jobs = [engine.submit(prompt_of([1, 2, 3]), ask(max_tokens=1)) for _ in range(each)]
                scores = [engine.score(prompt_of([1, 2]), [3], Intensity(0)) for _ in range(number % 2)]
                return sum(job.result(30).output_tokens for job in jobs), len(scores)

            with ThreadPoolExecutor(submitters) as pool:
                for tokens, count in pool.map(submit, range(submitters)):
                    ended += tokens
                    scored += count
    assert ended == submitters * rounds * each
    assert scored == rounds * (submitters // 2)
