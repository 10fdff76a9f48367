"""Ask a vLLM server for tokens: what ``ChatDAMI(base_url=...)`` runs on.

The server decodes; policy, budgets, caps of thoughts, stop strings, the reading of replies and the ledger stay here. It
is asked by token ids (vLLM's ``/inference/v1/generate``), so that both sides speak of the same tokens.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing, suppress
from typing import Any

import httpx
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential
from typing_extensions import Self

from dami_agent.errors import EngineBusy, EngineClosed, InvalidRequest, RunError
from dami_agent.integrations.vllm.segments import (
    Drawn,
    Segment,
    next_segment,
    scoring_parameters,
    take_drawn,
    token_logprob,
    write_forced,
)
from dami_agent.integrations.vllm.served_pair import ServedPair
from dami_agent.runtime.factory import find_markers
from dami_agent.runtime.failures import to_dami_error
from dami_agent.runtime.queued_engine import QueuedEngine
from dami_agent.runtime.repetition import LoopRule
from dami_agent.runtime.request_queue import RequestQueue
from dami_agent.runtime.scoring import ScoreRequest
from dami_agent.runtime.sequence import SequenceState
from dami_agent.runtime.sequence_builder import SequenceBuilder

__all__ = ["RemoteVllmEngine", "client_arguments"]

GENERATE_PATH = "/inference/v1/generate"

MAX_QUEUE = 4096
"""Requests waiting to be sent; what the server holds is its own matter."""

_ATTEMPTS = 4  # to begin a segment on a server that cannot be reached, or is overloaded
_NOTICE_SECONDS = 0.1  # until a request that its caller has given up is withdrawn
_CONNECT_SECONDS = 10.0
_LOOP_RULE = LoopRule()


class RemoteVllmEngine(QueuedEngine):
    """Implements :class:`dami_agent.types.Engine` by a server that ``dami serve`` has started."""

    @classmethod
    def connect(
        cls,
        base_url: str,
        *,
        api_key: str | None = None,
        closing_words: str | None = None,
        loop_rule: LoopRule | None = _LOOP_RULE,
    ) -> tuple[Self, ServedPair]:
        """Ask a server what it serves, and make an engine that decodes there.

        Args:
            base_url: of the server, with or without ``/v1``.
            api_key: of the server, if it wants one.
            closing_words: written before the close marker of a thought that is cut short; None: the pair's own.
            loop_rule: when a repetition counts as run away; None never.

        Raises:
            EngineClosed: it cannot be reached.
            InvalidRequest: it serves no pair, or refuses the key.
        """
        arguments = client_arguments(base_url, api_key)
        with httpx.Client(**arguments, timeout=_CONNECT_SECONDS) as client:
            served = ServedPair.fetch(client)
        said, tokenizer = served.description, served.tokenizer()
        builder = SequenceBuilder(
            tokenizer,
            info=said.info,
            markers=find_markers(tokenizer, said.closing_words if closing_words is None else closing_words),
            eos_token_ids=said.eos_token_ids,
            generation_defaults=said.generation,
            loop_rule=loop_rule,
        )
        return cls(said.info, builder, _Sender(arguments)), served


def client_arguments(base_url: str, api_key: str | None) -> dict[str, Any]:
    """Return what an httpx client of a server is made with."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    return {"base_url": base_url.rstrip("/").removesuffix("/v1"), "headers": headers}


class _Sender:
    """Sends requests from one thread, all at once: a coroutine follows each reply through its segments.

    Args:
        arguments: of an httpx client.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self.queue = RequestQueue(MAX_QUEUE, self._begin_threads)
        self._arguments = arguments
        self._loop = asyncio.new_event_loop()
        self._client: httpx.AsyncClient | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads: list[threading.Thread] = []

    def close(self, timeout: float) -> None:
        """Withdraw what is sent, fail it with ``EngineClosed`` and end."""
        self.queue.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout)

    def _begin_threads(self) -> None:
        self._threads = [
            threading.Thread(target=self._run_loop, name="dami-remote", daemon=True),
            threading.Thread(target=self._take_in, name="dami-remote-queue", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _take_in(self) -> None:
        """Hand what is queued to the event loop; once the queue is closed, end it."""
        while self.queue.wait(busy=False):
            rows, reads = self.queue.rows(), self.queue.reads()
            self.queue.remove(rows)
            self.queue.remove_reads(reads)
            for load in self.queue.take_loads():
                load.set_result(None)
            for row in rows:
                self._begin(self._reply(row))
            for request in reads:
                if isinstance(request, ScoreRequest):
                    self._begin(self._score(request))
                else:
                    request.fail(NotImplementedError(f"a server reads no {type(request).__name__}"))
        ending = EngineClosed("the engine was closed before the request was finished")
        for row in self.queue.rows():
            row.fail(to_dami_error(ending))
        for request in self.queue.reads():
            request.fail(to_dami_error(ending))
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        def start() -> None:
            task = self._loop.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._loop.call_soon_threadsafe(start)

    # ---- the event loop's thread --------------------------------------------------------------------------------

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        timeout = httpx.Timeout(_CONNECT_SECONDS, read=None, write=None, pool=None)
        self._client = httpx.AsyncClient(**self._arguments, limits=limits, timeout=timeout)
        self._loop.run_forever()
        for task in self._tasks:
            task.cancel()
        with suppress(Exception):
            self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
            self._loop.run_until_complete(self._client.aclose())
        self._loop.close()

    async def _reply(self, row: SequenceState) -> None:
        """Decode a reply, segment by segment, until it has ended one way or another."""
        row.job.clock.admitted = time.monotonic()
        work = asyncio.ensure_future(self._segments(row))
        try:
            while not work.done():
                await asyncio.wait({work}, timeout=_NOTICE_SECONDS)
                row.job.expire(time.monotonic())
                if row.done:
                    break
            if work.done():
                work.result()
        except asyncio.CancelledError:
            row.fail(EngineClosed("the engine was closed before the request was finished"))
            raise
        except Exception as error:
            row.fail(to_dami_error(error))
        finally:
            if not work.done():
                work.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await work

    async def _segments(self, row: SequenceState) -> None:
        write_forced(row)
        segment = Segment.of(row)
        while not row.done:
            async with aclosing(self._stream(row, segment.parameters())) as stream:
                async for drawn, cached in stream:
                    clock = row.job.clock
                    if clock.first_token is None and clock.admitted is not None:
                        clock.prefill = time.monotonic() - clock.admitted
                        row.job.cached_tokens = cached
                    if not take_drawn(segment, drawn):
                        break
            if not row.done:
                segment = next_segment(segment)

    async def _stream(
        self, row: SequenceState, parameters: Mapping[str, Any]
    ) -> AsyncGenerator[tuple[list[Drawn], int], None]:
        """Yield the new tokens of one request as the server sends them, and how many of the prompt it had cached."""
        body = {"token_ids": row.tokens, "sampling_params": parameters, "stream": True}
        body["reasoning_ended"] = True  # or the server's parser of thoughts would hold the grammar back
        body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
        response = await self._begin_stream(body)
        try:
            async for line in response.aiter_lines():
                if not line.startswith("data:") or line.endswith("[DONE]"):
                    continue
                said = json.loads(line.removeprefix("data:"))
                if "error" in said:
                    raise RunError(f"the server failed: {said['error'].get('message', said['error'])}")
                details = (said.get("usage") or {}).get("prompt_tokens_details") or {}
                for choice in said["choices"]:
                    yield _drawn(choice, row.logprobs), int(details.get("cached_tokens") or 0)
        finally:
            await response.aclose()

    async def _begin_stream(self, body: Mapping[str, Any]) -> httpx.Response:
        """Send a request; one that the server has not begun is sent again after a while."""
        assert self._client is not None
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type((httpx.TransportError, EngineBusy)),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.2, max=5),
            reraise=True,
        ):
            with attempt:
                request = self._client.build_request("POST", GENERATE_PATH, json=body)
                response = await self._client.send(request, stream=True)
                if response.status_code != 200:
                    await response.aread()
                    await response.aclose()
                    raise _refusal(response)
        return response

    async def _score(self, request: ScoreRequest) -> None:
        try:
            tokens = [*request.context, *request.completion]
            body = {"token_ids": tokens, "sampling_params": scoring_parameters(request)}
            response = await self._begin_stream(body)
            await response.aread()
            await response.aclose()
            said = response.json()["prompt_logprobs"][len(request.context) :]
            pairs = zip(said, request.completion, strict=True)
            request.finish(tuple(float(each[str(token)]["logprob"]) for each, token in pairs))
        except asyncio.CancelledError:
            request.fail(EngineClosed("the engine was closed before the request was finished"))
            raise
        except Exception as error:
            request.fail(to_dami_error(error))


def _drawn(choice: Mapping[str, Any], count: int | None) -> list[Drawn]:
    """Return the new tokens of a choice, with their log-probs and ``count`` alternatives where asked for."""
    tokens = choice.get("token_ids") or []
    said = (choice.get("logprobs") or {}).get("content")
    if not said:
        return [(token, None) for token in tokens]
    drawn: list[Drawn] = []
    for token, known in zip(tokens, said, strict=True):
        ranked = [(int(each["token_id"]), float(each["logprob"])) for each in known["top_logprobs"]]
        drawn.append((token, token_logprob(token, float(known["logprob"]), ranked, count)))
    return drawn


def _refusal(response: httpx.Response) -> Exception:
    """Return the error for a request that a server has refused."""
    try:
        said = response.json()
        message = said.get("error", said).get("message", response.text)
    except Exception:
        message = response.text
    text = f"the server refuses the request ({response.status_code}): {message[:300]}"
    if response.status_code in (429, 503):
        return EngineBusy(text, hint="try again later, or start another replica")
    if response.status_code in (401, 403):
        return InvalidRequest(text, hint="give api_key=, or set DAMI_API_KEY")
    if response.status_code < 500:
        return InvalidRequest(text, hint="serve with `dami serve`, of the same version")
    return RunError(text, hint="its log says more")
