"""Own a vLLM engine in one thread: hand it requests, take what it decodes, step by step."""

from __future__ import annotations

import gc
import itertools
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dami_agent.errors import EngineClosed
from dami_agent.integrations.vllm.segments import (
    Drawn,
    Segment,
    next_segment,
    scoring_parameters,
    take_drawn,
    token_logprob,
    write_forced,
)
from dami_agent.runtime.failures import describe, failing_alone, to_dami_error
from dami_agent.runtime.request_queue import RequestQueue
from dami_agent.runtime.scoring import ScoreRequest

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.outputs import RequestOutput
    from vllm.v1.engine.llm_engine import LLMEngine

__all__ = ["StepLoop"]

# vLLM keeps process groups and the context of a forward pass in globals: engines of one process take turns, and the
# last one to close takes the process groups down.
_turn = threading.RLock()
_open = 0


def _forget_others() -> None:
    """Forget the parent's engines in a forked child: their threads stay behind."""
    global _turn, _open
    _turn, _open = threading.RLock(), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_others)


class StepLoop:
    """Owns the engine; its thread begins with the first item in the queue.

    vLLM batches, caches prefixes, and preempts. An engine of which a step fails cannot go on: all its requests hear of
    it, and those that still come.

    Args:
        start: makes the engine; called on the thread that steps it.
        max_queue: requests waiting before ``EngineBusy``.

    Attributes:
        engine: vLLM's; None before it was started and after it was closed.
    """

    def __init__(self, start: Callable[[], LLMEngine], max_queue: int) -> None:
        self.queue = RequestQueue(max_queue, self._begin_thread)
        self._start = start
        self.engine: Any = None
        self._segments: dict[str, Segment] = {}
        self._scores: dict[str, ScoreRequest] = {}
        self._names = map(str, itertools.count())
        self._thread: threading.Thread | None = None

    def close(self, timeout: float) -> None:
        """Have the thread fail what it holds, shut the engine down and end; wait for that unless called from it."""
        self.queue.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _begin_thread(self) -> None:
        self._thread = threading.Thread(target=self._run, name="dami-vllm", daemon=True)
        self._thread.start()

    # ---- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        ending = EngineClosed("the engine was closed before the request was finished")
        try:
            while self.queue.wait(busy=bool(self._segments or self._scores)):
                self._round()
        except BaseException as error:  # callers who wait must hear of it, and who comes later too
            ending = EngineClosed(f"vLLM broke: {describe(error)}", hint="open a new engine; its log says more")
            ending.__cause__ = error
            self.queue.close(ending)
            self._fail_loads(error)
        self._fail_all(ending)
        self._shut_down()

    def _round(self) -> None:
        # Start vLLM for the first request.
        if self.engine is None:
            self.engine = self._open_engine()
        for load in self.queue.take_loads():
            load.set_result(None)
        # Drop what has expired or was cancelled, hand over what has come.
        self._drop_ended()
        self._take_in()
        # Decode one token of every request, and take each into its reply.
        if self.engine.has_unfinished_requests():
            with _turn:
                outputs = self.engine.step()
            for output in outputs:
                if output.request_id in self._segments:
                    self._take(output)
                elif output.request_id in self._scores and output.finished:
                    self._take_scores(output)

    def _take_in(self) -> None:
        rows, reads = self.queue.rows(), self.queue.reads()
        for row in rows:
            row.job.expire(time.monotonic())
            if not row.done:
                row.job.clock.admitted = time.monotonic()
                with failing_alone(row):
                    write_forced(row)
                    self._add_segment(Segment.of(row))
        for request in reads:
            if request.done:
                continue
            if isinstance(request, ScoreRequest):
                self._add_scores(request)
            else:
                request.fail(NotImplementedError(f"vLLM reads no {type(request).__name__}"))
        self.queue.remove(rows)
        self.queue.remove_reads(reads)

    def _add_segment(self, segment: Segment) -> None:
        if not segment.row.done:
            name = next(self._names)
            self.engine.add_request(
                name, {"prompt_token_ids": list(segment.row.tokens)}, _sampling(segment.parameters())
            )
            self._segments[name] = segment

    def _take(self, output: RequestOutput) -> None:
        """Take new tokens into their reply; begin its next segment where this one has ended and the reply has not."""
        segment = self._segments[output.request_id]
        row, clock = segment.row, segment.row.job.clock
        if clock.first_token is None and clock.admitted is not None:
            clock.prefill = time.monotonic() - clock.admitted
            row.job.cached_tokens = output.num_cached_tokens or 0
        goes_on = False
        with failing_alone(row):
            goes_on = take_drawn(segment, _drawn(output, row.logprobs))
        if goes_on and not output.finished:
            return
        self._forget(output.request_id, finished=output.finished)
        if not row.done:
            with failing_alone(row):
                self._add_segment(next_segment(segment))

    def _add_scores(self, request: ScoreRequest) -> None:
        name = next(self._names)
        try:
            tokens = [*request.context, *request.completion]
            self.engine.add_request(name, {"prompt_token_ids": tokens}, _sampling(scoring_parameters(request)))
            self._scores[name] = request
        except Exception as error:
            request.fail(to_dami_error(error))

    def _take_scores(self, output: RequestOutput) -> None:
        request = self._scores.pop(output.request_id)
        try:
            said = list(output.prompt_logprobs or ())[len(request.context) :]
            values = [each[token].logprob for each, token in zip(said, request.completion, strict=True) if each]
            request.finish(tuple(map(float, values)))
        except Exception as error:
            request.fail(to_dami_error(error))

    def _drop_ended(self) -> None:
        now = time.monotonic()
        for name, segment in list(self._segments.items()):
            segment.row.job.expire(now)
            if segment.row.done:
                self._forget(name, finished=False)
        for name, request in list(self._scores.items()):
            if request.done:
                del self._scores[name]
                self.engine.abort_request([name])

    def _forget(self, name: str, *, finished: bool) -> None:
        del self._segments[name]
        if not finished:
            self.engine.abort_request([name])

    def _fail_loads(self, error: BaseException) -> None:
        for load in self.queue.take_loads():
            load.set_exception(to_dami_error(error))

    def _fail_all(self, error: Exception) -> None:
        rows = [*self.queue.rows(), *(segment.row for segment in self._segments.values())]
        reads = [*self.queue.reads(), *self._scores.values()]
        self._segments.clear()
        self._scores.clear()
        for row in rows:
            row.fail(to_dami_error(error))
        for request in reads:
            request.fail(to_dami_error(error))
        self._fail_loads(error)

    def _open_engine(self) -> LLMEngine:
        global _open
        with _turn:
            engine = self._start()
            _open += 1
        return engine

    def _shut_down(self) -> None:
        global _open
        engine, self.engine = self.engine, None
        if engine is None:
            return
        with _turn:
            _open -= 1
            with suppress(Exception):  # nobody is left who could do anything about it
                if _open and hasattr(engine.engine_core, "engine_core"):  # it lives in this process
                    engine.engine_core._finalizer.detach()  # would take the others' process groups down
                else:
                    engine.engine_core.shutdown()
        del engine
        gc.collect()  # the model is part of cycles


def _sampling(parameters: dict[str, Any]) -> SamplingParams:
    """Return vLLM's parameters of these fields, to be told of new tokens alone."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    grammar = parameters.get("structured_outputs")
    structured = StructuredOutputsParams(**grammar) if grammar else None
    return SamplingParams(**{**parameters, "structured_outputs": structured}, output_kind=RequestOutputKind.DELTA)


def _drawn(output: RequestOutput, count: int | None) -> list[Drawn]:
    """Return the new tokens of an output, with their log-probs and ``count`` alternatives where asked for."""
    said = output.outputs[0]
    if not said.logprobs:
        return [(token, None) for token in said.token_ids]
    drawn: list[Drawn] = []
    for token, known in zip(said.token_ids, said.logprobs, strict=True):
        ranked = [(other, float(each.logprob)) for other, each in known.items()]
        drawn.append((token, token_logprob(token, float(known[token].logprob), ranked, count)))
    return drawn
