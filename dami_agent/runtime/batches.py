"""Hold all that the worker has taken in: batches that decode, prompts and scores that are read, by group."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dami_agent.runtime.batch import RunningBatch
from dami_agent.runtime.batch_inputs import LoadedModel
from dami_agent.runtime.failures import to_dami_error
from dami_agent.runtime.prefill import Prefill
from dami_agent.runtime.prefix_cache import PrefixCache
from dami_agent.runtime.reading import Reading, ReadRequest
from dami_agent.runtime.schedule import Group, Interleaving, bucket_by_length, can_merge
from dami_agent.runtime.scoring import ScoreRequest, Scoring
from dami_agent.runtime.sequence import SequenceState
from dami_agent.runtime.states import StatesReading, StatesRequest

if TYPE_CHECKING:
    from dami_agent.weights import Weights

__all__ = ["Batches"]


class Batches:
    """Keeps what is in work, reads and decodes it bit by bit, and counts the cache positions that are taken.

    Args:
        cache_tokens: bound of the cache positions, padding included; one request alone may take more; None: no bound.
        prefix_tokens: of these, positions of ended sequences that are kept for prompts that begin alike.
    """

    def __init__(self, cache_tokens: int | None, prefix_tokens: int = 0) -> None:
        self._bound = cache_tokens
        self._prefixes = PrefixCache(prefix_tokens)
        self._running: dict[Group, list[RunningBatch]] = {}
        self._reads: list[Prefill | Reading[Any]] = []
        self._interleaving = Interleaving()

    @property
    def busy(self) -> bool:
        """Return whether anything is in work."""
        return bool(self._running or self._reads)

    @property
    def decoding(self) -> list[Group]:
        """Return the groups with rows that decode."""
        return list(self._running)

    @property
    def reading(self) -> list[Group]:
        """Return the groups of what is read: those that rows will decode in."""
        return [read.decodes_in if isinstance(read, Prefill) else read.group for read in self._reads]

    @property
    def rows(self) -> list[SequenceState]:
        """Return all rows, those that have ended and are not yet dropped included."""
        decoding = [row for batch in self._all_batches() for row in batch.rows]
        return decoding + [row for prefill in self._prefills() for row in prefill.rows]

    def rows_of(self, group: Group) -> list[SequenceState]:
        """Return the rows of a group that decode."""
        return [row for batch in self._running.get(group, []) for row in batch.rows]

    @property
    def requests(self) -> list[ReadRequest]:
        """Return all requests that are read and not decoded."""
        return [request for read in self._reads if isinstance(read, Reading) for request in read.requests]

    @property
    def free_cache_tokens(self) -> float:
        """Cache positions not taken, those of kept prefixes included; negative where the bound is exceeded."""
        if self._bound is None:
            return float("inf")
        decoding = sum(batch.cache_tokens for batch in self._all_batches())
        return self._bound - decoding - sum(read.cache_tokens for read in self._reads)

    def clear(self) -> None:
        """Forget everything."""
        self._running, self._reads = {}, []
        self._prefixes.clear()

    # --- taking in ---------------------------------------------------------------------------------------------------

    def read(self, model: LoadedModel, group: Group, rows: Sequence[SequenceState]) -> None:
        """Take in rows whose prompts are to be read, those of like length together, earlier ones not begun included."""
        now = time.monotonic()
        for row in rows:
            row.job.clock.admitted = row.job.clock.admitted or now
        fresh = [read for read in self._prefills() if read.decodes_in == group and not read.begun]
        together = [*(row for read in fresh for row in read.rows), *rows]
        reads = [read for read in self._reads if read not in fresh]
        free = self.free_cache_tokens + sum(read.cache_tokens for read in fresh)
        for batch in self._put_together(together, free):
            with _failing(batch):
                reads.append(Prefill(model, group, batch, self._prefixes))
        self._reads = sorted(reads, key=lambda read: read.arrived)

    def _put_together(self, rows: Sequence[SequenceState], free: float) -> list[list[SequenceState]]:
        """Put rows of like length together; each alone where padding would take more cache positions than are free."""
        # Apart, so that rows of which little is left to read need not wait for the others in their batch.
        parts: dict[Hashable, list[SequenceState]] = {}
        for row in rows:
            # What is read at one λ and decoded at another changes over at one column, so rows must do so together.
            changes = (row.prefix_intensity, id(row) if row.written else 0) if row.prefix_length else None
            parts.setdefault((self._mostly_known(row), changes), []).append(row)
        batches = [
            batch for part in parts.values() for batch in bucket_by_length(part, [len(row.tokens) for row in part])
        ]
        padded = sum(len(batch) * max(len(row.tokens) for row in batch) for batch in batches)
        return batches if padded <= free else [[row] for row in rows]

    def _mostly_known(self, row: SequenceState) -> bool:
        prefix = self._prefixes.find(row.prefix_intensity, row.tokens[: row.reusable + 1])
        return prefix is not None and 2 * prefix.length >= len(row.tokens)

    def read_only(
        self, model: LoadedModel, group: Group, waiting: Sequence[ReadRequest], limit: int
    ) -> Sequence[ReadRequest]:
        """Begin to read the oldest of the ``waiting``, with up to ``limit`` of like length that there is room for.

        Args:
            model: the loaded model.
            group: whose λ the requests share.
            waiting: requests of the group, all of one class, oldest first; at least one.
            limit: requests read together at most.

        Returns:
            Those taken: at least the oldest.
        """
        members = waiting[:limit]
        lengths = {id(m): len(m.tokens) for m in members}
        batch = next(b for b in bucket_by_length(members, list(lengths.values())) if waiting[0] in b)
        while len(batch) > 1 and len(batch) * max(lengths[id(m)] for m in batch) > self.free_cache_tokens:
            batch.remove(next(m for m in reversed(batch) if m is not waiting[0]))
        with _failing(batch):
            self._reads.append(_reading(model, group, batch))
        return batch

    # --- a round -----------------------------------------------------------------------------------------------------

    def read_chunk(self, weights: Weights) -> None:
        """Read one chunk, if there is something to read and those that decode have had their share of the time."""
        self._reads = [read for read in self._reads if not read.finished]
        if not self._reads or not (self.reads_on or self._interleaving.may_read(decoding=bool(self._running))):
            return
        read = self._interleaving.pick(self._reads)
        began, switched = time.perf_counter(), weights.switch_seconds
        with _failing(read.rows if isinstance(read, Prefill) else read.requests):
            read.advance()
        self._interleaving.has_read(weights.switch_seconds - switched, time.perf_counter() - began)
        if read.finished:
            self._reads.remove(read)
            if isinstance(read, Prefill) and read.batch is not None:
                self._keep_prefixes(read.batch)
                self._running.setdefault(read.decodes_in, []).append(read.batch)
                self._compact(read.decodes_in, now=True)
            elif isinstance(read, StatesReading):
                self._keep_prefixes(read)

    @property
    def reads_on(self) -> bool:
        """Return whether the next chunk is to be read before anything is decoded."""
        return self._interleaving.reads_on(self._reads)

    def decode(self, weights: Weights, group: Group) -> tuple[float, float]:
        """Decode one token of every row of the group; returns the seconds it took in changing λ, and in all."""
        began, switched = time.perf_counter(), weights.switch_seconds
        for batch in self._running[group]:
            with _failing(batch.rows):  # its cache is of no use any more
                batch.step()
            self._keep_prefixes(batch)
        self._compact(group)
        spent = weights.switch_seconds - switched, time.perf_counter() - began
        self._interleaving.has_decoded(*spent)
        return spent

    def _keep_prefixes(self, batch: RunningBatch | StatesReading) -> None:
        """Keep what was computed of ended sequences; where there is no memory for it, give up all that is kept."""
        try:
            batch.keep_prefixes(self._prefixes)
        except (RuntimeError, MemoryError):  # torch's out of memory is a RuntimeError; no request may suffer from it
            self._prefixes.clear()

    def _compact(self, group: Group, *, now: bool = False) -> None:
        """Drop rows that have ended, once it pays or ``now``, and put batches together where that wastes little."""
        batches = self._running.get(group, [])
        for batch in batches:
            batch.compact(now=now)
        batches = sorted((batch for batch in batches if batch.rows), key=lambda batch: batch.width)
        self._running[group] = batches
        free = self.free_cache_tokens
        merged: list[RunningBatch] = []
        for batch in batches:
            shapes = [(len(x.rows), x.width) for x in (*merged[-1:], batch)]
            padding = sum(rows for rows, _ in shapes) * batch.width - sum(rows * width for rows, width in shapes)
            if merged and padding <= free and can_merge(shapes):
                merged[-1].join(batch)
                free -= padding
            else:
                merged.append(batch)
        if merged:
            self._running[group] = merged
        else:
            del self._running[group]

    def preempt_to_fit(self, requeue: Callable[[SequenceState], None]) -> None:
        """Give up kept prefixes, then send the youngest rows back to the queue's head, while the cache is too full."""
        self._prefixes.trim(self.free_cache_tokens)
        while self.free_cache_tokens < 0:
            alive = [row for row in self.rows if not row.done]
            if len(alive) <= 1:
                return
            self._preempt(max(alive, key=lambda row: row.job.clock.submitted), requeue)

    def _preempt(self, row: SequenceState, requeue: Callable[[SequenceState], None]) -> None:
        for group, batches in list(self._running.items()):
            for batch in batches:
                if row in batch.rows:
                    requeue(row)  # first, so that a failure in what follows does not lose it
                    batch.compact(leaving=row)
                    self._compact(group)
                    return
        read = next(read for read in self._prefills() if row in read.rows)
        requeue(row)
        read.drop(row)  # the others are read on: put out together they would be admitted together again, for ever
        if not read.rows:
            self._reads.remove(read)

    def _all_batches(self) -> list[RunningBatch]:
        return [batch for batches in self._running.values() for batch in batches]

    def _prefills(self) -> list[Prefill]:
        return [read for read in self._reads if isinstance(read, Prefill)]


def _reading(model: LoadedModel, group: Group, requests: Sequence[ReadRequest]) -> Reading[Any]:
    """Make what answers requests of one class."""
    scores = [request for request in requests if isinstance(request, ScoreRequest)]
    if scores:
        return Scoring(model, group, scores)
    return StatesReading(model, group, [request for request in requests if isinstance(request, StatesRequest)])


@contextmanager
def _failing(items: Sequence[SequenceState] | Sequence[ReadRequest]) -> Iterator[None]:
    """Fail what was computed together with the error that is raised inside; the rest is not touched by it."""
    try:
        yield
    except Exception as error:
        for item in items:
            item.fail(to_dami_error(error))
