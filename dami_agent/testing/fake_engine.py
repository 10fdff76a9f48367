"""Script an engine's replies: no weights, no torch, the same every time.

What is scripted comes out as it is: a grammar is not applied, and scores are made up. Under Instruct's template (λ = 0)
nothing is thought. Where an answer holds ``</think>``, what stands before it is reasoning, as it is of any engine.
"""

from __future__ import annotations

import json
import math
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dami_agent.dialogue.one_thought import one_thought
from dami_agent.dialogue.text import StopCutter
from dami_agent.errors import Cancelled, DeadlineExceeded, EngineClosed, InvalidRequest, RunError
from dami_agent.request_checks import check_fits, check_intensity, check_limits, check_tokens
from dami_agent.types import (
    Decision,
    EngineInfo,
    FinishReason,
    Generation,
    Intensity,
    Limits,
    Prompt,
    ThoughtClosedBy,
    Timing,
    TokenEvent,
    TokenLogprob,
    WeightsMode,
)

__all__ = ["FakeEngine", "FakeJob", "FakeReply", "FakeRequest"]

OPEN, CLOSE = "<think>", "</think>"
AFTER_CLOSE = "\n\n"


@dataclass(frozen=True, slots=True)
class FakeReply:
    """Script one reply of the fake engine.

    Attributes:
        answer: text after the thought; may hold anything, a garbled tool call too (which the default policy asks for
            once more: script the next reply as well).
        reasoning: the thought; left out where the prompt opens none.
        tool_calls: (name, arguments) pairs, written after the answer as the model writes them.
        error: raised instead, as a failing engine would.
        logprob: log-probability of every token, told where the request asks for them; None: never told.
    """

    answer: str = ""
    reasoning: str = ""
    tool_calls: Sequence[tuple[str, Mapping[str, Any]]] = ()
    error: Exception | None = None
    logprob: float | None = None

    @property
    def text(self) -> str:
        """Return answer and tool calls in the model's notation."""
        calls = [{"name": name, "arguments": dict(arguments)} for name, arguments in self.tool_calls]
        blocks = [f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>" for call in calls]
        return "\n".join([self.answer, *blocks] if self.answer else blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeRequest:
    """What the engine was asked."""

    prompt: Prompt
    decision: Decision


class FakeJob:
    """A scripted reply as a job: iterate for its tokens, or take the result; from any thread.

    Attributes:
        generation: all that there is to read.
        shown: how many of its tokens some reader has seen; a job that ends early has decoded them.
    """

    def __init__(
        self, generation: Generation, error: Exception | None, seconds_per_token: float, deadline: float | None
    ) -> None:
        self.generation = generation
        self._error = error
        self._pause = seconds_per_token
        self._ends = math.inf if deadline is None else time.monotonic() + deadline
        self.shown = 0
        self._cancelled = threading.Event()
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[TokenEvent]:
        """Yield every token from the first. Raises what ``result`` would."""
        for count, event in enumerate(self.generation.events):
            if self._pause:
                self._cancelled.wait(self._pause)
            self._check(count)
            self.shown = max(self.shown, count + 1)
            yield event
        self._check(len(self.generation.events))
        if self._error is not None:
            raise self._error

    def _check(self, count: int) -> None:
        """End a job that is over before its time; ``.generation`` of the error is what there was."""
        error: RunError
        if self._cancelled.is_set():
            error = Cancelled("the request was cancelled")
        elif self._closed.is_set():
            error = EngineClosed("the engine was closed")
        elif time.monotonic() > self._ends:
            error = DeadlineExceeded("the deadline passed")
        else:
            return
        error.generation = replace(self.generation, events=self.generation.events[: max(count, self.shown)])
        raise error

    def result(self, timeout: float | None = None) -> Generation:
        """Wait for all tokens. Raises the scripted error, ``Cancelled``, ``EngineClosed``, ``DeadlineExceeded``."""
        ends = math.inf if timeout is None else time.monotonic() + timeout
        for _ in self:
            if time.monotonic() > ends:
                raise DeadlineExceeded(f"no result within {timeout} s")
        return self.generation

    def cancel(self) -> None:
        """Stop at the next token."""
        self._cancelled.set()

    def close(self) -> None:
        """Fail with ``EngineClosed`` at the next token."""
        self._closed.set()


class FakeEngine:
    """An :class:`~dami_agent.types.Engine` that says what it is told to. Safe to use from many threads.

    Args:
        replies: said one after another (a plain text is an answer), or a function that makes one from each request.
            An estimator that probes takes one for its probe.
        encode: text to token ids in the vocabulary of the dialogue beside it; control tokens as single ids.
        context_length: prompts longer than this are refused, as a real engine does.
        seconds_per_token: how long each token takes; 0 is at once.
        weights_mode: what it says of its weights; as a real engine, it takes a λ per module with ``merged`` alone.

    Attributes:
        encode: as given.
        jobs: all jobs, in the order of ``requests``.
        requests: all requests, in order.
    """

    def __init__(
        self,
        replies: Iterable[str | FakeReply] | Callable[[FakeRequest], str | FakeReply],
        encode: Callable[[str], Sequence[int]],
        *,
        context_length: int = 4096,
        seconds_per_token: float = 0.0,
        weights_mode: WeightsMode = "mixed",
    ) -> None:
        self._make = replies if callable(replies) else None
        self._script = iter(()) if callable(replies) else iter(replies)
        self.encode = encode
        self._pause = seconds_per_token
        self._lock = threading.Lock()
        self.jobs: list[FakeJob] = []
        self._said: list[FakeReply] = []
        self._closed = False
        self.requests: list[FakeRequest] = []
        self.info = EngineInfo(
            model="fake",
            fingerprint="fake",
            context_length=context_length,
            vocab_size=0,
            weights_mode=weights_mode,
            device="none",
            dtype="none",
            masks_markers=True,
            module_intensities=weights_mode == "merged",
        )

    def submit(self, prompt: Prompt, decision: Decision) -> FakeJob:
        """Answer with the next scripted reply.

        Raises:
            InvalidIntensity: λ per module, where weights are mixed.
            InvalidRequest: the script is over, or limits and prompt make no sense to any engine.
            ContextOverflow: prompt and reply are longer than ``context_length``.
            EngineClosed: after ``close``.
        """
        check_intensity(decision.intensity, self.info)
        check_limits(decision.limits)
        check_tokens("prompt", prompt.token_ids, self.info)
        check_fits(len(prompt.token_ids), len(prompt.reply_ids) + 1, self.info)
        request = FakeRequest(prompt=prompt, decision=decision)
        with self._lock:
            if self._closed:
                raise EngineClosed("the fake engine is closed")
            self.requests.append(request)
            reply = self.reply_begun_by(prompt) if prompt.reply_ids else self._next(request)
            job = FakeJob(self.write(reply, request), reply.error, self._pause, decision.limits.timeout)
            self.jobs.append(job)
        return job

    def generate(self, prompt: Prompt, decision: Decision) -> Generation:
        """Run a request to its end: ``submit(...).result()``."""
        return self.submit(prompt, decision).result()

    def score(self, prompt: Prompt, completion: Sequence[int], intensity: Intensity) -> tuple[float, ...]:
        """Make log-probabilities up, in (-1, 0]: always the same for the same token, place and λ."""
        places = (f"{token}:{place}:{intensity:g}" for place, token in enumerate(completion))
        return tuple(-zlib.crc32(place.encode()) / 2**32 for place in places)

    def close(self) -> None:
        """Fail what runs with ``EngineClosed``; idempotent."""
        with self._lock:
            self._closed = True
            for job in self.jobs:
                job.close()

    def _next(self, request: FakeRequest) -> FakeReply:
        made = self._make(request) if self._make else next(self._script, None)
        if made is None:
            raise InvalidRequest(
                f"the script is over: call {len(self.requests)} has no reply",
                hint="script one reply per call of the model; agents call it once more after the last tool",
            )
        reply = FakeReply(made) if isinstance(made, str) else made
        self._said.append(reply)
        return reply

    def reply_begun_by(self, prompt: Prompt) -> FakeReply:
        """Find the reply that a probe began, or whose thought is to be answered at another λ."""
        begun, closing = prompt.reply_ids, tuple(self.encode(CLOSE + AFTER_CLOSE))
        thought = prompt.in_thought and begun[-len(closing) :] == closing
        begun = begun[: -len(closing)] if thought else begun
        for reply in reversed(self._said):
            if tuple(self.encode(reply.reasoning if thought else reply.text))[: len(begun)] == begun:
                return reply
        raise InvalidRequest("the reply to be continued was never begun here")

    def write(self, reply: FakeReply, request: FakeRequest) -> Generation:
        """Write out a scripted reply within the request's limits; a subclass may change what comes of it."""
        prompt, decision = request.prompt, request.decision
        most = self.info.context_length - len(prompt.token_ids)
        most = min(most, decision.limits.max_tokens or most)
        events: list[TokenEvent] = []
        closed_by: ThoughtClosedBy | None = None
        if prompt.in_thought:
            events, closed_by = self._thought(reply.reasoning, decision.limits, most)
        cutter = StopCutter(decision.limits.stop, continues=prompt.continues)
        text = cutter.feed(reply.text) + cutter.finish()
        events += [TokenEvent(token_id=token, part="answer") for token in self.encode(text)]
        events = list(one_thought(events, open_id=self._marker(OPEN), close_id=self._marker(CLOSE)))
        if reply.logprob is not None and decision.sampling.logprobs is not None:
            told = (TokenLogprob(token_id=event.token_id, logprob=reply.logprob) for event in events)
            events = [replace(event, logprob=each) for event, each in zip(events, told, strict=True)]
        finish: FinishReason = "stop" if len(events) <= most else "length"
        return Generation(
            events=tuple(events[:most]),
            finish_reason=finish,
            thought_closed_by=closed_by,
            stop_string=cutter.stop_string if finish == "stop" else None,
            intensity=decision.intensity,
            sampling=replace(decision.sampling, seed=decision.sampling.seed or 0),
            prompt_tokens=len(prompt.token_ids),
            weights_mode=self.info.weights_mode,
            timing=Timing(decode=self._pause * len(events), total=self._pause * len(events)),
        )

    def _marker(self, text: str) -> int | None:
        ids = self.encode(text)
        return ids[0] if len(ids) == 1 else None

    def _thought(self, reasoning: str, limits: Limits, most: int) -> tuple[list[TokenEvent], ThoughtClosedBy | None]:
        """Write the thought up to its cap, and the tokens that close it."""
        thought = [TokenEvent(token_id=token, part="reasoning") for token in self.encode(reasoning)]
        closing = [TokenEvent(token_id=token, part="control") for token in self.encode(CLOSE + AFTER_CLOSE)]
        cap = most
        if limits.answer_reserve:
            cap = max(0, most - limits.answer_reserve - len(closing))
        if limits.max_reasoning_tokens is not None:
            cap = min(cap, limits.max_reasoning_tokens)
        if min(len(thought), cap) >= most:  # the end of all tokens comes inside the thought
            return thought, None
        return thought[:cap] + closing, "model" if len(thought) <= cap else "cap"
