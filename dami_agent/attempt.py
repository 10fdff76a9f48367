"""Make one attempt at a step: decode its reply, and know what had been decoded when it breaks off."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import NamedTuple

from dami_agent.cancellation import CancellableEngine, stop_and_collect
from dami_agent.errors import BudgetExhausted, Cancelled, OutputInvalid, OutputTruncated, RunError
from dami_agent.types import (
    CallRecord,
    Decision,
    EngineInfo,
    Generation,
    Intensity,
    Job,
    Prompt,
    Reply,
    Step,
    Timing,
    TokenEvent,
    Usage,
)

__all__ = ["Attempt", "ReusableProbe", "refuse_silent_end", "reusable_probe"]


@dataclass(slots=True)
class Attempt:
    """One attempt: decodes its reply, and makes a record of it however it ends.

    Attributes:
        step: as the caller gave it.
        engine: where tokens come from; it knows every job of the attempt, those of an estimator's probe too.
        frontier: fingerprint of the frontier that λ is chosen by.
        number: 0 for the first attempt.
        started_at: seconds since the epoch.
        clock: seconds of the monotonic clock at the start.
    """

    step: Step
    engine: CancellableEngine
    frontier: str = ""
    number: int = 0
    started_at: float = field(default_factory=time.time)
    clock: float = field(default_factory=time.perf_counter)
    _info: EngineInfo = field(init=False)
    _read: int = 0  # output tokens that reached the reader
    _whole: Generation | None = None
    _thought: Generation | None = None  # where the answer has a λ of its own: what was decoded at the thought's
    _discarded: int = 0  # tokens of the answer in it

    def __post_init__(self) -> None:
        self._info = self.engine.info

    def decode(self, prompt: Prompt, decision: Decision) -> Generator[TokenEvent, None, Generation]:
        """Yield every output token as it is decoded, and return the whole generation.

        Where the answer has a λ of its own, the thought is decoded at ``decision.intensity``; at its end the job is
        stopped, and its tokens are carried over (their KV is not) to a second job that decodes the answer.

        Raises:
            RunError: as the engine raises, or the first job does not stop.
        """
        job = self.engine.submit(prompt, decision)
        if decision.answer_intensity is None or not prompt.in_thought:
            self._whole = yield from self._tokens_of(job)
        else:
            self._whole = yield from self._decode_in_two(job, prompt, decision, decision.answer_intensity)
        return self._whole

    def replay(self, generation: Generation) -> Generator[TokenEvent, None, Generation]:
        """Yield the tokens of an estimator's probe that is a complete reply, and return it."""
        self._whole = generation
        for event in generation.events:
            yield self._count(event)
        return generation

    def _decode_in_two(
        self, job: Job, prompt: Prompt, decision: Decision, answer_intensity: Intensity
    ) -> Generator[TokenEvent, None, Generation]:
        # 1. The thought, up to the answer's first token.
        thought: list[TokenEvent] = []
        for event in job:
            if event.part == "answer":
                break
            thought.append(event)
            yield self._count(event)
        else:  # it never came to an answer
            return job.result()
        first = stop_and_collect(job)
        if first is None:
            raise RunError("the thought's end is not known", hint="the engine did not stop within seconds; try again")
        if thought and thought[-1].part != "control":  # a tool call closed it, and is the answer's first token
            thought.append(event)
            yield self._count(event)
        discarded, limits = max(0, first.output_tokens - len(thought)), decision.limits
        # Where no tokens are left to decode it again, the answer that the first job began is the answer.
        if limits.max_tokens is not None and limits.max_tokens - discarded <= len(thought):
            for event in first.events[len(thought) :]:
                yield self._count(event)
            return first
        # 2. The answer, by a second job that begins with the thought's tokens.
        self._thought, self._discarded = first, discarded
        if limits.max_tokens is not None:
            limits = dataclasses.replace(limits, max_tokens=limits.max_tokens - discarded)
        answer = dataclasses.replace(
            decision,
            intensity=answer_intensity,
            sampling=first.sampling,  # the same random stream, from where it was
            limits=limits,
        )
        ids = tuple(event.token_id for event in thought)
        second = self.engine.submit(dataclasses.replace(prompt, reply_ids=ids), answer)
        return _concatenate(first, (yield from self._tokens_of(second, after=len(thought))))

    def _tokens_of(self, job: Job, after: int = 0) -> Generator[TokenEvent, None, Generation]:
        """Yield the job's tokens but for the first ``after``, which were seen before; return its generation."""
        for place, event in enumerate(job):
            if place >= after:
                yield self._count(event)
        return job.result()

    def _count(self, event: TokenEvent) -> TokenEvent:
        self._read += 1
        return event

    # ---- for the record -----------------------------------------------------------------------------------------

    def record(
        self,
        *,
        decision: Decision | None,
        prompt: Prompt | None,
        generation: Generation | None,
        reply: Reply | None,
        error: BaseException | None = None,
    ) -> CallRecord:
        """Build the ledger's record; a failed attempt keeps what had been decoded.

        Args:
            decision, prompt, generation, reply: as far as the attempt came; None where it did not.
            error: what ended it; None for a finished attempt.
        """
        generation = generation or self._partial_result_of(error, decision)
        discarded = 0 if generation is self._thought else self._discarded
        shown = generation.output_tokens - (self._discarded - discarded) if generation else 0
        unknown = max(0, self._read - shown)
        return CallRecord(
            step=self.step,
            decision=decision,
            prompt=prompt,
            generation=generation,
            reply=reply,
            model=self._info.model,
            fingerprint=self._info.fingerprint,
            frontier=self.frontier,
            discarded_tokens=discarded + unknown,
            started_at=self.started_at,
            seconds=time.perf_counter() - self.clock,
            error=None if error is None else _error_text(error),
            attempt=self.number,
        )

    def usage(self, record: CallRecord) -> Usage | None:
        """Return what the attempt used; None if a job was begun and nobody can tell what it decoded."""
        unknown = record.generation is None or record.generation is self._thought
        return None if self.engine.jobs and unknown and not self._only_probed(record.decision) else record.usage

    def _partial_result_of(self, error: BaseException | None, decision: Decision | None) -> Generation | None:
        """Return all that is known of a reply that broke off."""
        if self._whole is not None:
            return self._whole
        found: Generation | None = getattr(error, "generation", None) or self._stopped_job(error, decision)
        if self._thought is None or found is None or found is self._thought:
            return found or self._thought
        return _concatenate(self._thought, found)

    def _stopped_job(self, error: BaseException | None, decision: Decision | None) -> Generation | None:
        """Stop the last job and return what it had decoded; a probe that ended before is known without it."""
        if error is None or not self.engine.jobs or isinstance(error, RunError) or self._only_probed(decision):
            return None
        return stop_and_collect(self.engine.jobs[-1])

    def _only_probed(self, decision: Decision | None) -> bool:
        """Return whether no job was begun after the estimator had its probe."""
        probe = decision.estimate.probe if decision and decision.estimate else None
        return probe is not None and stop_and_collect(self.engine.jobs[-1]) is probe


class ReusableProbe(NamedTuple):
    """An estimator's probe that the reply can begin with.

    Attributes:
        generation: the probe.
        prompt: what to go on from: the probe's prompt, and its tokens unless it is complete.
        complete: True if the probe is the whole reply.
    """

    generation: Generation
    prompt: Prompt
    complete: bool


def reusable_probe(decision: Decision) -> ReusableProbe | None:
    """Return the estimator's probe if it was begun at the λ and template that were decided; else it is discarded."""
    estimate = decision.estimate
    if estimate is None or estimate.probe is None or estimate.probe_prompt is None:
        return None
    probe, prompt, limit = estimate.probe, estimate.probe_prompt, decision.limits.max_tokens
    if decision.intensity != probe.intensity or decision.template != prompt.template:
        return None
    complete = probe.finish_reason == "stop" or (limit is not None and probe.output_tokens >= limit)
    prompt = prompt if complete else dataclasses.replace(prompt, reply_ids=probe.token_ids)
    return ReusableProbe(generation=probe, prompt=prompt, complete=complete)


def _concatenate(first: Generation, second: Generation) -> Generation:
    """Concatenate two generations: λ, first token and the thought's end are the first's, times add up."""
    one, other = first.timing, second.timing
    ends = (place for place, event in enumerate(first.events) if event.part == "answer")
    carried = next(ends, len(first.events))
    return dataclasses.replace(
        second,
        events=first.events[:carried] + second.events[carried:],  # the first's have their log-probabilities
        intensity=first.intensity,
        answer_intensity=second.intensity,
        prefix_intensity=first.prefix_intensity,
        reread_tokens=first.reread_tokens + second.reread_tokens,
        thought_closed_by=first.thought_closed_by,
        timing=Timing(
            queue=one.queue + other.queue,
            switch=one.switch + other.switch,
            prefill=one.prefill + other.prefill,
            first_token=one.first_token,
            decode=one.decode + other.decode,
            total=one.total + other.total,
        ),
    )


def refuse_silent_end(step: Step, generation: Generation, reply: Reply, cut_by_budget: bool) -> None:
    """Refuse a reply that would end an agent without an answer, a call or a word about it.

    A reply cut off before its answer, or inside a tool call, ends an agent like a finished one; so does a call that
    nobody can read, inside a graph. A bare call without tools gets such a reply as other models give it: empty, with
    ``finish_reason="length"``. A structured output has its own error.

    Args:
        step: the step that was answered.
        generation: what was decoded; attached to the error.
        reply: what was parsed of it.
        cut_by_budget: whether a budget set the cap that ended the reply.

    Raises:
        BudgetExhausted: a budget's end cut the reply off.
        OutputTruncated: something else did.
        OutputInvalid: the model's call cannot be read.
    """
    node = step.run_context.node is not None
    blank, unread = not reply.content.strip(), reply.invalid_tool_calls
    if reply.tool_calls or step.structured or not (node or step.tools):
        return
    error: RunError
    if reply.finish_reason == "length" and (blank or unread):
        said = f"the reply was cut off {'inside a tool call' if unread else 'before its answer'}"
        said += f", after {generation.output_tokens} tokens"
        if cut_by_budget:
            error = BudgetExhausted(f"{said}: the budget has no more", hint="raise the run's or thread's budget")
        else:
            hint = "raise max_tokens or context_length, lower reasoning_intensity, or set max_reasoning_tokens"
            error = OutputTruncated(said, text=reply.content or reply.reasoning, hint=hint)
    elif node and blank and unread:
        error = OutputInvalid(
            f"the model's tool call cannot be read: {unread[0].error}",
            text=unread[0].text,
            hint="raise reasoning_intensity, or let the policy try more often (escalation.max_attempts)",
        )
    else:
        return
    error.generation = generation
    raise error


def _error_text(error: BaseException) -> str:
    """Return class and message; a consumer that closes the stream, or presses Ctrl-C, has cancelled."""
    if not isinstance(error, Exception):
        return f"{Cancelled.__name__}: the stream was closed by its consumer ({type(error).__name__})"
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # a foreign exception whose own text cannot be had must not take the call's place
        return type(error).__name__
