"""Run one call from message to ledger: decide, render, generate, parse, record.

This module knows the order of things and nothing else: λ is the policy's, text is the dialogue's, tokens are the
engine's, rows are the ledger's.
"""

from __future__ import annotations

import dataclasses
import logging
import uuid
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from dami_agent.attempt import Attempt, refuse_silent_end, reusable_probe
from dami_agent.cancellation import Cancellation, cancellable
from dami_agent.checkpoints.pair import unmeasured
from dami_agent.errors import (
    DeadlineExceeded,
    InvalidIntensity,
    InvalidPolicy,
    InvalidRequest,
    OutputError,
    RunError,
)
from dami_agent.estimators import estimator_named
from dami_agent.interrupts import cancel_on_interrupt
from dami_agent.policy import BudgetTracker
from dami_agent.request_checks import check_intensity
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
    TokenEvent,
)
from dami_agent.verdict import Accepted, DeltaGate, Failed, Outcome, Rejected, Verdict
from dami_agent.window import Prompts, within_window

if TYPE_CHECKING:
    from dami_agent.dialogue import Delta, Dialogue
    from dami_agent.dialogue.parser import ReplyParser
    from dami_agent.policy import Frontier, ReasoningPolicy


__all__ = ["Cancellation", "Outcome", "Pipeline", "Recorder"]

log = logging.getLogger("dami_agent.pipeline")


class Recorder(Protocol):
    """What the pipeline needs of a ledger."""

    def record(self, record: CallRecord) -> None:
        """Keep one attempt; never raises because it cannot be written."""
        ...


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
        InvalidPolicy: a rule asks for an estimator that is neither here nor registered, or sets a λ per module that
            the engine cannot run.
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
        for origin, value in policy.intensities:
            _check_rule(origin, value, engine.info)
        own = {**(estimators or {}), "": estimator, estimator.name: estimator}
        self.estimators = {**own, **{name: _named(name, own) for name in policy.estimators - set(own)}}
        self._frontier = policy.frontier.fingerprint

    def run(self, step: Step, cancellation: Cancellation | None = None) -> Outcome:
        """Run a whole call at once; see :meth:`stream`."""
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
        check_intensity(step.intensity_request.intensity, self.engine.info)
        if not step.run_context.call_id:
            run_context = dataclasses.replace(step.run_context, call_id=uuid.uuid4().hex)
            step = dataclasses.replace(step, run_context=run_context)
        cancellation = cancellation or Cancellation()
        rejected: list[Rejected] = []
        for number in range(self.policy.attempts):  # one, unless something escalates
            with cancel_on_interrupt(cancellation.cancel):
                verdict = yield from self._attempt(step, number, cancellation, rejected)
                if isinstance(verdict, Rejected):
                    rejected.append(verdict)
                elif isinstance(verdict, Accepted):
                    yield Outcome.of(verdict.record, rejected)
                    return
                elif verdict.out_of_room and rejected and rejected[-1].record.reply is not None:
                    last = rejected.pop()
                    yield from last.withheld
                    yield Outcome.of(last.record, rejected)
                    return
                else:
                    try:
                        raise verdict.error
                    finally:
                        del verdict  # its traceback holds this frame
        raise AssertionError("the policy rejects a reply only where another attempt is left")

    def _attempt(
        self, step: Step, number: int, cancellation: Cancellation, rejected: Sequence[Rejected]
    ) -> Generator[Delta, None, Verdict]:
        """Run one attempt, recorded and paid for whatever happens, and return the verdict on it."""
        policy, last = self.policy, rejected[-1] if rejected else None
        engine = cancellable(self.engine, cancellation)
        attempt = Attempt(step=step, engine=engine, frontier=self._frontier, number=number)
        decision: Decision | None = None
        prompt: Prompt | None = None
        generation: Generation | None = None
        reply: Reply | None = None
        gate: DeltaGate | None = None
        try:
            # Decide: λ, caps, template and the reason; the estimator runs only where its answer can matter.
            prompts = Prompts(self.dialogue, step, engine.info.context_length)
            decision = self._decide(attempt, prompts, last)
            # Render: messages -> token ids; the estimator's probe may be the beginning of the reply, or all of it.
            prompts = prompts.without_tools() if decision.tools_disabled else prompts
            probe = reusable_probe(decision)
            prompt = probe.prompt if probe is not None else prompts.render(decision.template)
            if probe is None or not probe.complete:
                window = engine.info.context_length - len(prompt.token_ids)
                decision = within_window(prompts.step, decision, window)
            gate = DeltaGate(
                withhold_all=policy.may_retry(decision),
                withhold_calls=policy.may_redraw(decision),
                shown_before=last.shown if last is not None else (),
            )
            # Generate: token ids -> token ids, parsed and shown as they come.
            parser = self.dialogue.parser(prompt, prompts.step)
            whole = probe.generation if probe is not None and probe.complete else None
            events = attempt.replay(whole) if whole is not None else attempt.decode(prompt, decision)
            generation = yield from self._read(events, prompts.step, parser, gate)
            if whole is None and not engine.info.masks_markers:
                counted = tuple(self.dialogue.one_thought(generation.events, prompts.step))
                generation = dataclasses.replace(generation, events=counted)
            # Parse: reasoning, answer, tool calls.
            deltas, reply = parser.finish(generation)
            yield from gate.admit(deltas)
            # Judge: accept the reply, or say why another attempt follows.
            wrong = policy.rejects(step, reply) or self._breaks_schema(step, reply)
            if wrong:
                reply = dataclasses.replace(reply, accepted=False)
            why = (wrong if policy.may_retry(decision) else "") or policy.redraws(step, decision, reply)
            if not why:
                refuse_silent_end(step, generation, reply, policy.cut_by_budget(decision))
                yield from gate.withheld
        except BaseException as error:  # GeneratorExit and KeyboardInterrupt too: what it cost must be on record
            again = self._retry_reason(error, step, number, decision, reply, gate)
            if not again:
                cancellation.cancel()
            record = attempt.record(decision=decision, prompt=prompt, generation=generation, reply=reply, error=error)
            self._keep(attempt, record)
            if again:
                return Rejected(record=record, why=again, final=isinstance(error, DeadlineExceeded))
            if not isinstance(error, Exception):
                raise
            return Failed(record=record, error=error)
        # Record: before the answer is returned; a stream has shown most of it by now.
        record = attempt.record(decision=decision, prompt=prompt, generation=generation, reply=reply)
        self._keep(attempt, record)
        if why:
            return Rejected(record=record, why=why, withheld=tuple(gate.withheld), shown=frozenset(gate.shown))
        return Accepted(record=record)

    def _decide(self, attempt: Attempt, prompts: Prompts, last: Rejected | None) -> Decision:
        """Ask the policy for λ and the rest; λ=0 where only its prompt fits the context window."""
        engine, step = attempt.engine, attempt.step

        def estimate(base: Decision) -> Estimate:
            _warn_unmeasured(self.engine.info, self.policy.frontier)
            return prompts.estimate(self.estimators[base.estimator], base, engine)

        instruct = self.policy.frontier.template(Intensity(0))
        decision = self.policy.decide(
            step,
            attempt.number,
            estimate,
            last.record.decision if last is not None else None,
            "" if last is None else last.why,
            final=last is not None and last.final,
            budgets=self.budgets,
            context_left=prompts.room(instruct) if self.policy.budgeted else None,
            check=engine.cancellation.check,
        )
        return prompts.clip_to_context(decision, instruct)

    def _read(
        self, events: Generator[TokenEvent, None, Generation], step: Step, parser: ReplyParser, gate: DeltaGate
    ) -> Generator[Delta, None, Generation]:
        """Parse tokens as they come and yield what may be shown; return the generation."""
        generation: Generation | None = None

        def decoded() -> Iterator[TokenEvent]:
            nonlocal generation
            generation = yield from events

        masked = self.engine.info.masks_markers
        for event in decoded() if masked else self.dialogue.one_thought(decoded(), step):
            yield from gate.admit(parser.feed(event))
        assert generation is not None
        return generation

    def _retry_reason(
        self,
        error: BaseException,
        step: Step,
        number: int,
        decision: Decision | None,
        reply: Reply | None,
        gate: DeltaGate | None,
    ) -> str:
        """Return why another attempt follows one that failed; "" if none does.

        An attempt at a higher λ follows an unusable output, and one that answers immediately the end of a time budget.

        Args:
            error: what ended the attempt.
            step, number: the step, and the attempt's number from 0.
            decision, reply, gate: as far as the attempt came; None where it did not.
        """
        policy, text = self.policy, f"{type(error).__name__}: {error}" if isinstance(error, RunError) else ""
        if isinstance(error, OutputError) and reply is None and policy.retries_schema_failures:
            return text if decision is not None and policy.may_retry(decision) else ""
        answered = gate is not None and gate.answered
        if isinstance(error, DeadlineExceeded) and not answered:
            return text if self.budgets.stopped_by_budget(policy, step, number) else ""
        return ""

    def _breaks_schema(self, step: Step, reply: Reply) -> str:
        """Return how a structured answer breaks a schema that no grammar could hold; "" if it does not."""
        wrong = self.dialogue.wrong_answer(step, reply) if self.policy.retries_schema_failures else ""
        return f"schema failure: {wrong}" if wrong else ""

    def _keep(self, attempt: Attempt, record: CallRecord) -> None:
        """Settle the attempt's budget and put it on record."""
        if self.policy.reread_cost:
            self.budgets.note_history(self.policy, attempt.step, record)
        if self.policy.budgeted:
            self.budgets.settle(self.policy, attempt.step, attempt.number, attempt.usage(record))
        if self.ledger is not None:
            try:
                self.ledger.record(record)
            except Exception as broken:  # a recorder of the user's own must not take the answer with it
                log.warning("a call could not be put on record: %s", type(broken).__name__, exc_info=True)


_unmeasured: set[str] = set()  # fingerprints of pairs that have been warned about


def _warn_unmeasured(info: EngineInfo, frontier: Frontier) -> None:
    """Say once per pair that λ is about to be chosen without a measured frontier."""
    if frontier.rows or info.fingerprint in _unmeasured or info.device == "none":
        return
    _unmeasured.add(info.fingerprint)
    log.warning("%s is %s", info.model, unmeasured("INSTRUCT", "THINKING"))


def _check_rule(origin: str, intensity: float, info: EngineInfo) -> None:
    try:
        check_intensity(intensity, info)
    except InvalidIntensity as error:
        raise InvalidPolicy(f"{origin}: {error.message}", hint=error.hint) from error


def _named(name: str, own: Mapping[str, Estimator]) -> Estimator:
    try:
        return estimator_named(name)
    except InvalidRequest as error:
        here = ", ".join(sorted(each for each in own if each))
        raise InvalidPolicy(
            f"a rule of the policy: {error.message}", hint=f"{error.hint}; this model's own: {here}"
        ) from error
