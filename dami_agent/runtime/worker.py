"""The one thread that owns the model: it takes requests from the queue and decodes them in lanes.

Per round: end what was cancelled or expired; score what waits to be scored; pick the λ-group whose turn it is; admit
waiting rows of that group, oldest first; advance its lanes by one token. Admission at every token boundary needs no
gathering window. When the cache outgrows its bound, the youngest row gives up its place and is read again, with what
it has written, later.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dami_agent.errors import EngineClosed, RunError
from dami_agent.runtime.lane import Lane, as_ours
from dami_agent.runtime.request_queue import RequestQueue
from dami_agent.runtime.row import Row
from dami_agent.runtime.scoring import ScoreRequest, score_together
from dami_agent.runtime.threads import limit_threads
from dami_agent.runtime.turns import Group, Turns, bucket, may_share

if TYPE_CHECKING:
    from dami_agent.types import Intensity
    from dami_agent.weights import Weights

__all__ = ["Capacity", "Worker"]

# A place that falls free in a full batch is held for others, so that newcomers are read together: until an eighth of
# the batch is free, and for so many tokens at most.
_HOLD_SHARE = 8
_HOLD_ROUNDS = 8
_ADMIT_UP_TO = 0.9  # of the slots: the rest is for rows to grow into, or they would soon be put out again


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Bounds of the engine.

    Attributes:
        rows: requests decoded at once.
        slots: cache positions, padding included; one request alone may take more; None: no bound.
        queue: requests waiting (decoding and scoring each); more are refused.
    """

    rows: int = 32
    slots: int | None = None
    queue: int = 1024


class Worker:
    """Owns the model; its thread begins with the first item in the queue.

    Args:
        load: makes the weights; called on the worker's thread before the first use, again if it failed.
        capacity: bounds.
    """

    def __init__(self, load: Callable[[], Weights], capacity: Capacity) -> None:
        self.queue = RequestQueue(capacity.queue, self._start)
        self._load = load
        self._capacity = capacity
        self._thread: threading.Thread | None = None
        self._weights: Weights | None = None
        self._lanes: dict[Group, list[Lane]] = {}
        self._turns = Turns()
        self._held = 0

    def close(self, timeout: float) -> None:
        """Have the thread fail what it holds, drop the model and end; wait for that unless called from it."""
        self.queue.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="dami-engine", daemon=True)
        self._thread.start()

    # --- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while self.queue.wait(busy=bool(self._lanes)):
            self._guarded_round()
        self._fail_all(EngineClosed("the engine was closed before the request was finished"))
        self._weights = None

    def _guarded_round(self) -> None:
        try:
            self._round()
        except Exception as error:  # whatever it was, the callers must hear of it and the engine live on
            self._fail_all(error)

    def _round(self) -> None:
        if self._weights is None:
            self._weights = self._load()
            limit_threads(self._weights)
        weights = self._weights
        for load in self.queue.take_loads():
            load.set_result(None)
        self._pulse()
        self._score(weights)
        newcomers = self._admissible()
        groups = set(self._lanes) | {self._group(row.intensity) for row in newcomers}
        if not groups:
            return
        group = self._turns.pick(groups)
        switched = weights.switch_seconds
        self._admit(weights, group, [row for row in newcomers if self._group(row.intensity) == group])
        for lane in self._lanes.get(group, []):
            _guarded_step(lane)
        self._tidy(group)
        self._make_room()
        self._turns.stepped(weights.switch_seconds - switched)

    def _pulse(self) -> None:
        """End what has expired, and forget what has ended while waiting."""
        now = time.monotonic()
        waiting = self.queue.rows()
        for row in [*waiting, *(row for lane in self._all_lanes() for row in lane.rows)]:
            row.job.expire(now)
        if ended := [row for row in waiting if row.done]:
            self.queue.remove(ended)

    def _group(self, intensity: Intensity) -> Group:
        return intensity if self._weights is not None and self._weights.mode == "merged" else None

    # --- scoring -----------------------------------------------------------------------------------------------------

    def _score(self, weights: Weights) -> None:
        groups: dict[Group, list[ScoreRequest]] = {}
        for request in self.queue.take_scores():
            groups.setdefault(self._group(request.intensity), []).append(request)
        for members in groups.values():
            for batch in bucket(members, [len(m) for m in members]):
                for start in range(0, len(batch), self._capacity.rows):
                    _guarded_score(weights, batch[start : start + self._capacity.rows])

    # --- decoding ----------------------------------------------------------------------------------------------------

    def _all_lanes(self) -> list[Lane]:
        return [lane for lanes in self._lanes.values() for lane in lanes]

    def _free_slots(self) -> float:
        bound = self._capacity.slots
        return float("inf") if bound is None else bound - sum(lane.slots for lane in self._all_lanes())

    def _admissible(self) -> list[Row]:
        """The waiting rows there is room for, oldest first: no later row overtakes one of another λ into the batch."""
        lanes = self._all_lanes()
        room = self._capacity.rows - sum(not row.done for lane in lanes for row in lane.rows)
        waiting = self.queue.rows()
        if lanes and room < min(len(waiting), self._capacity.rows // _HOLD_SHARE) and self._held < _HOLD_ROUNDS:
            self._held += 1
            return []
        self._held = 0
        slots = self._free_slots() - (1 - _ADMIT_UP_TO) * (self._capacity.slots or 0)
        admissible: list[Row] = []
        for row in waiting[: max(0, room)]:
            slots -= len(row.tokens)
            if slots < 0 and (lanes or admissible):
                break
            admissible.append(row)
        return admissible

    def _admit(self, weights: Weights, group: Group, rows: Sequence[Row]) -> None:
        if not rows:
            return
        self.queue.remove(rows)
        now = time.monotonic()
        for row in rows:
            row.job.clock.admitted = row.job.clock.admitted or now
        for batch in bucket(rows, [len(row.tokens) for row in rows]):
            self._prefill(weights, group, batch)
        self._tidy(group, now=True)

    def _prefill(self, weights: Weights, group: Group, batch: Sequence[Row]) -> None:
        try:
            self._lanes.setdefault(group, []).append(Lane.prefill(weights, batch, self._pulse))
        except Exception as error:  # the lanes that run are not touched by it
            _fail(batch, error)

    def _tidy(self, group: Group, *, now: bool = False) -> None:
        """Drop rows that have ended, once it pays or ``now``, and put lanes together where that wastes little."""
        lanes = self._lanes.get(group, [])
        for lane in lanes:
            lane.compact(now=now)
        lanes = sorted((lane for lane in lanes if lane.rows), key=lambda lane: lane.width)
        self._lanes[group] = lanes
        free = self._free_slots()
        merged: list[Lane] = []
        for lane in lanes:
            shapes = [(len(x.rows), x.width) for x in (*merged[-1:], lane)]
            padding = sum(rows for rows, _ in shapes) * lane.width - sum(rows * width for rows, width in shapes)
            if merged and padding <= free and may_share(shapes):
                merged[-1].join(lane)
                free -= padding
            else:
                merged.append(lane)
        if merged:
            self._lanes[group] = merged
        else:
            del self._lanes[group]

    def _make_room(self) -> None:
        """Send the youngest rows back to the queue's head while the cache is over its bound."""
        while self._free_slots() < 0:
            rows = [(row, lane, group) for group, lanes in self._lanes.items() for lane in lanes for row in lane.rows]
            alive = [found for found in rows if not found[0].done]
            if len(alive) <= 1:
                return
            row, lane, group = max(alive, key=lambda found: found[0].job.clock.submitted)
            lane.compact(leaving=row)
            self.queue.requeue(row)
            self._tidy(group)

    def _fail_all(self, error: Exception) -> None:
        """Fail all that is decoding or waiting."""
        rows = [*self.queue.rows(), *(row for lane in self._all_lanes() for row in lane.rows)]
        self.queue.remove(rows)
        self._lanes = {}
        _fail(rows, error)
        for score in self.queue.take_scores():
            score.future.set_exception(as_ours(error))
        for load in self.queue.take_loads():
            load.set_exception(as_ours(error))


def _guarded_score(weights: Weights, batch: Sequence[ScoreRequest]) -> None:
    try:
        scores = score_together(weights, batch)
    except Exception as error:
        for request in batch:
            request.future.set_exception(as_ours(error))
    else:
        for request, values in zip(batch, scores, strict=True):
            if isinstance(values, RunError):
                request.future.set_exception(values)
            else:
                request.future.set_result(values)


def _guarded_step(lane: Lane) -> None:
    try:
        lane.step()
    except Exception as error:  # the lane's cache is of no use any more
        _fail(lane.rows, error)


def _fail(rows: Sequence[Row], error: Exception) -> None:
    for row in rows:
        row.job.fail(as_ours(error))
