"""One call from message to ledger: decide, render, generate, parse, record.

This module knows the order of things and nothing else: λ is the policy's, text is the dialogue's, tokens are the
engine's, rows are the ledger's.
"""

from __future__ import annotations

import dataclasses
import logging
import uuid
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from dami_agent.attempt import Attempt, Cancellation, Watched, decode, ends_in_silence
from dami_agent.checkpoints.pair import unmeasured
from dami_agent.errors import (
    BudgetExhausted,
    ContextOverflow,
    DeadlineExceeded,
    InvalidPolicy,
    InvalidRequest,
    OutputError,
)
from dami_agent.estimators import estimator_named
from dami_agent.interrupts import cancel_on_interrupt
from dami_agent.policy import BudgetTracker
from dami_agent.types import (
    CallRecord,
    Decision,
    Engine,
    EngineInfo,
    Estimate,
    Estimator,
    Generation,
    Intensity,
    Prompt,
    Reply,
    Step,
    ToolChoice,
)
from dami_agent.window import Prompts, within_window

if TYPE_CHECKING:
    from dami_agent.dialogue import Delta, Dialogue
    from dami_agent.policy import Frontier, ReasoningPolicy


__all__ = ["Cancellation", "Outcome", "Pipeline", "Recorder"]

log = logging.getLogger("dami_agent.pipeline")


class Recorder(Protocol):
    """What the pipeline needs of a ledger."""

    def record(self, record: CallRecord) -> None:
        """Keep one attempt; never raises because it cannot be written."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of a call: the accepted reply, the record of the attempt that gave it, and those of the ones before."""

    reply: Reply
    record: CallRecord
    rejected: tuple[CallRecord, ...] = ()

    @property
    def attempts(self) -> tuple[CallRecord, ...]:
        """All of them, in order: the caller pays for all."""
        return (*self.rejected, self.record)


class _Again(Exception):
    """An attempt after which another one comes; ``str`` says why, ``final`` that the next must answer at once.

    ``held`` is what it said and nobody saw: it is shown after all where no budget is left for another. ``shown`` are
    the kinds of deltas that were streamed.
    """

    def __init__(
        self, why: str, held: Sequence[Delta] = (), *, shown: Collection[str] = (), final: bool = False
    ) -> None:
        super().__init__(why)
        self.held = held
        self.shown = shown
        self.final = final
        self.record: CallRecord | None = None


class Pipeline:
    """Runs steps through policy, dialogue, engine and ledger. Safe to use from many threads.

    Args:
        engine: where tokens come from.
        dialogue: messages <-> tokens.
        policy: the one authority over λ.
        estimator: asked by the policy when λ is to be estimated.
        ledger: every attempt is recorded there before its answer is returned; None keeps nothing.
        budgets: the accounts of the policy's budgets; None begins new ones.
        estimators: others, by the names that the policy's rules use; what is not here is looked up among the
            registered ones.

    Raises:
        InvalidPolicy: a rule asks for an estimator that is neither here nor registered.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        dialogue: Dialogue,
        policy: ReasoningPolicy,
        estimator: Estimator,
        ledger: Recorder | None = None,
        budgets: BudgetTracker | None = None,
        estimators: Mapping[str, Estimator] | None = None,
    ) -> None:
        self.engine = engine
        self.dialogue = dialogue
        self.policy = policy
        self.estimator = estimator
        self.ledger = ledger
        self.budgets = budgets or BudgetTracker()
        own = {**(estimators or {}), "": estimator, estimator.name: estimator}
        self.estimators = {**own, **{name: _named(name, own) for name in policy.estimators - set(own)}}
        self._frontier = policy.frontier.fingerprint

    def run(self, step: Step, cancellation: Cancellation | None = None) -> Outcome:
        """The whole call at once; see :meth:`stream`."""
        for item in self.stream(step, cancellation):
            if isinstance(item, Outcome):
                return item
        raise AssertionError("a stream ends with its outcome or an error")

    def stream(self, step: Step, cancellation: Cancellation | None = None) -> Iterator[Delta | Outcome]:
        """Yield pieces of the reply as they are decoded, then the outcome, recorded.

        Closing the iterator early cancels the call; that is recorded too. What an attempt says that the policy may
        still reject is held back until it is accepted, so nothing is shown twice; the last attempt streams. Of an
        attempt that is only drawn anew if its tool call cannot be read, the calls are held back. Where a budget or
        the context window has no room for another attempt, the rejected one is what there is.

        Raises:
            UsageError: bad input, before anything runs.
            RunError: the call was started and failed; recorded with what it had cost.
        """
        if not step.trace.call_id:
            trace = dataclasses.replace(step.trace, call_id=uuid.uuid4().hex)
            step = dataclasses.replace(step, trace=trace)
        cancellation = cancellation or Cancellation()
        before: list[_Again] = []
        attempts = stop_after_attempt(self.policy.attempts)
        for trial in Retrying(stop=attempts, retry=retry_if_exception_type(_Again), reraise=True):
            with trial, cancel_on_interrupt(cancellation.cancel):
                try:
                    yield from self._attempt(self._new(step, len(before)), cancellation, before)
                except _Again as again:
                    before.append(again)
                    raise
                except (BudgetExhausted, ContextOverflow):  # of a retry: a deeper λ's prompt may be longer
                    if not before or before[-1].record is None or before[-1].record.reply is None:
                        raise
                    yield from before[-1].held
                    yield _outcome(before.pop().record, before)

    def _new(self, step: Step, number: int) -> Attempt:
        info = self.engine.info
        return Attempt(
            step=step, model=info.model, fingerprint=info.fingerprint, frontier=self._frontier, number=number
        )

    def _attempt(
        self, attempt: Attempt, cancellation: Cancellation, before: Sequence[_Again]
    ) -> Generator[Delta | Outcome, None, None]:
        """One attempt, recorded and paid for whatever happens; raises ``_Again`` where another is to follow."""
        policy = self.policy
        held: list[Delta] = []
        shown: set[str] = set()  # kinds of deltas
        answered = False  # whether something of the answer was shown
        again: _Again | None = None
        try:
            with closing(self._decode(attempt, cancellation, before[-1] if before else None)) as deltas:
                for delta in deltas:
                    assert attempt.decision is not None
                    if delta.kind == "partial_call":  # says nothing that the whole call does not; of no use later
                        if not policy.may_retry(attempt.decision):
                            yield delta
                        continue
                    redrawable = (held or delta.call) and policy.may_redraw(attempt.decision)
                    if redrawable or policy.may_retry(attempt.decision):
                        held.append(delta)
                    else:
                        answered |= delta.kind != "reasoning"
                        yield delta if delta.kind in shown else _first_of_its_kind(delta, before)
                        shown.add(delta.kind)
            assert attempt.reply is not None
            assert attempt.decision is not None
            wrong = policy.rejects(attempt.step, attempt.reply) or self._breaks_schema(attempt.step, attempt.reply)
            if wrong:
                attempt.reply = dataclasses.replace(attempt.reply, accepted=False)
            redrawn = policy.redraws(attempt.step, attempt.decision, attempt.reply)
            if wrong and policy.may_retry(attempt.decision):
                again = _Again(wrong, held)
            elif redrawn:
                again = _Again(redrawn, held, shown=shown)
            else:
                ends_in_silence(attempt, self.policy.cut_by_budget(attempt.decision))
                yield from held
        except BaseException as error:  # GeneratorExit and KeyboardInterrupt too: what it cost must be on record
            again = self._after(error, attempt, answered)
            if again is None:
                cancellation.cancel()
            record = self._close(attempt, error)
            if again is None:
                raise
            again.record = record
            raise again from error
        record = self._close(attempt)
        if again is not None:
            again.record = record
            raise again
        yield _outcome(record, before)

    def _after(self, error: BaseException, attempt: Attempt, answered: bool) -> _Again | None:
        """What follows an attempt that failed: another with more λ, an answer at the budget's deadline, or nothing."""
        policy, decision = self.policy, attempt.decision
        if isinstance(error, OutputError) and attempt.reply is None and policy.retries_schema_failures:
            again = _Again(f"{type(error).__name__}: {error}")
            return again if decision is not None and policy.may_retry(decision) else None
        if (
            isinstance(error, DeadlineExceeded)
            and not answered
            and self.budgets.stopped_by_budget(policy, attempt.step, attempt.number)
        ):
            return _Again(f"{type(error).__name__}: {error}", final=True)
        return None

    def _decode(
        self, attempt: Attempt, cancellation: Cancellation, last: _Again | None
    ) -> Generator[Delta, None, None]:
        step, number = attempt.step, attempt.number
        engine = Watched(engine=self.engine, cancellation=cancellation, jobs=attempt.jobs)

        def ask(base: Decision) -> Estimate:
            _warn_unmeasured(self.engine.info, self.policy.frontier)
            return prompts.estimate(self.estimators[base.estimator], base, engine)

        prompts = Prompts(self.dialogue, step, engine.info.context_length)
        instruct = self.policy.frontier.template(Intensity(0))
        decision = self.policy.decide(
            step,
            number,
            ask,
            last.record.decision if last is not None and last.record is not None else None,
            "" if last is None else str(last),
            budgets=self.budgets,
            final=last is not None and last.final,
            context_left=prompts.room(instruct) if self.policy.budgeted else None,
            check=cancellation.check,
        )
        decision = attempt.decision = prompts.fitting(decision, instruct)
        if decision.tools_disabled and step.tools and step.tool_choice.mode == "auto":
            step = dataclasses.replace(step, tool_choice=ToolChoice(mode="none"))
            prompts = dataclasses.replace(prompts, step=step, _rendered={})
        whole = _whole_probe(decision)
        if whole is not None:
            assert decision.estimate is not None
            prompt = attempt.prompt = decision.estimate.probe_prompt
            assert prompt is not None
            attempt.generation = whole
            events = iter(whole.events)
        else:
            prompt = attempt.prompt = _carried_on(decision) or prompts.render(decision.template)
            room = engine.info.context_length - len(prompt.token_ids)
            decision = attempt.decision = within_window(step, decision, room)
            events = decode(engine, prompt, decision, attempt)
        parser = self.dialogue.parser(prompt, step)
        seen = attempt.counted(events)
        one = engine.info.masks_markers
        for event in seen if one else self.dialogue.one_thought(seen, step):
            yield from parser.feed(event)
        assert attempt.generation is not None
        if not one and whole is None:  # counted as it was read
            again = tuple(self.dialogue.one_thought(attempt.generation.events, step))
            attempt.generation = dataclasses.replace(attempt.generation, events=again)
        deltas, attempt.reply = parser.finish(attempt.generation)
        yield from deltas

    def _breaks_schema(self, step: Step, reply: Reply) -> str:
        """How a structured answer breaks its schema where the grammar could not hold it; "" if it does not."""
        wrong = self.dialogue.wrong_answer(step, reply) if self.policy.retries_schema_failures else ""
        return f"schema failure: {wrong}" if wrong else ""

    def _close(self, attempt: Attempt, error: BaseException | None = None) -> CallRecord:
        """Put the attempt on record and settle its budget."""
        record = attempt.record(error)
        if self.policy.budgeted:
            self.budgets.settle(self.policy, attempt.step, attempt.number, attempt.usage(record))
        if self.ledger is not None:
            try:
                self.ledger.record(record)
            except Exception as broken:  # a recorder of the user's own must not take the answer with it
                log.warning("a call could not be put on record: %s", type(broken).__name__, exc_info=True)
        return record


def _first_of_its_kind(delta: Delta, before: Sequence[_Again]) -> Delta:
    """The first piece of an attempt's reasoning or text, set apart from what the attempt before has streamed."""
    if not before or delta.kind not in before[-1].shown:
        return delta
    return dataclasses.replace(delta, text=("\n\n" if delta.kind == "reasoning" else "\n") + delta.text)


def _outcome(record: CallRecord | None, before: Sequence[_Again]) -> Outcome:
    assert record is not None
    assert record.reply is not None
    rejected = tuple(each.record for each in before if each.record is not None)
    return Outcome(reply=record.reply, record=record, rejected=rejected)


_unmeasured: set[str] = set()  # fingerprints of pairs that have been warned about


def _warn_unmeasured(info: EngineInfo, frontier: Frontier) -> None:
    """Say once per pair that λ is about to be chosen without a measured frontier."""
    if frontier.rows or info.fingerprint in _unmeasured or info.device == "none":
        return
    _unmeasured.add(info.fingerprint)
    log.warning("%s is %s", info.model, unmeasured("INSTRUCT", "THINKING"))


def _named(name: str, own: Mapping[str, Estimator]) -> Estimator:
    try:
        return estimator_named(name)
    except InvalidRequest as error:
        here = ", ".join(sorted(each for each in own if each))
        raise InvalidPolicy(
            f"a rule of the policy: {error.message}", hint=f"{error.hint}; this model's own: {here}"
        ) from error


def _carried_on(decision: Decision) -> Prompt | None:
    """The prompt of a probe begun at the same λ and template, and its tokens: it is carried on, not thrown away."""
    estimate = decision.estimate
    if estimate is None or estimate.probe is None or estimate.probe_prompt is None:
        return None
    probe, prompt = estimate.probe, estimate.probe_prompt
    same = decision.intensity == probe.intensity and decision.template == prompt.template
    return dataclasses.replace(prompt, reply_ids=probe.token_ids) if same else None


def _whole_probe(decision: Decision) -> Generation | None:
    """The estimator's probe, if it is a complete answer at the λ and template that were decided."""
    estimate = decision.estimate
    if estimate is None or estimate.probe is None or estimate.probe_prompt is None:
        return None
    probe, limit = estimate.probe, decision.limits.max_tokens
    same = decision.intensity == probe.intensity and decision.template == estimate.probe_prompt.template
    complete = probe.finish_reason == "stop" or (limit is not None and probe.output_tokens >= limit)
    return probe if same and complete else None
