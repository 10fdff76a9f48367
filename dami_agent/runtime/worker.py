"""Own the model in one thread, which takes requests from the queue and decodes them in batches.

Per round: end what was cancelled or expired; admit waiting rows and what is only read, oldest first; read a chunk of
their prompts, if it is time for one; pick the λ-group whose turn it is and advance its batches by one token. Admission
at every token boundary needs no gathering window. When the KV cache exceeds its limit, the newest row is preempted: its
cache is freed, and later it is prefilled again with prompt and generated tokens.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dami_agent.errors import EngineClosed
from dami_agent.runtime.batch_inputs import LoadedModel
from dami_agent.runtime.batches import Batches
from dami_agent.runtime.failures import describe, to_dami_error
from dami_agent.runtime.request_queue import RequestQueue
from dami_agent.runtime.schedule import Group, GroupScheduler
from dami_agent.runtime.sequence import SequenceState
from dami_agent.runtime.threads import limit_threads

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
    """Bound what an engine holds at once.

    Attributes:
        rows: requests decoded at once.
        cache_tokens: cache positions, padding included; one request alone may take more; None: no bound.
        prefix_tokens: positions of ended sequences kept for prompts that begin alike, within ``cache_tokens``.
        queue: requests waiting (to be decoded, and to be read only, each); more are refused.
    """

    rows: int = 32
    cache_tokens: int | None = None
    prefix_tokens: int = 0
    queue: int = 1024


class Worker:
    """Owns the model; its thread begins with the first item in the queue.

    An ``Exception`` fails the requests it hits and the worker goes on. Whatever else ends the thread (a panic of a Rust
    library, ``SystemExit``) fails all requests, and the queue tells the same to those that still come.

    Args:
        load: makes the weights; called on the worker's thread before the first use, again if it failed.
        capacity: bounds.
        hidden_ids: ids of the model's vocabulary that are never drawn.
    """

    def __init__(self, load: Callable[[], Weights], capacity: Capacity, hidden_ids: Sequence[int] = ()) -> None:
        self.queue = RequestQueue(capacity.queue, self._start)
        self._load = load
        self._capacity = capacity
        self._hidden_ids = hidden_ids
        self.thread: threading.Thread | None = None
        self.model: LoadedModel | None = None
        self._batches = Batches(capacity.cache_tokens, capacity.prefix_tokens)
        self._schedule = GroupScheduler()
        self._served: list[SequenceState] = []  # the rows that were there when the turn began
        self._rounds_held_back = 0

    def close(self, timeout: float) -> None:
        """Have the thread fail what it holds, drop the model and end; wait for that unless called from it."""
        self.queue.close()
        if self.thread is not None and self.thread is not threading.current_thread():
            self.thread.join(timeout)

    def _start(self) -> None:
        self.thread = threading.Thread(target=self._run, name="dami-engine", daemon=True)
        self.thread.start()

    # --- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        ending = EngineClosed("the engine was closed before the request was finished")
        try:
            while self.queue.wait(busy=self._batches.busy):
                self._guarded_round()
        except BaseException as error:  # callers who wait must hear of it, and who comes later too
            ending = EngineClosed(f"the engine broke: {describe(error)}", hint="open a new engine")
            ending.__cause__ = error
            self.queue.close(ending)
        self.fail_all(ending)
        self.model = None

    def _guarded_round(self) -> None:
        try:
            self._round()
        except Exception as error:  # whatever it was, the callers must hear of it and the engine live on
            self.fail_all(error)

    def _round(self) -> None:
        # Load the weights for the first request.
        if self.model is None:
            weights = self._load()
            limit_threads(weights)
            self.model = LoadedModel.of(weights, self._hidden_ids)
        model = self.model
        for load in self.queue.take_loads():
            load.set_result(None)
        # Drop what has expired or was cancelled, admit what there is room for.
        self.expire()
        self._take_in(model)
        # Read one chunk of a prompt, then decode one token of the group whose turn it is.
        self._batches.read_chunk(model.weights)
        if (decoding := self._batches.decoding) and not self._batches.reads_on:
            self._decode(model, decoding)
        # Where the cache has outgrown its bound, the newest rows give up their places and wait again.
        self._batches.preempt_to_fit(self.queue.requeue)

    def _decode(self, model: LoadedModel, decoding: Sequence[Group]) -> None:
        """Decode one token of the group whose turn it is."""
        queued = [self._group(row.intensity) for row in self.queue.rows()]
        number = self._schedule.number
        group = self._schedule.pick(decoding, [*self._batches.reading, *queued])
        if self._schedule.number != number:
            self._served = self._batches.rows_of(group)
        spent = self._batches.decode(model.weights, group)
        self._schedule.stepped(*spent, drained=all(row.done for row in self._served))

    def _take_in(self, model: LoadedModel) -> None:
        """Begin to read the rows there is room for, and the oldest request that is read alone where none is."""
        admissible = self._admissible()
        groups: dict[Group, list[SequenceState]] = {}
        for row in admissible:
            groups.setdefault(self._group(row.intensity), []).append(row)
        for group, rows in groups.items():
            self._batches.read(model, group, rows)
        if admissible:
            self.queue.remove(admissible)  # last, so that a failure on the way loses none
        reads = [request for request in self.queue.reads() if not request.done]
        if reads and not self._batches.requests:
            group, kind = self._group(reads[0].intensity), type(reads[0])
            mine = [each for each in reads if type(each) is kind and self._group(each.intensity) == group]
            self.queue.remove_reads(self._batches.read_only(model, group, mine, self._capacity.rows))

    def expire(self) -> None:
        """Fail requests past their deadline, and drop finished ones from the queue."""
        now = time.monotonic()
        waiting = self.queue.rows()
        for row in [*waiting, *self._batches.rows]:
            row.job.expire(now)
        if ended := [row for row in waiting if row.done]:
            self.queue.remove(ended)
        if left := [request for request in self.queue.reads() if request.done]:
            self.queue.remove_reads(left)

    def _group(self, intensity: Intensity) -> Group:
        return intensity if self.model is not None and self.model.weights.mode == "merged" else None

    def _admissible(self) -> list[SequenceState]:
        """List the waiting rows there is room for, oldest first: no later row overtakes one of another λ."""
        running = self._batches.rows
        room = self._capacity.rows - sum(not row.done for row in running)
        waiting = self.queue.rows()
        if (
            running
            and room < min(len(waiting), self._capacity.rows // _HOLD_SHARE)
            and self._rounds_held_back < _HOLD_ROUNDS
        ):
            self._rounds_held_back += 1
            return []
        self._rounds_held_back = 0
        cache_tokens = self._batches.free_cache_tokens - (1 - _ADMIT_UP_TO) * (self._capacity.cache_tokens or 0)
        admissible: list[SequenceState] = []
        for row in waiting[: max(0, room)]:
            cache_tokens -= len(row.tokens)
            if cache_tokens < 0 and (running or admissible):
                break
            admissible.append(row)
        return admissible

    def fail_all(self, error: BaseException) -> None:
        """Fail all that is in work or waiting; nothing that goes wrong with one keeps the others from hearing of it."""
        rows = [*self.queue.rows(), *self._batches.rows]
        requests = [*self.queue.reads(), *self._batches.requests]
        self._batches.clear()
        self._served = []
        self.queue.remove(rows)
        self.queue.remove_reads(requests)
        for row in rows:
            row.fail(to_dami_error(error))
        for request in requests:
            request.fail(to_dami_error(error))
        for load in self.queue.take_loads():
            load.set_exception(to_dami_error(error))
