"""Judge an attempt's reply: accept it, ask for another, or count its vote; and say which reply stands in the end.

The policy says what is wanted (:mod:`dami_agent.policy.plans`); this module knows how to find it out with the engine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dami_agent.answers import answer_of
from dami_agent.errors import DeadlineExceeded, OutputError
from dami_agent.estimators.reply_confidence import mean_logprob, reply_confidence, with_confidence
from dami_agent.policy.checkers import OWN_KINDS, passes
from dami_agent.policy.plans import SelfConsistency, Vote, closed, elected
from dami_agent.types import Decision, Engine, Generation, Prompt, Reply, Step
from dami_agent.verdict import Failed, Rejected

if TYPE_CHECKING:
    from dami_agent.dialogue import Dialogue
    from dami_agent.policy import ReasoningPolicy

__all__ = ["Judgement", "elected_of", "judge", "reason_to_redraw", "standing"]

_GREEDY = "greedy decoding draws the same reply twice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Says what becomes of a reply.

    Attributes:
        decision: with what was found out about the reply.
        reply: marked as not accepted where something is wrong with it.
        why: another attempt follows for this reason; "" for none.
        redraw: that attempt is to have the same λ.
        vote: what it votes for, where several replies are drawn; ``why`` is then for whoever draws the next.
    """

    decision: Decision
    reply: Reply
    why: str = ""
    redraw: bool = False
    vote: Vote | None = None


def judge(
    policy: ReasoningPolicy,
    dialogue: Dialogue,
    engine: Engine,
    step: Step,
    decision: Decision,
    prompt: Prompt,
    generation: Generation,
    reply: Reply,
    before: Rejected | None,
) -> Judgement:
    """Judge one reply.

    Args:
        policy: says what is rejected, and by which plan.
        dialogue: knows whether a structured answer breaks its schema.
        engine: reads the reply once more, where its confidence is calibrated.
        step, decision, prompt, generation, reply: the attempt.
        before: the attempt before it.

    Raises:
        CheckFailed: the user's own check could not tell.
        InvalidRequest: the engine gave no log-probabilities, and the reply is judged by them.
    """
    wrong = policy.rejects(step, reply) or _breaks_schema(policy, dialogue, step, reply)
    if decision.plan == "self_consistency" and policy.vote_plan is not None:
        reply = dataclasses.replace(reply, accepted=False)  # until it is elected
        return _vote(policy.vote_plan, engine, decision, prompt, generation, reply, wrong)
    redraw = False
    if not wrong and policy.checks(decision):
        decision, wrong, redraw = _check(policy, engine, step, decision, prompt, generation, reply, before)
    if wrong:
        reply = dataclasses.replace(reply, accepted=False)
    why = (wrong if policy.may_retry(decision) else "") or policy.redraws(step, decision, reply)
    return Judgement(decision=decision, reply=reply, why=why, redraw=redraw)


def _breaks_schema(policy: ReasoningPolicy, dialogue: Dialogue, step: Step, reply: Reply) -> str:
    """Say how a structured answer breaks a schema that no grammar could hold; "" if it does not."""
    wrong = dialogue.wrong_answer(step, reply) if policy.retries_schema_failures else ""
    return f"schema failure: {wrong}" if wrong else ""


def _check(
    policy: ReasoningPolicy,
    engine: Engine,
    step: Step,
    decision: Decision,
    prompt: Prompt,
    generation: Generation,
    reply: Reply,
    before: Rejected | None,
) -> tuple[Decision, str, bool]:
    """Check a reply of a cascade.

    Returns:
        The decision with what was found, what is wrong ("" if nothing is), and whether the same λ is to be drawn again.
    """
    cascade = policy.cascade_plan
    assert cascade is not None  # it was planned
    if cascade.check not in OWN_KINDS:
        return decision, "" if passes(cascade.check, step, reply) else "rejected by the cascade's check", False
    if cascade.check == "confidence":
        found = reply_confidence(engine, prompt, generation, cascade.measure)
        said = f"confidence {found.value:.2g}{' (calibrated)' if found.calibrated else ''}"
        decision = with_confidence(decision, found)
        if found.value < cascade.accept:
            return decision, f"{said} is below {cascade.accept:g}", False
        return _noted(decision, f"{said}, {cascade.accept:g} is enough"), "", False
    if answer_of(reply) is None or reply.finish_reason == "length":
        return decision, "it answers nothing, or is cut off", False
    if not decision.sample:
        greedy = generation.sampling.temperature == 0
        return decision, _GREEDY if greedy else "a second reply is compared with it", not greedy
    other = before.record.reply if before is not None else None
    if other is None or answer_of(other) != answer_of(reply):
        return decision, "two replies disagree", False
    return _noted(decision, "two replies agree"), "", False


def _vote(
    spec: SelfConsistency,
    engine: Engine,
    decision: Decision,
    prompt: Prompt,
    generation: Generation,
    reply: Reply,
    wrong: str,
) -> Judgement:
    """Count a reply's vote; the first one may stand alone. One that is cut off, or rejected, has none."""
    answer = None if wrong or reply.finish_reason == "length" else answer_of(reply)
    why, stands = wrong or ("" if answer is not None else "a reply without an answer"), False
    if not decision.attempt and answer is not None and spec.accept is not None:
        found = reply_confidence(engine, prompt, generation, spec.measure)
        said = f"confidence {found.value:.2g}{' (calibrated)' if found.calibrated else ''}"
        decision, stands = with_confidence(decision, found), found.value >= spec.accept
        why = f"{said} is below {spec.accept:g}"
        if stands:
            decision = _noted(decision, f"{said}, {spec.accept:g} is enough")
    if generation.sampling.temperature == 0:
        stands, why = True, _GREEDY
    vote = Vote(answer=answer, logprob=mean_logprob(generation), stands=stands)
    return Judgement(decision=decision, reply=reply, why=why or "no majority yet", redraw=True, vote=vote)


def _noted(decision: Decision, said: str) -> Decision:
    return dataclasses.replace(decision, reason=f"{decision.reason}; {said}")


def standing(policy: ReasoningPolicy, tries: Sequence[Rejected], failed: Failed | None) -> int | None:
    """Return the place of the attempt whose reply is the answer although none was accepted; None: it goes on, or fails.

    Args:
        policy: says when a vote is over.
        tries: the attempts so far, in order.
        failed: the latest one, where it failed: what there is has to do if no room or no time was left for it.
    """
    error = None if failed is None else failed.error
    late, room = isinstance(error, DeadlineExceeded), failed is None or not failed.out_of_room
    if policy.vote_plan is not None and any(each.vote is not None for each in tries):
        over = closed(policy.vote_plan, _votes(tries)) or tries[-1].final
        stopped = late or not room or isinstance(error, OutputError)
        return _elected(tries) if stopped or (error is None and over) else None
    if error is None:  # the last attempt's time has ended: one before may have a reply
        able = bool(tries) and tries[-1].final and _plan_of(tries, -2) == "cascade"
        tries = tries[:-1]
    else:
        able = late or not room
    return _latest(tries) if able else None


def _latest(tries: Sequence[Rejected]) -> int | None:
    """Return the place of the latest reply, one of a cascade's that is not cut off where there is any."""
    if not tries or tries[-1].record.reply is None:
        return None
    whole = [place for place, each in enumerate(tries) if _plan_of(tries, place - len(tries)) and _whole(each)]
    return whole[-1] if whole else len(tries) - 1


def _whole(attempt: Rejected) -> bool:
    reply = attempt.record.reply
    return reply is not None and reply.finish_reason != "length" and answer_of(reply) is not None


def reason_to_redraw(policy: ReasoningPolicy, error: OutputError, decision: Decision) -> str:
    """Say why another attempt follows an output that cannot be used; "" if none does.

    Args:
        policy: says whether one may.
        error: what is wrong with the output.
        decision: of the attempt.
    """
    text = f"{type(error).__name__}: {error}"
    if policy.vote_plan is not None and decision.plan == "self_consistency":
        return text if decision.attempt + 1 < policy.vote_plan.samples else ""
    return text if policy.retries_schema_failures and policy.may_retry(decision) else ""


def _votes(tries: Sequence[Rejected]) -> list[Vote]:
    return [each.vote or Vote(answer=None) for each in tries]  # a draw that failed has none


def _elected(tries: Sequence[Rejected]) -> int:
    able = [place for place, each in enumerate(tries) if each.vote is not None]
    return able[elected([vote for each in tries if (vote := each.vote) is not None])]


def _plan_of(tries: Sequence[Rejected], place: int) -> str:
    decision = tries[place].record.decision if len(tries) >= -place else None
    return "" if decision is None else decision.plan


def elected_of(tries: Sequence[Rejected], place: int) -> Rejected:
    """Return the attempt that a vote elected, its reply accepted if it answers, with how many votes it had."""
    winner, votes = tries[place], [each.vote for each in tries if each.vote is not None]
    record, vote = winner.record, winner.vote
    assert record.decision is not None
    assert record.reply is not None
    assert vote is not None
    decision = record.decision
    if len(votes) > 1:
        same = sum(each.answer == vote.answer for each in votes)
        said = f"{same} of {len(votes)} replies say so" if vote.answer else f"no answer in {len(votes)} replies"
        decision = _noted(decision, said)
    reply = dataclasses.replace(record.reply, accepted=vote.answer is not None)
    return dataclasses.replace(winner, record=dataclasses.replace(record, decision=decision, reply=reply))
