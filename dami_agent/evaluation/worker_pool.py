"""Run jobs in several processes, the last first, and stop all of them at the first error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from types import TracebackType
from typing import Any, Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

__all__ = ["WorkerPool"]


class WorkerPool(Generic[Job, Result]):
    """Hold worker processes; a context manager, which drops the jobs that wait when an error leaves it.

    Args:
        workers: processes.
        run: does one job in a worker; importable by name, as its argument and result must be.
        begin: called once in each worker, with ``given``.
        given: arguments of ``begin``.
    """

    def __init__(self, workers: int, run: Callable[[Job], Result], begin: Callable[..., None], *given: Any) -> None:
        self._run = run
        self._pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=begin, initargs=given)

    def __enter__(self) -> WorkerPool[Job, Result]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=error is not None)

    def map(self, jobs: Sequence[Job], done: Callable[[Job, Result], None]) -> list[Result]:
        """Return the results in the order of the jobs; the last are begun first, so put the longest there.

        Args:
            jobs: what to do.
            done: called with a job and its result as each ends.
        """
        places: dict[Future[Result], int] = {
            self._pool.submit(self._run, jobs[place]): place for place in reversed(range(len(jobs)))
        }
        for future in as_completed(places):
            done(jobs[places[future]], future.result())  # an error ends it all as soon as it is known
        return [future.result() for future, _ in sorted(places.items(), key=lambda item: item[1])]
