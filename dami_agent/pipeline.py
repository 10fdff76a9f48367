"""Run one call from message to ledger: decide, render, generate, parse, record.

This module knows the order of things and nothing else: λ is the policy's, text is the dialogue's, tokens are the
engine's, rows are the ledger's.
"""

from __future__ import annotations

import dataclasses
import logging
import time
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
from dami_agent.judging import Judgement, elected_of, judge, reason_to_redraw, standing
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
        for item in self._run(step, cancellation, streamed=False):
            if isinstance(item, Outcome):
                return item
        raise AssertionError("a stream ends with its outcome or an error")

    def stream(self, step: Step, cancellation: Cancellation | None = None) -> Iterator[Delta | Outcome]:
        """Yield pieces of the reply as they are decoded, then the outcome, recorded.

        Closing the iterator early cancels the call; that is recorded too. What an attempt says that the policy may
        still reject is held back until it is accepted, so nothing is shown twice; the last attempt streams. Of an
        attempt that is only drawn anew if its tool call cannot be read, the calls are held back. All attempts share the
        step's timeout. Where it, a budget or the context window has no room for another attempt, the rejected one is
        what there is, unless some of the other's answer was shown, which cannot be taken back. Where several replies
        vote (``self_consistency``), nothing is shown before the vote is over, and the rows are written then.

        Raises:
            UsageError: bad input, before anything runs.
            RunError: the call was started and failed; recorded with what it had cost. ``CheckFailed`` where the user's
                own check of a reply failed.
        """
        yield from self._run(step, cancellation, streamed=True)

    def _run(self, step: Step, cancellation: Cancellation | None, *, streamed: bool) -> Iterator[Delta | Outcome]:
        """Make the attempts at a step; what one shows is seen by somebody only if the call is ``streamed``."""
        check_intensity(step.intensity_request.intensity, self.engine.info)
        if not step.run_context.call_id:
            run_context = dataclasses.replace(step.run_context, call_id=uuid.uuid4().hex)
            step = dataclasses.replace(step, run_context=run_context)
        cancellation = cancellation or Cancellation()
        tries: list[Rejected] = []
        begun = time.monotonic()
        try:
            for number in range(self.policy.attempts):  # one, unless something escalates or a plan asks for more
                with cancel_on_interrupt(cancellation.cancel):
                    verdict = yield from self._attempt(step, number, cancellation, tries, time.monotonic() - begun)
                    if isinstance(verdict, Accepted):
                        yield Outcome.of(verdict.record, tries)
                        return
                    failed = verdict if isinstance(verdict, Failed) else None
                    if isinstance(verdict, Rejected):
                        tries.append(verdict)
                    place = standing(self.policy, tries, failed)
                    if place is not None and not (streamed and failed is not None and failed.answered):
                        yield from self._let_stand(step, tries, place, failed)
                        return
                    if failed is not None:
                        try:
                            raise failed.error
                        finally:
                            del verdict, failed  # its traceback holds this frame
        finally:
            self._record_votes(tries)
        raise AssertionError("the policy rejects a reply only where another attempt is left")

    def _let_stand(
        self, step: Step, tries: list[Rejected], place: int, failed: Failed | None
    ) -> Iterator[Delta | Outcome]:
        """Show the reply of one of the attempts after all, and end the call with it."""
        last, others = tries[place], [*tries[:place], *tries[place + 1 :]]
        shown = tries[-1].shown if failed is None else failed.shown
        if failed is not None and failed.record.output_tokens:
            others.append(Rejected(record=failed.record, why=str(failed.error)))
        if last.vote is not None:
            last = tries[place] = elected_of(tries, place)
            record = last.record
            assert record.decision is not None
            assert record.generation is not None
            assert record.reply is not None
            try:
                refuse_silent_end(step, record.generation, record.reply, self.policy.cut_by_budget(record.decision))
            except RunError as error:
                tries[place] = dataclasses.replace(last, record=dataclasses.replace(record, error=str(error)))
                raise
        self._record_votes(tries)
        yield from DeltaGate(withhold_all=False, withhold_calls=False, shown_before=shown).admit(last.withheld)
        yield Outcome.of(last.record, others)

    def _record_votes(self, tries: list[Rejected]) -> None:
        """Put the attempts on record that were kept until the vote was over: which one is accepted is known now."""
        for each in tries:
            if each.vote is not None:
                self._write(each.record)
        tries.clear()

    def _attempt(
        self, step: Step, number: int, cancellation: Cancellation, tries: Sequence[Rejected], elapsed: float
    ) -> Generator[Delta, None, Verdict]:
        """Run one attempt, paid for and recorded whatever happens (a vote: when all are in), and return the verdict."""
        policy, last = self.policy, tries[-1] if tries else None
        engine = cancellable(self.engine, cancellation)
        attempt = Attempt(step=step, engine=engine, frontier=self._frontier, number=number)
        decision: Decision | None = None
        prompt: Prompt | None = None
        generation: Generation | None = None
        reply: Reply | None = None
        gate: DeltaGate | None = None
        judged: Judgement | None = None
        try:
            # Decide: λ, caps, template and the reason; the estimator runs only where its answer can matter.
            prompts = Prompts(self.dialogue, step, engine.info.context_length)
            decision = self._decide(attempt, prompts, last, elapsed)
            # Render: messages -> token ids; the estimator's probe may be the beginning of the reply, or all of it.
            prompts = prompts.without_tools() if decision.tools_disabled else prompts
            probe = reusable_probe(decision)
            prompt = probe.prompt if probe is not None else prompts.render(decision.template)
            if probe is None or not probe.complete:
                window = engine.info.context_length - len(prompt.token_ids)
                decision = within_window(prompts.step, decision, window)
            gate = DeltaGate(
                withhold_all=policy.may_retry(decision) or decision.plan == "self_consistency",
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
            judged = judge(policy, self.dialogue, engine, step, decision, prompt, generation, reply, last)
            decision, reply = judged.decision, judged.reply
            if not judged.why:
                refuse_silent_end(step, generation, reply, policy.cut_by_budget(decision))
                yield from gate.withheld
        except BaseException as error:  # GeneratorExit and KeyboardInterrupt too: what it cost must be on record
            again = self._retry_reason(error, step, number, decision, reply, gate)
            shown = frozenset(gate.shown if gate is not None else ())
            if not again:
                cancellation.cancel()
            record = attempt.record(decision=decision, prompt=prompt, generation=generation, reply=reply, error=error)
            self._keep(attempt, record)
            if again:
                late = isinstance(error, DeadlineExceeded)
                redraw = decision is not None and decision.plan == "self_consistency"
                return Rejected(record=record, why=again, shown=shown, final=late, redraw=redraw and not late)
            if not isinstance(error, Exception):
                raise
            return Failed(record=record, error=error, shown=shown, answered=gate is not None and gate.answered)
        # Record: before the answer is returned; a stream has shown most of it by now.
        record = attempt.record(decision=decision, prompt=prompt, generation=generation, reply=reply)
        if judged.vote is None:
            self._keep(attempt, record)
        else:
            self._settle(attempt, record)
        if judged.why:
            return Rejected(
                record=record,
                why=judged.why,
                withheld=tuple(gate.withheld),
                shown=frozenset(gate.shown),
                redraw=judged.redraw,
                vote=judged.vote,
            )
        return Accepted(record=record)

    def _decide(self, attempt: Attempt, prompts: Prompts, last: Rejected | None, elapsed: float) -> Decision:
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
            redraw=last is not None and last.redraw,
            elapsed=elapsed,
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
        if isinstance(error, OutputError) and reply is None:
            return "" if decision is None else reason_to_redraw(self.policy, error, decision)
        answered = gate is not None and gate.answered
        if isinstance(error, DeadlineExceeded) and not answered:
            late = self.budgets.stopped_by_budget(self.policy, step, number)
            return f"{type(error).__name__}: {error}" if late else ""
        return ""

    def _keep(self, attempt: Attempt, record: CallRecord) -> None:
        """Settle the attempt's budget and put it on record."""
        self._settle(attempt, record)
        self._write(record)

    def _settle(self, attempt: Attempt, record: CallRecord) -> None:
        """Charge the budget with what the attempt used."""
        if self.policy.reread_cost:
            self.budgets.note_history(self.policy, attempt.step, record)
        if self.policy.budgeted:
            self.budgets.settle(self.policy, attempt.step, attempt.number, attempt.usage(record))

    def _write(self, record: CallRecord) -> None:
        """Put an attempt on record."""
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
