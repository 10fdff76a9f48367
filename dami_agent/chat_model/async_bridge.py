"""Blocking pipeline calls for asyncio callers, on threads of their own.

asyncio's default executor has ``cpu_count + 4`` threads; an agent with a hundred branches in flight must not queue
there before its requests can share a batch.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

T = TypeVar("T")
_MAX_THREADS = 256


@cache
def _executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=_MAX_THREADS, thread_name_prefix="dami-call")


if hasattr(os, "register_at_fork"):  # a forked child has none of the threads, but the executor would count on them
    os.register_at_fork(after_in_child=_executor.cache_clear)


async def run_in_thread(function: Callable[[], T]) -> T:
    """Await a blocking call."""
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(_executor(), lambda: context.run(function))


async def iterate_in_thread(make: Callable[[], Iterator[T]], cancel: Callable[[], None]) -> AsyncIterator[T]:
    """Iterate a blocking iterator; ``cancel`` is called when the consumer stops early or is cancelled."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[bool, T | None]] = asyncio.Queue()

    def produce() -> None:
        for item in make():
            loop.call_soon_threadsafe(queue.put_nowait, (True, item))

    context = contextvars.copy_context()
    producer = loop.run_in_executor(_executor(), lambda: context.run(produce))

    def done(ended: asyncio.Future[None]) -> None:
        queue.put_nowait((False, None))
        if not ended.cancelled():
            ended.exception()  # seen: a consumer that stopped early awaits it no more, and asyncio would complain

    producer.add_done_callback(done)
    try:
        while True:
            more, item = await queue.get()
            if not more:
                break
            yield item  # type: ignore[misc]  # None only ever comes with more=False
        await producer  # raises what the iterator raised
    finally:
        if not producer.done():
            cancel()
