"""The one thread that owns the model: it takes requests from a bounded queue and decodes them in lanes.

Per round: end what was cancelled or expired; score what waits to be scored; pick the λ-group whose turn it is; admit
waiting rows of that group, oldest first; advance its lanes by one token. Admission at every token boundary needs no
gathering window; only an idle worker waits a moment, and only for callers that are known to be on their way.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from dami_agent.errors import EngineBusy, EngineClosed
from dami_agent.runtime.lane import Lane, as_ours
from dami_agent.runtime.row import Row
from dami_agent.runtime.scoring import ScoreRequest, score_together
from dami_agent.runtime.turns import Group, Turns, bucket, may_share

if TYPE_CHECKING:
    from dami_agent.weights import Weights

__all__ = ["Capacity", "Worker"]

T = TypeVar("T")

_GATHER_SECONDS = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Bounds of the engine.

    Attributes:
        rows: requests decoded at once.
        slots: cache positions in use when a further request is admitted, padding included; None: no bound.
        queue: requests waiting (decoding and scoring each); more are refused.
    """

    rows: int = 32
    slots: int | None = None
    queue: int = 1024


class Worker:
    """Owns the model. All methods may be called from any thread; the model is touched by the worker's alone.

    Args:
        load: makes the weights; called on the worker's thread before the first use, again if it failed.
        capacity: bounds.
    """

    def __init__(self, load: Callable[[], Weights], capacity: Capacity) -> None:
        self._load = load
        self._capacity = capacity
        self._changed = threading.Condition()
        self._waiting: deque[Row] = deque()
        self._scores: deque[ScoreRequest] = deque()
        self._calls: deque[Future[None]] = deque()
        self._arriving = 0
        self._closed = False
        self._thread: threading.Thread | None = None
        self._weights: Weights | None = None
        self._lanes: dict[Group, list[Lane]] = {}
        self._turns = Turns()

    # --- any thread --------------------------------------------------------------------------------------------------

    def arriving(self, count: int) -> None:
        """Announce (+1) or withdraw (-1) a caller who is about to submit."""
        with self._changed:
            self._arriving += count
            if count < 0:
                self._changed.notify_all()

    def submit(self, row: Row) -> None:
        """Queue a row. Raises ``EngineBusy`` or ``EngineClosed``."""
        self._enqueue(self._waiting, row)

    def score(self, request: ScoreRequest) -> None:
        """Queue a request to score. Raises ``EngineBusy`` or ``EngineClosed``."""
        self._enqueue(self._scores, request)

    def load(self) -> Future[None]:
        """Load the weights if they are not; the future is done when they are, or holds why not."""
        future: Future[None] = Future()
        self._enqueue(self._calls, future)
        return future

    def close(self) -> None:
        """Tell the thread to fail what it has, drop the model and end; does not wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def join(self, timeout: float) -> None:
        """Wait for the thread to end, unless called from it."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _enqueue(self, queue: deque[T], item: T) -> None:
        with self._changed:
            if self._closed:
                raise EngineClosed("the engine is closed", hint="open a new one")
            if len(queue) >= self._capacity.queue:
                raise EngineBusy(
                    f"{len(queue)} requests are waiting already",
                    hint="try again later, or raise the engine's max_queue",
                )
            queue.append(item)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="dami-engine", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    # --- the worker's thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while self._wait_for_work():
            self._guarded_round()
        self._fail_all(EngineClosed("the engine was closed before the request was finished"))
        self._weights = None

    def _guarded_round(self) -> None:
        try:
            self._round()
        except Exception as error:  # whatever it was, the callers must hear of it and the engine live on
            self._fail_all(error)

    def _wait_for_work(self) -> bool:
        """Sleep until there is something to do; False when the engine is closed."""
        with self._changed:
            idle = not self._lanes
            while not (self._closed or self._lanes or self._waiting or self._scores or self._calls):
                self._changed.wait()
            if idle and self._arriving and not self._closed:
                self._changed.wait_for(lambda: self._closed or not self._arriving, _GATHER_SECONDS)
            return not self._closed

    def _round(self) -> None:
        weights = self._ensure_loaded()
        if weights is None:
            return
        self._pulse()
        self._score(weights)
        groups = set(self._lanes) | {self._group(row) for row in self._admissible()}
        if not groups:
            return
        group = self._turns.pick(groups)
        before = weights.switch_seconds
        self._admit(weights, group)
        self._step(group)
        self._turns.stepped(weights.switch_seconds - before)

    def _ensure_loaded(self) -> Weights | None:
        if self._weights is None:
            try:
                self._weights = self._load()
            except Exception as error:  # a CheckpointError, or an allocation that failed
                self._fail_all(error)
                return None
        with self._changed:
            calls, self._calls = self._calls, deque()
        for call in calls:
            if call.set_running_or_notify_cancel():
                call.set_result(None)
        return self._weights

    def _pulse(self) -> None:
        """End what has expired, and forget what has ended while waiting."""
        now = time.monotonic()
        with self._changed:
            waiting = list(self._waiting)
        for row in [*waiting, *(row for lanes in self._lanes.values() for lane in lanes for row in lane.rows)]:
            row.job.expire(now)
        if any(row.done for row in waiting):
            with self._changed:
                self._waiting = deque(row for row in self._waiting if not row.done)

    def _group(self, row: Row) -> Group:
        return row.intensity if self._weights is not None and self._weights.mode == "merged" else None

    def _score(self, weights: Weights) -> None:
        with self._changed:
            requests, self._scores = list(self._scores), deque()
        by_group: dict[Group, list[ScoreRequest]] = {}
        for request in requests:
            if request.future.set_running_or_notify_cancel():
                by_group.setdefault(request.intensity if weights.mode == "merged" else None, []).append(request)
        for members in by_group.values():
            for batch in bucket(members, [len(m) for m in members]):
                for start in range(0, len(batch), self._capacity.rows):
                    self._score_batch(weights, batch[start : start + self._capacity.rows])

    def _score_batch(self, weights: Weights, batch: Sequence[ScoreRequest]) -> None:
        try:
            for request, scores in zip(batch, score_together(weights, batch), strict=True):
                request.future.set_result(scores)
        except Exception as error:
            for request in batch:
                request.future.set_exception(as_ours(error))

    def _admissible(self) -> list[Row]:
        """The waiting rows there is room for, oldest first: no later row overtakes one of another λ into the batch."""
        lanes = [lane for lanes in self._lanes.values() for lane in lanes]
        room = self._capacity.rows - sum(len(lane.rows) for lane in lanes)
        slots = sum(lane.slots for lane in lanes)
        admissible: list[Row] = []
        with self._changed:
            for row in self._waiting:
                slots += len(row.tokens)
                full = self._capacity.slots is not None and slots > self._capacity.slots and (lanes or admissible)
                if len(admissible) >= room or full:
                    break
                admissible.append(row)
        return admissible

    def _admit(self, weights: Weights, group: Group) -> None:
        rows = [row for row in self._admissible() if self._group(row) == group]
        if not rows:
            return
        taken = set(map(id, rows))
        with self._changed:
            self._waiting = deque(row for row in self._waiting if id(row) not in taken)
        now = time.monotonic()
        for row in rows:
            row.job.clock.admitted = now
        for batch in bucket(rows, [len(row.tokens) for row in rows]):
            self._prefill(weights, group, batch)
        self._tidy(group)

    def _prefill(self, weights: Weights, group: Group, batch: Sequence[Row]) -> None:
        try:
            self._lanes.setdefault(group, []).append(Lane.prefill(weights, batch, self._pulse))
        except Exception as error:  # the lanes that run are not touched by it
            _fail(batch, error)

    def _step(self, group: Group) -> None:
        for lane in self._lanes.get(group, []):
            _guarded_step(lane)
        self._tidy(group)

    def _tidy(self, group: Group) -> None:
        """Drop rows that have ended and put lanes together where that wastes little."""
        lanes: list[Lane] = []
        for lane in self._lanes.pop(group, []):
            lane.compact()
            if lane.rows:
                lanes.append(lane)
        lanes.sort(key=lambda lane: lane.width)
        merged: list[Lane] = []
        for lane in lanes:
            if merged and may_share([(len(x.rows), x.width) for x in (merged[-1], lane)]):
                merged[-1].join(lane)
            else:
                merged.append(lane)
        if merged:
            self._lanes[group] = merged

    def _fail_all(self, error: Exception) -> None:
        with self._changed:
            rows, scores, calls = list(self._waiting), list(self._scores), list(self._calls)
            self._waiting, self._scores, self._calls = deque(), deque(), deque()
        rows += [row for lanes in self._lanes.values() for lane in lanes for row in lane.rows]
        self._lanes = {}
        _fail(rows, error)
        for score in scores:
            score.future.set_exception(as_ours(error))
        for call in calls:
            call.set_exception(as_ours(error))


def _guarded_step(lane: Lane) -> None:
    try:
        lane.step()
    except Exception as error:  # the lane's cache is of no use any more
        _fail(lane.rows, error)


def _fail(rows: Sequence[Row], error: Exception) -> None:
    for row in rows:
        row.job.fail(as_ours(error))
